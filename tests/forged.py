"""Text as a hostile peer writes it: it clears the screen, forges a line, turns text round, and has no end."""

FORGED = (
    "\x1b[2J\x1b]0;title\x07\x9b31mbad\r\n09:00:00  round 9: loss 0.001\u2028\u202egnp\u200b\x00\x08 [/bold] "
    + "x" * 100_000
)


def check_plain(text: str, most: int = 30_000) -> None:
    """Check that text is one short line that a terminal only prints, and that it is not simply left out."""
    assert text.isprintable(), repr(text[:300])
    assert 0 < len(text) < most
    assert "bad" in text
