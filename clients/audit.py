"""What a joined site records of the hub's messages: each answer by digest, size and names, before it leaves."""

import hashlib
import math
from collections.abc import Callable
from typing import cast

from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord

from fedbus.audit.log import AuditLog, Details
from fedbus.deployment.application import NOT_ALLOWED, OTHER_VERSION
from fedbus.text import plain_text
from fedbus.transport.messages import ARRAYS, CONFIG, METRICS

SENT = {"query": "registration sent", "train": "update sent", "evaluate": "scores sent"}
"""By the type of the message that was answered; of any other type, the entry names the type."""

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
        kind = plain_text(request.metadata.message_type, MOST_CHARACTERS)
        about = {"application": application, "message": kind} | _run_of(request)
        if answer.has_error():
            self._refused(answer.error, about)
        else:
            self.log.record(SENT.get(kind, f"{kind} answered"), **about, **_describe(answer))

    def _refused(self, error: Error, about: dict[str, Details]) -> None:
        reason = plain_text(error.reason)
        event = {NOT_ALLOWED: "study not approved", OTHER_VERSION: "application refused"}.get(
            error.code, "study refused"
        )
        if reason.endswith(SEE_LOG):
            event = "request failed"
        if (event, reason) in self.refusals or len(self.refusals) == MOST_REFUSALS:
            return
        self.refusals.add((event, reason))
        if len(self.refusals) == MOST_REFUSALS:
            event += "; further ones are not recorded until the site joins again"
        self.log.note(event, **about, reason=reason)


def _run_of(request: Message) -> dict[str, Details]:
    """Return which run and round a message is about, as far as it says so in the expected form."""
    found = dict[str, Details]()
    record = request.content.get(CONFIG) if request.has_content() else None
    if isinstance(record, ConfigRecord):
        for key, name in (("title", "run"), ("run", "code"), ("task", "task"), ("split", "split")):
            if isinstance(text := record.get(key), str) and text:
                found[name] = plain_text(text, MOST_CHARACTERS)
        if isinstance(number := record.get("server-round"), int):
            found["round"] = number
    return found


def _describe(answer: Message) -> dict[str, Details]:
    """Return what an answer contains: the names of its numbers; number, size and digest of the values of its arrays."""
    content, found = answer.content, dict[str, Details]()
    names = [key for name in (CONFIG, METRICS) for key in cast(ConfigRecord | MetricRecord, content.get(name, {}))]
    found["numbers"] = sorted(names)
    arrays = cast(ArrayRecord | None, content.get(ARRAYS))
    if arrays is not None:
        digest = hashlib.sha256()
        for array in arrays.values():
            digest.update(array.data)
        found["values"] = sum(math.prod(array.shape) for array in arrays.values())
        found["bytes"] = sum(len(array.data) for array in arrays.values())
        found["sha256"] = digest.hexdigest()
    return found
