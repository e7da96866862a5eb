"""What strangers can have written to a log: few messages of a limited length."""

import logging

from server.hub.log_limit import MAX_CHARACTERS, MAX_MESSAGES, PERIOD_SECONDS, LogLimit


def record(created: float, text: str = "x") -> logging.LogRecord:
    found = logging.LogRecord("n", logging.ERROR, "p", 1, "%s", (text,), None)
    found.created = created
    return found


def test_a_period_has_a_number_of_messages_and_the_last_says_so():
    limit = LogLimit()
    records = [record(1000.0 + each) for each in range(100)]
    passed = [each for each in records if limit.filter(each)]
    assert passed == records[:MAX_MESSAGES]
    assert [("dropped" in each.getMessage()) for each in passed] == [False] * (MAX_MESSAGES - 1) + [True]
    assert limit.filter(record(1000.0 + PERIOD_SECONDS + 1))


def test_a_long_message_is_cut():
    found = record(0, "%d" * 5000)
    assert LogLimit().filter(found)
    assert len(found.getMessage()) == MAX_CHARACTERS
