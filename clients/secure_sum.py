"""A site's four steps of a secure sum: keys, shares, masked vectors, and what unmasks the sum.

The site decides for itself what it signs and what it sends: it compares the terms with its own instruction, the model
with the terms, and its update with the limits that the hub can no longer check.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from clients import work
from clients.limits.refusal import RefusedError
from clients.session_file import is_known, load_session, record_unmasked, save_session
from clients.workspace import Workspace
from fedbus.deployment.private_key import read_private_key
from fedbus.deployment.roster import read_roster
from fedbus.errors import OutOfRangeError, RunError
from fedbus.models.state import State
from fedbus.secure_aggregation.numbers import encode_numbers
from fedbus.secure_aggregation.site_session import SiteSession
from fedbus.secure_aggregation.terms import TRAIN, SessionTerms
from fedbus.settings.privacy_rules import SECURE
from fedbus.transport.allow_list import check_masked, check_reply, check_summed, check_vectors
from fedbus.transport.messages import TRAINING, Instruction
from fedbus.transport.report import EPSILON
from fedbus.transport.secure_records import KEYS, SEALED, SHARES
from fedbus.transport.summed_report import evaluation_format, numbers_of_report, purpose_of
from fedbus.transport.summed_update import Sum, SumFormat, Trained, UpdateSum
from fedbus.transport.update_check import check_update

Config = Mapping[str, Any]
"""The instruction as the message contains it."""


def refuse_plain(instruction: Instruction) -> None:
    """Refuse to send an update or a score of this site alone in a training that the settings protect.

    Raises:
        RefusedError: If the settings do.
    """
    if instruction.settings.privacy == SECURE and instruction.task == TRAINING:
        raise RefusedError(
            f"This site sends no update or score of its own in a run with privacy={SECURE}.",
            "Ask the coordinator to install this version of FedBUS at the hub.",
        )


def send_keys(workspace: Workspace, instruction: Instruction, config: Config, terms_bytes: bytes) -> bytes:
    """Sign the terms of a session with fresh keys, if they are those of the instruction.

    Raises:
        RefusedError: If they are not, or the site takes part in this session already.
    """
    with _told_to_the_hub():
        terms = SessionTerms.from_bytes(terms_bytes)
        _check_terms(terms, instruction, config)
        if is_known(workspace, terms.session):
            raise RunError("The hub asks for keys a second time in one session.", "Nothing was sent.")
    if workspace.key is None:
        raise RunError("This site has no key to sign with.", "Run: fedbus site init")
    key = read_private_key(workspace.key, "Restore it from a backup.")
    with _told_to_the_hub():
        session, message = SiteSession.start(terms, workspace.name, key)
        check_masked(KEYS, [message], len(terms.roster))
    save_session(workspace, session)
    return message


def send_shares(workspace: Workspace, config: Config, session: str, keys: Mapping[str, bytes]) -> dict[str, bytes]:
    """Verify the keys of all sites, and share this site's secrets between them.

    Raises:
        RefusedError: If a key is not that of its site, or the hub repeats the step.
    """
    with _told_to_the_hub():
        state = _open(workspace, config, session)
        sealed = state.share(keys)
        check_masked(SEALED, list(sealed.values()), len(state.terms.roster))
    save_session(workspace, state)
    return sealed


def send_update(
    workspace: Workspace,
    instruction: Instruction,
    config: Config,
    received: State,
    session: str,
    sealed: Mapping[str, bytes],
) -> tuple[Sum, dict[str, float]]:
    """Train for one round, and mask the update and the numbers about it.

    Returns:
        The masked vectors; and the epsilon that the site has spent, which is not summed, because the history of a run
        records it by site. It follows from counts that the site has registered.

    Raises:
        RefusedError: If the model is not that of the terms, or the hub repeats the step.
        OutOfRangeError: If the update can't be used.
        FedbusError: If the training fails.
    """
    settings = instruction.settings
    summed = UpdateSum(received, settings.batch_norm, settings.update_range)
    state = _accept(workspace, config, received, session, sealed, TRAIN, summed.format)
    update, report = work.train(workspace, instruction, received)
    reason = check_update(update, received, settings.update_limit)
    if reason:
        raise OutOfRangeError(
            f"The update of this site can't be used: {reason}.", "Lower the learning rate, or check this site's images."
        )
    with _told_to_the_hub():
        share = state.terms.share_of(report.weight)
        trained = Trained(update, report.score, report.loss, report.steps)
        numbers = summed.numbers(trained, share)
        check_summed(numbers, summed.format, work.layout(instruction))
        metrics = {EPSILON: report.epsilon} if report.epsilon is not None else {}
        check_reply(metrics, {}, work.layout(instruction))
        return _mask(workspace, state, summed.encode(trained, share, numbers), summed.format), metrics


def send_scores(
    workspace: Workspace,
    instruction: Instruction,
    config: Config,
    received: State,
    session: str,
    sealed: Mapping[str, bytes],
) -> tuple[Sum, dict[str, float]]:
    """Evaluate a model, and mask the numbers about it; the result is that of `send_update`.

    Raises:
        RefusedError: If the model is not that of the terms, or the hub repeats the step.
        FedbusError: If the evaluation fails.
    """
    wanted = evaluation_format(instruction, deployed=workspace.models is not None)
    state = _accept(workspace, config, received, session, sealed, purpose_of(instruction), wanted)
    report = work.evaluate(workspace, instruction, received)
    with _told_to_the_hub():
        numbers = numbers_of_report(report)
        check_summed(numbers, wanted, work.layout(instruction))
        no_values = np.empty(0, dtype=np.uint32)
        return _mask(workspace, state, (no_values, encode_numbers(numbers, wanted.numbers)), wanted), {}


def unmask(
    workspace: Workspace, instruction: Instruction, config: Config, session: str, survivors: Sequence[str]
) -> bytes:
    """Reveal what removes the masks of the sum over the survivors, and record it.

    Raises:
        RefusedError: If the hub asks for another sum than before, or for one over too few sites.
    """
    with _told_to_the_hub():
        state = _open(workspace, config, session)
        message = state.unmask(survivors)
        check_masked(SHARES, [message], len(state.terms.roster))
        record_unmasked(workspace, instruction, state.terms, survivors)
    save_session(workspace, state)
    return message


def _check_terms(terms: SessionTerms, instruction: Instruction, config: Config) -> None:
    """Compare terms with the instruction that came with them.

    Raises:
        RunError: If they differ.
    """
    terms.check_instruction(config)
    settings, purposes = instruction.settings, {purpose_of(instruction)}
    if purposes == {"validation"}:
        purposes.add(TRAIN)  # an instruction to train scores the validation rows too
    same = (
        (terms.title, terms.run, terms.arm, terms.round, terms.update_range)
        == (instruction.title, instruction.run, instruction.arm, instruction.round, settings.update_range)
        and terms.purpose in purposes
        and dict(terms.roster) == dict(read_roster(instruction.sites))
        and settings.privacy == SECURE
        and instruction.task == TRAINING
    )
    if not same:
        raise RunError(
            "The terms of the secure sum are not those of the hub's instruction.",
            "Nothing was sent. Ask the coordinator to check the hub.",
        )


def _open(workspace: Workspace, config: Config, session: str) -> SiteSession:
    state = load_session(workspace, session)
    state.terms.check_instruction(config)
    return state


def _accept(
    workspace: Workspace,
    config: Config,
    received: State,
    session: str,
    sealed: Mapping[str, bytes],
    purpose: str,
    wanted: SumFormat,
) -> SiteSession:
    """Check that this site works on what all have signed; from here on it does so once in this session."""
    with _told_to_the_hub():
        state = _open(workspace, config, session)
        if state.terms.purpose != purpose:
            raise RunError("The secure sum has another purpose than the hub's request.", "Nothing was sent.")
        state.terms.check_model({name: value.numpy() for name, value in received.items()})
        state.terms.check_layout(wanted.tensors, wanted.numbers)
        state.accept(sealed)
    save_session(workspace, state)
    return state


def _mask(workspace: Workspace, state: SiteSession, vectors: Sum, wanted: SumFormat) -> Sum:
    values, numbers = vectors
    state.mask(values, numbers)
    check_vectors(values, numbers, wanted)
    save_session(workspace, state)
    return values, numbers


@contextmanager
def _told_to_the_hub() -> Iterator[None]:
    """Send the hub the text of an error of the protocol, which names sites, and no value, file or patient."""
    try:
        yield
    except OutOfRangeError:
        raise
    except RunError as error:
        raise RefusedError(error.problem, error.remedy) from error
