"""How figures are drawn: in one style, with text kept as text, and the same bytes for the same data."""

import html
import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from matplotlib import style
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from fedbus.reports import wording
from fedbus.system.files import write_whole

INK, MUTED, RULE, PAPER, ALERT = "#1c2733", "#5b6875", "#d9e0e6", "#ffffff", "#a33c00"

ORANGE, SKY, GREEN, BLUE, VERMILLION, PURPLE, YELLOW = (
    "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#F0E442",
)  # fmt: skip
"""Colours that people with any kind of colour vision can tell apart: Okabe and Ito, Color Universal Design, 2008."""

FAMILY_COLOURS = {wording.ALONE: VERMILLION, wording.POOLED: BLUE, wording.FEDERATED: GREEN}
FAMILY_MARKERS = {wording.ALONE: "o", wording.POOLED: "s", wording.FEDERATED: "D"}
CLASS_COLOURS = (SKY, VERMILLION, GREEN)

SHADES = LinearSegmentedColormap.from_list("fedbus", ["#f5f9fc", "#d3e6f2", "#97c6e1", "#3f93c7", "#0a5688"])
"""One hue, from light to dark, so that darker always means more."""

WEB_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

_LOOK = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fedbus",
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    # A site may be called "$alpha$", which is a name and not a formula.
    "text.parse_math": False,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
}


def svg(name: str, description: str, phantoms: bool, draw: Callable[[], Figure]) -> str:
    """Draw a figure as one `<svg>` element for a page with several figures.

    Args:
        name: Prefix of every id inside, so that two figures on a page do not share clip paths.
        description: Text alternative for readers who can't see the figure.
        phantoms: Whether to mark the figure as made from phantoms.
        draw: Builds the figure; called with the style of all reports in effect.
    """
    buffer = io.StringIO()
    with _look():
        figure = _marked(draw(), phantoms)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text[text.index("<svg") :], count=1, flags=re.DOTALL)
    text = re.sub(r"<[a-z][^>]*>", lambda tag: _scoped(tag.group(), name), text)
    label = html.escape(description, quote=True)
    return re.sub(
        r'width="([^"]*)" height="[^"]*"',
        lambda found: f'role="img" aria-label="{label}" style="width: 100%; max-width: {found[1]}; height: auto"',
        text,
        count=1,
    )


def png(path: Path, phantoms: bool, draw: Callable[[], Figure]) -> None:
    """Draw a figure as PNG at 200 dpi, written completely or not at all.

    Raises:
        RunError: If the disk is full or the folder can't be written.
    """
    buffer = io.BytesIO()
    with _look():
        figure = _marked(draw(), phantoms)
        figure.savefig(buffer, format="png", dpi=200, metadata={"Software": None})
    write_whole(path, lambda temporary: temporary.write_bytes(buffer.getvalue()))


@contextmanager
def _look() -> Iterator[None]:
    with style.context(["default", _LOOK]), warnings.catch_warnings():
        # Matplotlib only measures text with its font; the reader's browser has the glyphs that are missing here.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def _scoped(tag: str, name: str) -> str:
    """Prefix the ids in a tag with the name of the figure, and use the font of the page."""
    tag = re.sub(r"font-family: [^;\"]*", f"font-family: {WEB_FONTS}", tag)
    return re.sub(r'((?<= )id="|href="#|url\(#)', rf"\1{name}-", tag)


def _marked(figure: Figure, phantoms: bool) -> Figure:
    if phantoms:
        figure.suptitle(wording.PHANTOMS, fontsize=8.5, fontweight="bold", color=ALERT)
    return figure
