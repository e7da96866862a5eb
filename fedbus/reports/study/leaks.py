"""What each leaky cell of a study claims, and what the same weights reach: for the terminal."""

from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from fedbus.reports import wording
from fedbus.reports.study.rows import arm_label
from fedbus.reports.study.summary import leaks_of

SIDES = ("claim", "truth", "difference")

NOTE = (
    "Claim: on the leaky split's own test rows. Truth: the same weights on held-out groups, none of whose images was "
    "trained on. 95 % intervals; the two are of different rows, so the difference is not paired. Bold: it excludes 0."
)


def leak_table(content: dict[str, Any]) -> Table | None:
    """Lay out claims against truths, three lines a cell and arm; None where nothing leaks.

    Args:
        content: of `study.json`.
    """
    leaks = leaks_of(content)
    if not leaks:
        return None
    title = f"{wording.PHANTOMS}\nClaim and truth" if content["phantoms"] else "Claim and truth"
    table = Table(title=title, caption=NOTE, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("", "", *(wording.METRICS[metric] for metric in ("accuracy", "macro_f1", "auc"))):
        table.add_column(heading, overflow="fold")
    for leak in leaks:
        for side in SIDES:
            name = Text({"claim": leak["cell"], "truth": arm_label(leak["arm"])}.get(side, ""))
            figures = [leak[side].get(metric) for metric in ("accuracy", "macro_f1", "auc")]
            heading = "claim less truth" if side == "difference" else side
            table.add_row(name, heading, *(_text(figure, side == "difference") for figure in figures))
        table.add_section()
    return table


def _text(figure: dict[str, Any] | None, difference: bool) -> Text:
    apart = difference and figure is not None and wording.verdict(figure) in ("higher", "lower")
    return Text(wording.with_interval(figure, signed=difference), style="bold" if apart else "")
