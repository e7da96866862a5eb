"""A limit on what strangers can have written to a log."""

import logging

MAX_MESSAGES = 20
"""In each period."""

PERIOD_SECONDS = 3600.0

MAX_CHARACTERS = 2000
"""Of a message, its traceback not counted."""


class LogLimit(logging.Filter):
    """Passes a few messages per hour, cut to a length, and says when it drops the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.start, self.passed = float("-inf"), 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the message is logged; it may be shortened."""
        if record.created - self.start > PERIOD_SECONDS:
            self.start, self.passed = record.created, 0
        self.passed += 1
        if self.passed > MAX_MESSAGES:
            return False
        record.msg, record.args = record.getMessage()[:MAX_CHARACTERS], ()
        if self.passed == MAX_MESSAGES:
            record.msg += f" (Further messages are dropped for {PERIOD_SECONDS / 60:.0f} minutes.)"
        return True
