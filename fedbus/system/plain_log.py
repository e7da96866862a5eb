"""Logs of programs that quote what other parties sent, such as Flower's: every record one plain line."""

import logging
import traceback

from fedbus.text import MOST_OF_A_LINE, plain_text


class PlainRecords(logging.Filter):
    """Makes the text of each record plain, and indents tracebacks, so that no part looks like another record."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True; the record is changed."""
        record.msg, record.args = plain_text(record.getMessage(), MOST_OF_A_LINE), ()
        if record.exc_info and record.exc_info[0] is not None:
            lines = "".join(traceback.format_exception(*record.exc_info)).splitlines()
            record.exc_text = "\n".join(f"  {plain_text(line, MOST_OF_A_LINE)}" for line in lines)
        return True


def keep_logs_plain(*names: str) -> None:
    """Make the records of loggers plain, from now on."""
    for name in names:
        logging.getLogger(name).addFilter(PlainRecords())
