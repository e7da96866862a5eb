"""What another party sent can't forge a record or a colour in a log."""

import logging

from fedbus.system.plain_log import keep_logs_plain
from tests.forged import FORGED


def test_records_and_tracebacks_are_plain(caplog):
    keep_logs_plain("fedbus.test.plain")
    logger = logging.getLogger("fedbus.test.plain")
    with caplog.at_level(logging.INFO, logger=logger.name):
        logger.info("Requesting %s of %d", FORGED, 3)
        try:
            raise ValueError(FORGED)
        except ValueError:
            logger.exception("failed")
    first, second = caplog.records
    assert first.getMessage().startswith("Requesting ")
    assert first.getMessage().isprintable()
    written = logging.Formatter().format(second).splitlines()
    assert written[0] == "failed"
    assert all(line.startswith("  ") and line.isprintable() for line in written[1:])
    assert any("bad" in line for line in written)
