"""A SuperNode stops to ask for an instruction that the hub has deleted, and asks for the next one."""

import pytest
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError, ObjectUnavailableError

from clients.flower_internals import MOST_TRIES, fetch_objects


def test_an_object_that_never_arrives_is_given_up():
    asked = []

    def pull(identifier: str) -> bytes:
        asked.append(identifier)
        raise ObjectUnavailableError(identifier)

    with pytest.raises(ObjectPullError):
        fetch_objects(["gone"], pull, initial_backoff=0, backoff_cap=0)
    assert asked == ["gone"] * MOST_TRIES


def test_an_object_that_arrives_late_is_fetched():
    answers = iter([None, None, b"weights"])

    def pull(identifier: str) -> bytes:
        content = next(answers)
        if content is None:
            raise ObjectUnavailableError(identifier)
        return content

    assert fetch_objects(["late"], pull, initial_backoff=0, backoff_cap=0) == {"late": b"weights"}
