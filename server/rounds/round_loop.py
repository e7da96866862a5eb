"""The round loop of a federated training, which can be resumed after every round.

A round is one message to each site and one reply. A site scores the model that it receives before it trains it, so
the validation scores of round r arrive with the updates of round r + 1 and cost no messages of their own.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from flwr.app import ConfigRecord, Message
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fedbus.errors import RunError
from fedbus.evaluation.binned_counts import add_counts
from fedbus.evaluation.calibration import Calibration
from fedbus.evaluation.kept import keep_best, kept_round, load_kept, save_last
from fedbus.evaluation.temperature import fit_temperature
from fedbus.evaluation.validation import record
from fedbus.models.state import State, state_digest
from fedbus.privacy.plan import epsilon_facts
from fedbus.runs.checkpoint import Checkpoint
from fedbus.runs.history import round_line
from fedbus.training.federation import add_steps
from fedbus.training.missing_classes.registry import predictable
from fedbus.transport.array_bytes import most_bytes
from fedbus.transport.half_precision import as_received
from fedbus.transport.messages import BINS, LIKELIHOODS, Instruction
from fedbus.transport.packing import layout_of
from fedbus.transport.report import Report
from fedbus.transport.weights import WeightCodec
from server.rounds.classifier import classifier_arrays
from server.rounds.flower_messages import (
    evaluation_messages,
    from_array_record,
    strategy_reply,
    to_array_record,
    training_messages,
)
from server.rounds.job import Job
from server.rounds.messaging import Participants, Replies
from server.rounds.policies import apply_policies
from server.rounds.registration import send_until_quorum, wait_for_nodes
from server.rounds.robust import check_robust, set_parameters
from server.rounds.screening import Screened, screen_scores, screen_updates
from server.rounds.strategies import NEEDS_COPIES, make_strategy, restore_strategy, strategy_state


class RoundLoop:
    """The state of one federated training between its rounds."""

    def __init__(self, grid: Grid, participants: Participants, job: Job) -> None:
        self.grid, self.participants, self.job, self.settings = grid, participants, job, job.settings
        self.quorum = self.settings.quorum or len(participants.registrations)
        check_robust(job.arm, self.settings, self.quorum)
        self.strategy: Strategy = make_strategy(job.arm, self.settings)
        self.by_class = classifier_arrays(self.settings.model) if self.settings.head == "by-class" else ()
        self.instruction = Instruction(
            self.settings, job.seed, participants.classes, title=job.title, run=job.run, arm=job.arm,
            federation=participants.federation(self.settings), sites=job.sites,
        )  # fmt: skip
        self.codec = WeightCodec(self.settings.payload, layout_of(job.start), job.shared_arrays)
        self.sent_models: dict[str, str] = {}  # the digest of the model that each site last evaluated
        self.checkpoint = job.folder.load() or Checkpoint(0, job.start)
        restore_strategy(self.strategy, self.checkpoint.extra)

    def run(self) -> None:
        """Run the remaining rounds, score the last model, and test the best one."""
        checkpoint, folder = self.checkpoint, self.job.folder
        for line in checkpoint.history:
            self.job.on_round(line)
        for number in range(checkpoint.round + 1, self.settings.rounds + 1):
            self._run_round(number)
        self._validate_last()
        save_last(checkpoint, folder)
        folder.save(checkpoint)
        kept = kept_round(self.settings, checkpoint.best_round or checkpoint.round)
        tested = load_kept(folder, self.settings)
        calibration = self._calibrate(tested, kept) if self.participants.approved else None
        folder.finish(
            {
                "steps": sum(line["steps"] for line in checkpoint.history),
                "best_round": checkpoint.best_round,
                "seconds": sum(line["seconds"] for line in checkpoint.history),
                "classes": predictable(list(self.instruction.classes), self.settings),
                "rounds": [{k: line[k] for k in ("round", "participants", "refused")} for line in checkpoint.history],
                **epsilon_facts(checkpoint.history),
                **({"calibration": calibration.model_dump()} if calibration else {}),
                **self._test(tested, kept, calibration),
            }
        )

    def _validate_last(self) -> None:
        """Score the model of the last round."""
        self._record_validation(self._evaluate(self.checkpoint.state, round=self.checkpoint.round))

    def _test(self, state: State, number: int, calibration: Calibration | None) -> dict[str, Any]:
        """Test the model of a round, and return what is recorded of it."""
        test = self._evaluate(state, split="test", round=number, calibration=calibration)
        scores = {site: report.test.to_metrics() for site, report in test.items() if report.test}
        calibrations = {site: report.calibrated.to_metrics() for site, report in test.items() if report.calibrated}
        return {
            "test": record({site: report.score for site, report in test.items()}),
            "site_scores": scores,
            **({"site_calibrations": calibrations} if calibration else {}),
        }

    def _run_round(self, number: int) -> None:
        checkpoint = self.checkpoint
        self._wait_for_sites()
        started, timeout = time.monotonic(), self.settings.round_timeout
        config = ConfigRecord(self.instruction.to_config())
        arrays = to_array_record(checkpoint.state)
        planned = list(self.strategy.configure_train(number, arrays, config, self.grid))
        replies = self._send(
            lambda excluded: training_messages(
                planned, checkpoint.state, self.participants, self.codec, timeout, excluded
            ),
            most_bytes(self.codec.layout),
        )
        screened = screen_updates(replies, self.participants, self.settings, checkpoint.state, self.codec)
        self.codec.release()
        reports = screened.reports
        if len(reports) < self.quorum:
            raise RunError(
                f"{self.job.arm}, round {number}: {len(reports)} of {self.quorum} sites sent a usable update "
                f"({screened.reasons}).",
                "Fix the listed sites, then rerun with --resume; finished rounds are kept.",
            )
        with ThreadPoolExecutor(1) as beside:  # the best weights are written while the updates are averaged
            recorded = beside.submit(self._record_validation, reports)
            averaged = self._aggregate(number, replies, screened)
        recorded.result()
        weights = [report.weight for report in reports.values()]
        checkpoint.state = averaged
        checkpoint.round, checkpoint.extra = number, strategy_state(self.strategy)
        checkpoint.history.append(
            round_line(
                number,
                loss=sum(r.loss * w for r, w in zip(reports.values(), weights, strict=True)) / sum(weights),
                private=bool(self.settings.dp_epsilon),
                steps=add_steps((report.steps for report in reports.values()), self.settings.batches),
                seconds=time.monotonic() - started,
                site_seconds={site: report.seconds for site, report in reports.items()},
                participants=reports,
                refused=screened.refused,
                epsilon={site: report.epsilon for site, report in reports.items()},
            )
        )
        self.job.folder.save(checkpoint)
        self.job.on_round(checkpoint.history[-1])

    def _aggregate(self, number: int, replies: Replies, screened: Screened) -> State:
        """Return the strategy's model of the usable updates, with the policies of the settings applied."""
        before, updates = self.checkpoint.state, screened.updates
        weights = {site: report.weight for site, report in screened.reports.items()}
        copied = self.job.arm in NEEDS_COPIES
        usable = [
            strategy_reply(replies.messages[site], updates[site], screened.reports[site], copied) for site in weights
        ]
        set_parameters(self.strategy, self.job.arm, self.settings, len(usable))
        arrays, _ = self.strategy.aggregate_train(number, usable)
        if arrays is None:
            raise RunError(
                f"{self.job.arm}, round {number}: Flower's strategy can't aggregate {len(weights)} updates.",
                "It needs more sites; choose another arm.",
            )
        classes = {site: self.participants.registration(site).classes for site in weights}
        return apply_policies(
            from_array_record(arrays), before, updates, weights, self.settings,
            arm=self.job.arm, classes=classes, classifier=self.by_class,
        )  # fmt: skip

    def _record_validation(self, reports: Mapping[str, Report]) -> None:
        """Add the scores of the model that the sites received to the history of its round; save the best model."""
        checkpoint = self.checkpoint
        if checkpoint.round == 0:
            return
        scores = {site: report.score for site, report in reports.items()}
        checkpoint.history[-1] |= record(scores)
        if scores.keys() != set(self.participants.names):
            return  # scores of fewer sites can't be compared with those of the other rounds
        keep_best(checkpoint, scores.values(), self.job.folder)

    def _calibrate(self, state: State, number: int) -> Calibration:
        """Fit temperature and threshold of a deployed model to sums of the sites' validation rows.

        In a simulation, `simulations.calibration` does the same with the predictions.
        """
        reports = self._evaluate(state, round=number, collect=LIKELIHOODS)
        temperature = fit_temperature([r.likelihoods for r in reports.values() if r.likelihoods is not None])
        reports = self._evaluate(state, round=number, collect=BINS, temperature=temperature)
        counts = add_counts(report.bins for report in reports.values() if report.bins)
        return Calibration.from_counts(temperature, counts, self.settings.threshold)

    def _evaluate(self, state: State, **changes: Any) -> dict[str, Report]:
        """Have every site score a model; `changes` are fields of the instruction.

        A deployed site that has just evaluated this model does not receive it again, unless it has been restarted.
        """
        self._wait_for_sites()
        deployed = bool(self.participants.approved)
        model = state_digest(as_received(state, self.settings.payload)) if deployed else ""
        instruction, names = replace(self.instruction, model=model, **changes), self.participants.names
        replies = self._send(lambda excluded: self._evaluation_messages(instruction, state, names, excluded))
        if missing := replies.without_model:
            for site in missing:
                self.sent_models.pop(site, None)  # a site may claim it of a message that had the model
            retried = self._send(
                lambda excluded: self._evaluation_messages(instruction, state, missing, excluded),
                quorum=self.quorum - len(replies.messages),
            )
            replies = replies.updated(retried, missing)
        self.sent_models |= dict.fromkeys(replies.messages, model)
        self.codec.release()
        screened = screen_scores(replies, self.participants, instruction)
        if len(screened.reports) < self.quorum:
            raise RunError(
                f"{self.job.arm}: too few sites could evaluate the model ({screened.reasons}).",
                "Fix the listed sites, then rerun with --resume.",
            )
        return dict(screened.reports)

    def _evaluation_messages(
        self, instruction: Instruction, state: State, names: Sequence[str], excluded: Collection[str]
    ) -> list[Message]:
        asked, sent, model = [name for name in names if name not in excluded], self.sent_models, instruction.model
        informed = [name for name in asked if model and sent.get(name) == model]
        return evaluation_messages(
            instruction, state, self.participants.nodes(asked), self.codec, self.settings.round_timeout,
            informed=self.participants.nodes(informed),
        )  # fmt: skip

    def _send(
        self,
        make_messages: Callable[[Collection[str]], list[Message]],
        array_bytes: int = 0,
        quorum: int | None = None,
    ) -> Replies:
        job, timeout, fewest = self.job, self.settings.round_timeout, self.quorum if quorum is None else quorum
        return send_until_quorum(
            self.grid, make_messages, self.participants, fewest, timeout, job.stop, job.on_wait, array_bytes
        )

    def _wait_for_sites(self) -> None:
        """Wait until the quorum is connected."""
        timeout, job = self.settings.round_timeout, self.job
        wait_for_nodes(self.grid, self.quorum, self.quorum, self.participants, timeout, job.stop, job.on_wait)
