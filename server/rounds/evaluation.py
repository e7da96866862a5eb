"""Have sites test one given model: one message to each that is connected, and one reply."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import Message
from flwr.serverapp import Grid
from numpy.typing import NDArray

from fedbus.errors import RunError
from fedbus.models.state import State
from fedbus.transport.messages import Instruction, Registration
from fedbus.transport.packing import layout_of
from fedbus.transport.report import Report
from fedbus.transport.weights import WeightCodec
from server.rounds.exchange import Exchange
from server.rounds.flower_messages import evaluation_messages
from server.rounds.messaging import Participants, send_and_receive
from server.rounds.registration import OnWait, register_sites, wait_for_nodes
from server.rounds.screening import screen_scores

CONNECT_SECONDS = 30.0
"""How long to wait for approved sites that are not connected; a site that has joined connects within seconds."""


@dataclass(frozen=True)
class GivenModel:
    """A model to test.

    Attributes:
        instruction: What the sites are told about it; its task is an evaluation, its split `test`.
        state: The model.
        seen: uint8 [N, 32], hashes of the images that it was trained or chosen on; None if they are not known.
    """

    instruction: Instruction
    state: State
    seen: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Answers:
    """What came back, by site.

    Attributes:
        reports: The reports, each with test scores.
        registrations: What these sites reported about their data.
        failures: Why a site's answer is missing.
    """

    reports: dict[str, Report]
    registrations: dict[str, Registration]
    failures: dict[str, str]


def ask_sites(
    grid: Grid,
    sites: Mapping[int, str],
    given: GivenModel,
    stop: threading.Event,
    on_wait: OnWait,
    exchange: Exchange | None = None,
) -> Answers:
    """Have every connected site test a model on its test rows.

    Args:
        grid: Flower's grid.
        sites: The names of the sites to ask, by node.
        given: The model.
        stop: Set it to end early.
        on_wait: Called with a description of what the evaluation waits for.
        exchange: Where the arrays of messages are; None in a simulation.

    Raises:
        RunError: If no site is connected, or none can register.
        SettingsError: If what a site prepared does not match the settings.
        KeyboardInterrupt: If `stop` was set.
    """
    settings = given.instruction.settings
    nodes = wait_for_nodes(grid, len(sites), 1, Participants(approved=sites), CONNECT_SECONDS, stop, on_wait)
    connected = {node: sites[node] for node in nodes}
    failures = {name: "not connected" for node, name in sites.items() if node not in connected}
    participants = register_sites(
        grid, connected, given.instruction, 1, settings.round_timeout, stop, on_wait, exchange
    )
    on_wait(f"{', '.join(participants.names)} test the model")
    reports = _test(grid, participants, given, stop)
    failures |= participants.failures | reports.failures
    return Answers(
        reports.reports,
        {name: participants.registration(name) for name in reports.reports},
        dict(sorted(failures.items())),
    )


def _test(grid: Grid, participants: Participants, given: GivenModel, stop: threading.Event) -> Answers:
    """Send the model and check the replies."""
    settings = given.instruction.settings
    codec = WeightCodec(settings.payload, layout_of(given.state), None)
    messages: list[Message] = evaluation_messages(
        given.instruction,
        given.state,
        participants.nodes(participants.names),
        codec,
        settings.round_timeout,
        given.seen,
    )
    replies = send_and_receive(grid, messages, participants, settings.round_timeout, stop)
    screened = screen_scores(replies, participants, given.instruction, fewer=given.seen is not None)
    reports, failures = dict(screened.reports), dict(screened.refused)
    for name, report in screened.reports.items():
        if report.test is None or report.batch_norm is None:
            failures[name] = str(RunError("Its reply has no test scores.", "Install the same version of FedBUS there."))
            del reports[name]
    return Answers(reports, {}, failures)
