"""Names of sites: usable as the name of a folder, and distinct from words that mean several sites."""

from fedbus.text import plain_text

RESERVED_NAMES = ("all", "mean", "pooled")
"""Names that mean several sites in tables, so that no site can have them."""


MOST_OF_A_NAME = 100
"""Characters of a site's name, of which folders are named."""


def check_site_name(name: str) -> None:
    """Check that a site's name is usable as a folder name and does not mean several sites.

    Raises:
        ValueError: If it is not.
    """
    if len(name) > MOST_OF_A_NAME:
        raise ValueError(
            f"sites: {plain_text(name, MOST_OF_A_NAME)!r} is too long; use at most {MOST_OF_A_NAME} letters"
        )
    plain = name.replace("-", "").replace("_", "").replace(".", "")
    if not (plain.isalnum() and plain.isascii()) or name.startswith("."):
        raise ValueError(f"sites: {name!r} can't name a folder; use letters, digits, '-', '_' and '.'")
    if name in RESERVED_NAMES:
        raise ValueError(f"sites: {name!r} means several sites; choose another name")
