"""The round loop under secure aggregation: every figure of the sites is a sum, and the strategy sees one mean."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray

from fedbus.deployment.roster import read_roster
from fedbus.errors import RunError
from fedbus.evaluation.calibration import Calibration
from fedbus.evaluation.kept import keep_if_best
from fedbus.evaluation.temperature import fit_temperature
from fedbus.evaluation.totals import read_totals
from fedbus.models.state import State
from fedbus.runs.history import round_line
from fedbus.secure_aggregation.numbers import SHARE_BITS, decode_numbers
from fedbus.secure_aggregation.terms import TRAIN, fewest_of
from fedbus.settings.privacy_rules import check_secure_sites
from fedbus.transport.half_precision import as_received, rebase
from fedbus.transport.messages import BINS, LIKELIHOODS, ROUND
from fedbus.transport.read_values import LIKELIHOOD_SUMS
from fedbus.transport.report import Report
from fedbus.transport.summed_report import TEST, evaluation_format, purpose_of, read_bins
from fedbus.transport.summed_score import TotalScore, impossible_sum, read_score
from fedbus.transport.summed_update import SHARE, Trained, UpdateSum
from fedbus.transport.update_check import check_update
from server.rounds.evaluation_sums import EvaluationSums
from server.rounds.flower_messages import from_array_record, strategy_reply, to_array_record
from server.rounds.job import Job
from server.rounds.messaging import Participants, read_config
from server.rounds.policies import apply_policies
from server.rounds.round_loop import RoundLoop
from server.rounds.secure_request import Channel, Request, Summed
from server.rounds.secure_sum import SecureSums
from server.rounds.shares import most_weight
from server.rounds.strategies import strategy_state

Numbers = Mapping[str, NDArray[Any]]


class SecureRoundLoop(RoundLoop):
    """The state of one federated training whose sites add up all that they report."""

    def __init__(self, grid: Grid, participants: Participants, job: Job) -> None:
        super().__init__(grid, participants, job)
        sites = len(read_roster(job.sites))
        check_secure_sites(self.settings.privacy, sites)
        job.on_wait(describe_losses(sites, self.quorum))
        self.kept_sums = EvaluationSums(job.folder)
        timeout = self.settings.round_timeout
        channel = Channel(grid, participants, self.codec, timeout, job.stop, job.on_wait)
        self.sums = SecureSums(channel, self.quorum)
        registrations = participants.registrations.values()
        federation = participants.federation(self.settings)
        self.weights = {each.site: most_weight(each, self.settings, federation) for each in registrations}

    def _run_round(self, number: int) -> None:
        checkpoint, started = self.checkpoint, time.monotonic()
        self._wait_for_sites()
        before = as_received(checkpoint.state, self.settings.payload)
        encoded = UpdateSum(before, self.settings.batch_norm, self.settings.update_range)
        config = self._training_config(number)
        instruction = replace(self.instruction, round=number)
        request = Request(TRAIN, instruction, config, before, encoded.format, sum(self.weights.values()))
        summed = self._sum(request, f"round {number}")
        mean, numbers = encoded.decode(summed.total, len(summed.sites), self.settings.batches)
        self._check_share(float(numbers[SHARE][0]), summed.sites)
        self._check_mean(number, mean.state, before, summed.sites)
        self._record_sum(self._read_score(numbers, summed.sites, "validation"))
        state = rebase(mean.state, before, checkpoint.state, self.settings.payload)
        checkpoint.state = self._step(number, replace(mean, state=state))
        checkpoint.round, checkpoint.extra = number, strategy_state(self.strategy)
        checkpoint.history.append(
            round_line(
                number,
                loss=mean.loss,
                private=bool(self.settings.dp_epsilon),
                steps=mean.steps,
                seconds=time.monotonic() - started,
                site_seconds={},
                participants=summed.sites,
                refused=summed.refused,
                epsilon=summed.epsilon,
            )
        )
        self.job.folder.save(checkpoint)
        self.job.on_round(checkpoint.history[-1])

    def _training_config(self, number: int) -> dict[str, Any]:
        """Return the instruction of a round with what the strategy adds to it, such as FedProx's mu."""
        config, arrays = ConfigRecord(self.instruction.to_config()), to_array_record(self.checkpoint.state)
        return read_config(next(iter(self.strategy.configure_train(number, arrays, config, self.grid))))

    def _step(self, number: int, mean: Trained) -> State:
        """Return the strategy's model: its only reply is the mean, as if one site had all rows."""
        reply = Message(RecordDict(), 1, MessageType.TRAIN)
        only = strategy_reply(reply, mean.state, Report(1.0, mean.score, mean.loss, mean.steps))
        arrays, _ = self.strategy.aggregate_train(number, [only])
        if arrays is None:
            raise RunError(
                f"{self.job.arm}, round {number}: Flower's strategy can't use the mean of the updates.",
                "Choose another arm.",
            )
        return apply_policies(
            from_array_record(arrays), self.checkpoint.state, {"mean": mean.state}, {"mean": 1.0}, self.settings,
            arm=self.job.arm, classes={}, classifier=(),
        )  # fmt: skip

    def _validate_last(self) -> None:
        self._record_sum(self._evaluate_sum(self.checkpoint.state, round=self.checkpoint.round)[0])

    def _calibrate(self, state: State, number: int) -> Calibration:
        _, numbers = self._evaluate_sum(state, round=number, collect=LIKELIHOODS)
        temperature = fit_temperature([numbers[LIKELIHOOD_SUMS]])
        total, numbers = self._evaluate_sum(state, round=number, collect=BINS, temperature=temperature)
        counts = read_bins(numbers, int(total.score.confusion.sum()))
        return Calibration.from_counts(temperature, counts, self.settings.threshold)

    def _test(self, state: State, number: int, calibration: Calibration | None) -> dict[str, Any]:
        total, numbers = self._evaluate_sum(state, split="test", round=number, calibration=calibration)
        return {
            "test": total.record(),
            "site_scores": {},
            **({"site_calibrations": {}} if calibration else {}),
            **({"totals": read_totals(numbers[TEST], total.sites)} if TEST in numbers else {}),
        }

    def _evaluate_sum(self, state: State, **changes: Any) -> tuple[TotalScore, Numbers]:
        """Have the sites score a model and add up the figures; `changes` are fields of the instruction."""
        instruction = replace(self.instruction, **changes)
        wanted = evaluation_format(instruction, deployed=bool(self.participants.approved))
        purpose = purpose_of(instruction)
        found = self.kept_sums.find(purpose, instruction.round)
        if found is None:
            self._wait_for_sites()
            config = instruction.to_config() | {ROUND: instruction.round}
            request = Request(purpose, instruction, config, as_received(state, self.settings.payload), wanted)
            summed = self._sum(request, f"the evaluation ({purpose})")
            self.kept_sums.keep(purpose, instruction.round, summed.total[1], summed.sites)
            found = summed.total[1], summed.sites
        numbers = decode_numbers(found[0], wanted.numbers)
        return self._read_score(numbers, found[1], instruction.split), numbers

    def _sum(self, request: Request, what: str) -> Summed:
        try:
            return self.sums.run(request)
        except RunError as error:
            raise RunError(f"{self.job.arm}, {what}: {error.problem}", error.remedy) from error

    def _read_score(self, numbers: Numbers, sites: Sequence[str], split: str) -> TotalScore:
        rows = np.sum([self.participants.registration(site).splits[split] for site in sites], axis=0)
        return read_score(numbers, sites, rows)

    def _record_sum(self, total: TotalScore) -> None:
        """Add the score of the model that the sites received to the history of its round; save the best model."""
        checkpoint = self.checkpoint
        if checkpoint.round == 0:
            return
        checkpoint.history[-1] |= total.record()
        if list(total.sites) == self.participants.names:  # of fewer sites it can't be compared with other rounds
            keep_if_best(checkpoint, total.loss, self.job.folder)

    def _check_share(self, share: float, sites: Sequence[str]) -> None:
        """Check that sites do not claim more weight together than their registrations allow.

        Raises:
            RunError: If they do.
        """
        allowed = sum(self.weights[site] for site in sites) / sum(self.weights.values())
        if share > allowed + len(sites) * 2.0**-SHARE_BITS:
            raise impossible_sum(
                f"The shares of {', '.join(sites)} add up to {share:g}, more than the {allowed:g} of their "
                "registrations"
            )

    def _check_mean(self, number: int, mean: State, before: State, sites: Sequence[str]) -> None:
        """Check the mean as each site has checked its update: a mean of such updates moves no further than they do.

        Raises:
            RunError: If it moves further, which one site can cause by a wrong share or values of its own choice.
        """
        reason = check_update(mean, before, self.settings.update_limit)
        if reason:
            raise impossible_sum(
                f"{self.job.arm}, round {number}: the mean of the updates of {', '.join(sites)} can't be used: {reason}"
            )


def describe_losses(sites: int, quorum: int) -> str:
    """Describe how many sites a round can lose.

    Args:
        sites: The number of sites of the run.
        quorum: How many a round needs by the settings.
    """
    needed = max(quorum, fewest_of(sites))
    lost = sites - needed
    what = "it cannot lose one" if lost <= 0 else f"it can lose {lost}, and continues with the others' exact mean"
    return f"secure aggregation with {sites} sites: a round needs {needed}, so {what}"
