"""What a joined site records of the hub's messages: each answer by digest, size and names, before it leaves."""

import hashlib
import math
from collections.abc import Callable
from contextlib import suppress

from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord

from fedbus.audit.log import AuditLog, Details
from fedbus.deployment.application import NOT_ALLOWED, OTHER_VERSION
from fedbus.text import plain_text
from fedbus.transport.messages import CONFIG, MODEL_MISSING, Instruction
from fedbus.transport.study import Study

SENT = {
    "query": "registration sent", "train": "update sent", "evaluate": "scores sent",
    "query.keys": "keys sent", "query.shares": "shares sent", "query.unmask": "shares for unmasking sent",
    "train.masked": "masked update sent", "evaluate.masked": "masked scores sent",
}  # fmt: skip
"""By the type of the message that was answered; of any other type, the entry names the type."""

ERRORS = {
    NOT_ALLOWED: "study not approved", OTHER_VERSION: "application refused", MODEL_MISSING: "model requested again",
}  # fmt: skip
"""By the code of an error that was answered; every other error is a refusal of the study."""

SEE_LOG = "see the site's own log"
"""The end of the reason for an error that is not a refusal."""

MOST_REFUSALS = 200
"""Different refusals that are recorded until the site leaves: a hub could think of new ones without end."""

MOST_CHARACTERS = 100
"""Of a name in a message; titles and codes of runs are shorter."""

Record = Callable[[str, Message, Message], None]
"""Records an answer: called with the digest of the application, the hub's message and the answer."""


class AnswerLog:
    """Records the answers of one joined site.

    Args:
        log: The site's audit log.
    """

    def __init__(self, log: AuditLog) -> None:
        self.log, self.refusals = log, set[tuple[str, str]]()

    def __call__(self, application: str, request: Message, answer: Message) -> None:
        """Record an answer; a refusal only once, since the hub repeats its requests.

        Raises:
            RunError: If it can't be recorded: then it must not be sent.
        """
        about = _about(application, request)
        kind = str(about["message"])
        if answer.has_error():
            self._refused(answer.error, about)
        else:
            self.log.record(SENT.get(kind, f"{kind} answered"), **about, **_describe(answer))

    def _refused(self, error: Error, about: dict[str, Details]) -> None:
        reason = plain_text(error.reason)
        event = ERRORS.get(error.code, "study refused")
        if reason.endswith(SEE_LOG):
            event = "request failed"
        if (event, reason) in self.refusals or len(self.refusals) == MOST_REFUSALS:
            return
        self.refusals.add((event, reason))
        if len(self.refusals) == MOST_REFUSALS:
            event += "; further ones are not recorded until the site joins again"
        self.log.note(event, **about, reason=reason)


def _about(application: str, request: Message) -> dict[str, Details]:
    """Return what a message is about, as far as it says so in the expected form."""
    kind = plain_text(request.metadata.message_type, MOST_CHARACTERS)
    found: dict[str, Details] = {"application": application, "message": kind}
    record = request.content.get(CONFIG) if request.has_content() else None
    if isinstance(record, ConfigRecord):
        named = {"title": "run", "run": "code", "task": "task"}
        if kind.startswith("evaluate"):
            named["split"] = "split"
        for key, name in named.items():
            if isinstance(text := record.get(key), str) and text:
                found[name] = plain_text(text, MOST_CHARACTERS)
        if isinstance(number := record.get("server-round"), int):
            found["round"] = number
        with suppress(Exception):  # what another version or a hostile hub sends raises anything
            found["study"] = Study.of_instruction(application, Instruction.from_config(record)).digest
    return found


def _describe(answer: Message) -> dict[str, Details]:
    """Return what an answer contains: the names of its numbers; number, size and digest of the values of its arrays.

    Bytes, such as those of keys and encrypted shares, count as an array.
    """
    names, arrays, values = list[str](), list[bytes](), 0
    for record in answer.content.values():
        if isinstance(record, ArrayRecord):
            arrays += [array.data for array in record.values()]
            values += sum(math.prod(array.shape) for array in record.values())
        elif isinstance(record, ConfigRecord | MetricRecord):
            names += record
            arrays += [value for value in record.values() if isinstance(value, bytes)]
    found: dict[str, Details] = {"numbers": sorted(names)}
    if arrays:
        digest = hashlib.sha256()
        for array in arrays:
            digest.update(array)
        found |= {"values": values, "bytes": sum(map(len, arrays)), "sha256": digest.hexdigest()}
    return found
