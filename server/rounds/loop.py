"""The round loop: who takes part, what is refused, what is kept, and where a cut run goes on.

A round is one message to each site and one back. The site scores the model that comes in before it trains it, so the
validation score of round r arrives with the updates of round r + 1, and costs no message of its own.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from flwr.app import ConfigRecord, Message
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fedbus.errors import RunError
from fedbus.evaluation.validation import record, total
from fedbus.models.batch_norm import pool_statistics, still_names
from fedbus.models.state import State
from fedbus.runs.checkpoint import ArmFolder, Checkpoint
from fedbus.settings.schema import Settings
from fedbus.training.missing_classes.registry import predictable
from fedbus.transport.messages import CONFIG, ROUND, Instruction, Report
from fedbus.transport.packing import layout_of
from fedbus.transport.shared_memory import SharedArrays
from fedbus.transport.weights import WeightCodec
from server.rounds.classifier import average_by_class, head_names
from server.rounds.flower_messages import evaluation, for_strategy, record_of, state_of, to_send
from server.rounds.messaging import Replies, Roster, nodes_named, part_of
from server.rounds.registration import OnWait, exchange_with_quorum, wait_for_nodes
from server.rounds.screening import Screened, screen_scores, screen_updates
from server.rounds.strategies import SERVER_OPTIMISERS, average_statistics, make_strategy, recall, remember


@dataclass(frozen=True)
class Job:
    """One federated training.

    Attributes:
        settings: the settings.
        arm: the strategy's name.
        seed: the training seed.
        start: the weights that every arm starts from.
        folder: where checkpoints and weights go.
        title: names the folder in which a deployed site keeps the final model.
        run: as `Instruction.run`.
        on_round: told of every finished round's history line.
        on_wait: told what the run waits for.
        stop: set to end the run as Ctrl-C would.
        shared_arrays: where models lie that messages only name; None: messages hold them.
    """

    settings: Settings
    arm: str
    seed: int
    start: State
    folder: ArmFolder
    title: str = "run"
    run: str = ""
    on_round: Callable[[dict[str, Any]], object] = lambda line: None
    on_wait: OnWait = lambda words: None
    stop: threading.Event = field(default_factory=threading.Event)
    shared_arrays: SharedArrays | None = None


def run_rounds(grid: Grid, roster: Roster, job: Job) -> None:
    """Run a federated training from its start or its checkpoint to its end.

    Leaves best and final weights, the history with participants and refusals, and the kept model's test scores of
    each site in the job's folder.

    Raises:
        RunError: a round had fewer usable updates than the quorum; the checkpoint of the round before is kept.
    """
    _Rounds(grid, roster, job).run()


class _Rounds:
    def __init__(self, grid: Grid, roster: Roster, job: Job) -> None:
        self.grid, self.roster, self.job, self.settings = grid, roster, job, job.settings
        self.quorum = self.settings.quorum or len(roster.registrations)
        self.strategy: Strategy = make_strategy(job.arm, self.settings)
        self.head = head_names(self.settings.model) if self.settings.head == "by-class" else ()
        self.instruction = Instruction(self.settings, job.seed, roster.classes, title=job.title, run=job.run)
        self.codec = WeightCodec(self.settings.payload, layout_of(job.start), job.shared_arrays)
        self.at = job.folder.load() or Checkpoint(0, job.start)
        recall(self.strategy, self.at.extra)

    def run(self) -> None:
        for line in self.at.history:
            self.job.on_round(line)
        for number in range(self.at.round + 1, self.settings.rounds + 1):
            self._round(number)
        final = self._evaluate(self.at.state, self.at.round, "validation")
        self._score_incoming(final)
        self.job.folder.save(self.at)
        self.job.folder.save_weights("final", self.at.state, round=self.settings.rounds)
        if self.at.best_round is None:  # no round was scored by all sites: the last has had the most training
            self.at.best_round = self.at.round
            self.job.folder.save_weights("best", self.at.state, round=self.at.round)
        test = self._evaluate(self.job.folder.load_weights("best"), self.at.best_round, "test")
        self.job.folder.finish(
            {
                "steps": sum(line["steps"] for line in self.at.history),
                "best_round": self.at.best_round,
                "seconds": sum(line["seconds"] for line in self.at.history),
                "classes": predictable(list(self.instruction.classes), self.settings),
                "rounds": [{k: line[k] for k in ("round", "participants", "refused")} for line in self.at.history],
                "test": record({site: report.score for site, report in test.items()}),
                "site_scores": {site: report.test.to_metrics() for site, report in test.items() if report.test},
            }
        )

    def _round(self, number: int) -> None:
        self._wait()
        started, limit = time.monotonic(), self.settings.round_timeout
        config = ConfigRecord(self.instruction.to_config())
        wanted = list(self.strategy.configure_train(number, record_of(self.at.state), config, self.grid))
        replies = self._exchange(
            lambda answered: to_send(wanted, self.at.state, self.roster, self.codec, limit, answered)
        )
        screened = screen_updates(replies, self.roster, self.settings, self.at.state, self.codec)
        self.codec.release()
        reports = screened.reports
        if len(reports) < self.quorum:
            raise RunError(
                f"{self.job.arm}, round {number}: {len(reports)} of {self.quorum} sites gave a usable update "
                f"({screened.why}).",
                "Mend the sites named, then go on with --resume; the rounds before are kept.",
            )
        self._score_incoming(reports)
        weights = [reports[site].weight for site in reports]
        self.at.state = self._aggregate(number, replies, screened)
        self.at.round, self.at.extra = number, remember(self.strategy)
        self.at.history.append(
            {
                "round": number,
                "train_loss": sum(r.loss * w for r, w in zip(reports.values(), weights, strict=True)) / sum(weights),
                "steps": sum(report.steps for report in reports.values()),
                "seconds": time.monotonic() - started,
                "site_seconds": {site: report.seconds for site, report in reports.items()},
                "participants": list(reports),
                "refused": dict(screened.refused),
            }
        )
        self.job.folder.save(self.at)
        self.job.on_round(self.at.history[-1])

    def _aggregate(self, number: int, replies: Replies, screened: Screened) -> State:
        """The strategy's model of the usable updates, with what the study's policies put in its place."""
        before, updates = self.at.state, screened.updates
        weights = {site: report.weight for site, report in screened.reports.items()}
        usable = [for_strategy(replies.content[site], updates[site]) for site in weights]
        arrays, _ = self.strategy.aggregate_train(number, usable)
        if arrays is None:
            raise RunError(
                f"{self.job.arm}, round {number}: Flower's strategy makes no model of {len(weights)} updates.",
                "It needs more sites (Bulyan at least 3); name another arm.",
            )
        state = state_of(arrays)
        if self.settings.batch_norm == "pooled":
            state |= pool_statistics(list(updates.values()), list(weights.values()))
        elif still := still_names(self.settings.batch_norm, before):  # it comes back as it went, and a mean may round
            state |= {name: before[name] for name in still}
        elif self.job.arm in SERVER_OPTIMISERS:
            state |= average_statistics(list(updates.values()), list(weights.values()))
        if self.head:
            classes = {site: self.roster.registration(site).classes for site in weights}
            state |= average_by_class(self.head, before, updates, weights, classes)
        return state

    def _score_incoming(self, reports: Mapping[str, Report]) -> None:
        """Add the score of the model that the sites were sent to the round that made it, and keep it if it is best."""
        if self.at.round == 0:
            return
        scores = {site: report.score for site, report in reports.items()}
        self.at.history[-1] |= record(scores)
        if scores.keys() != set(self.roster.names):
            return  # fewer sites' rows can't be compared with the other rounds
        rank = total(scores.values()).rank
        if rank > self.at.best_rank:
            self.at.best_round, self.at.best_rank = self.at.round, rank
            self.job.folder.save_weights("best", self.at.state, round=self.at.round)

    def _evaluate(self, state: State, round_number: int, split: str) -> dict[str, Report]:
        self._wait()
        instruction = replace(self.instruction, split=split, round=round_number)
        limit = self.settings.round_timeout

        def ask(answered: Collection[str]) -> list[Message]:
            names = [name for name in self.roster.names if name not in answered]
            messages = evaluation(instruction, state, nodes_named(self.roster, names), self.codec, limit)
            for message in messages:
                cast(ConfigRecord, part_of(message, CONFIG))[ROUND] = instruction.round
            return messages

        replies = self._exchange(ask)
        self.codec.release()
        screened = screen_scores(replies, self.roster, split)
        if len(screened.reports) < self.quorum:
            raise RunError(
                f"{self.job.arm}: too few sites could evaluate the model ({screened.why}).",
                "Mend the sites named, then go on with --resume.",
            )
        return dict(screened.reports)

    def _exchange(self, make: Callable[[Collection[str]], list[Message]]) -> Replies:
        job, limit = self.job, self.settings.round_timeout
        return exchange_with_quorum(self.grid, make, self.roster, self.quorum, limit, job.stop, job.on_wait)

    def _wait(self) -> None:
        """Wait for the sites: those that are away may come back in time, and the quorum is enough if they don't."""
        limit = self.settings.round_timeout
        wait_for_nodes(self.grid, self.quorum, self.quorum, self.roster, limit, self.job.stop, self.job.on_wait)
