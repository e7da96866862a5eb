"""How far each federated cell of a study is from pooled training, and from each hospital's own model."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from rich import box
from rich.table import Table
from rich.text import Text

from fedbus.reports import wording

HEADING = "The gap"

NOTE = (
    "Paired differences on the same test images (95 % interval): federated less pooled on all of them, and federated "
    "less the hospital's own model on its own. In bold: the interval excludes 0."
)


def gap_rows(content: dict[str, Any]) -> list[dict[str, Any]]:
    """One row a cell and federated arm, in the order of the study.

    Returns:
        {"cell", "arm", "validation" (macro F1 or None), "pooled": {"auc", "macro_f1": difference},
        "own": {site: difference in AUC}} a row; empty where the study has no references.
    """
    found = []
    for name, cell in content["cells"].items():
        for arm, references in (cell.get("gap") or {}).items():
            own = {key.removeprefix("local-"): value for key, value in references.items() if key.startswith("local-")}
            found.append(
                {
                    "cell": name,
                    "arm": arm,
                    "validation": (cell.get("validation", {}).get(arm) or {}).get("macro_f1"),
                    "pooled": (references.get("centralised") or {}).get("all") or {},
                    "own": {site: places[site].get("auc") for site, places in own.items()},
                }
            )
    return found


def gap_table(content: dict[str, Any]) -> Table:
    """Lay the rows out for the terminal."""
    title = f"{wording.PHANTOMS}\n{HEADING}" if content["phantoms"] else HEADING
    table = Table(title=title, caption=NOTE, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("", "validation F1", "AUC less pooled", "macro F1 less pooled"):
        table.add_column(heading, overflow="fold")
    for site in content["sites"]:
        table.add_column(Text(f"AUC at {site}\nless its own"), overflow="fold")
    for row in gap_rows(content):
        cells = [row["pooled"].get("auc"), row["pooled"].get("macro_f1")]
        cells += [row["own"].get(site) for site in content["sites"]]
        name = row["cell"] if row["arm"] == "fedavg" else f"{row['cell']} ({wording.arm_label(row['arm'])})"
        table.add_row(Text(name), wording.number(row["validation"]), *(_text(cell) for cell in cells))
    return table


def gap_fragment(content: dict[str, Any]) -> Markup:
    """The same for the page, all text escaped."""
    environment = Environment(
        loader=FileSystemLoader([Path(__file__).parent, Path(__file__).parents[1]]), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    page = environment.get_template("gap.html")
    return Markup(page.render(rows=gap_rows(content), sites=list(content["sites"]), words=wording, note=NOTE))


def _text(difference: dict[str, Any] | None) -> Text:
    apart = difference is not None and wording.verdict(difference) in ("higher", "lower")
    return Text(wording.with_interval(difference, signed=True), style="bold" if apart else "")
