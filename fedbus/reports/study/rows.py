"""The rows of a study: which cells and arms form a block of a table or figure, and which have no figures."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from fedbus.evaluation.site_mean import ALL, MEAN
from fedbus.reports import wording
from fedbus.settings.arms import BLENDED, STRATEGIES, TUNED, is_blended, is_tuned

COMPARED = ("auc", "macro_f1")
"""The metrics whose paired difference to the default is shown."""


@dataclass(frozen=True)
class Row:
    """One cell in one block.

    Attributes:
        cell: Name of the cell.
        note: What distinguishes it (`the default`, an arm other than that of the block); may be empty.
        default: Whether it is the cell that the others are compared with.
        leaky: Whether it was scored on test rows of its own, which may have been used for training.
        hole: Why there are no figures; empty if there are.
        metrics: Metrics on the block's test rows, as `fedbus.evaluation.evaluate.evaluate` returns them.
        everywhere: The same by place: each site, `all`, and the `mean` of the sites.
        differences: By place and metric, paired differences to the default; empty if there is nothing to pair.
        validation: Validation score of this arm's best round; may be empty.
        work: Steps and seconds of this arm; may be empty.
    """

    cell: str
    note: str
    default: bool
    leaky: bool
    hole: str
    metrics: dict[str, Any]
    everywhere: dict[str, Any]
    differences: dict[str, Any]
    validation: dict[str, Any]
    work: dict[str, Any]

    def figure(self, metric: str, place: str) -> dict[str, Any] | None:
        """Return a metric with its interval; None if it is undefined or was not computed."""
        found: dict[str, Any] | None = (self.everywhere.get(place) or {}).get(metric)
        return found

    def difference(self, metric: str, place: str) -> dict[str, Any] | None:
        """Return the paired difference to the default, in [-1, 1]; None if there is none."""
        found: dict[str, Any] | None = (self.differences.get(place) or {}).get(metric)
        return found if found and found.get("value") is not None else None


@dataclass(frozen=True)
class Block:
    """The cells of one arm, or of several federated arms of which each cell has one.

    Attributes:
        title: The arm and its test set, for readers.
        family: Family of the arms, as `wording.family` returns it.
        place: The site on whose test rows the arm is shown, or `all`.
        primary: The place of the primary AUC: the `mean` of the sites if it was computed, else `place`.
        size: Number of test images and groups, for readers; empty if unknown.
        rows: One per cell, in the order of the study's file.
    """

    title: str
    family: str
    place: str
    primary: str
    size: str
    rows: list[Row]

    @property
    def has_mean(self) -> bool:
        """Whether the primary AUC is the mean of the sites."""
        return self.primary == MEAN

    def place_of(self, metric: str) -> str:
        """Return where a metric is compared: the primary AUC at its place, all else on the block's test rows."""
        return self.primary if metric == "auc" else self.place

    def name_of(self, metric: str) -> str:
        """Return the name of a compared metric for readers."""
        suffix = " (mean of sites)" if metric == "auc" and self.has_mean else ""
        return wording.METRICS[metric] + suffix

    @property
    def default(self) -> Row | None:
        """The row of the default cell; None if it has no figures here."""
        return next((row for row in self.rows if row.default and not row.hole), None)

    @property
    def best(self) -> Row | None:
        """The row with the highest validation macro F1, ties by lower loss; None if fewer than two have one.

        Leaky rows are left out, because their validation leaks too.
        """
        known = [row for row in self.rows if row.validation.get("macro_f1") is not None and not row.leaky]
        if len(known) < 2:
            return None
        return max(known, key=lambda row: (row.validation["macro_f1"], -row.validation.get("loss", 0.0)))


def blocks(content: dict[str, Any]) -> list[Block]:
    """Sort the cells into blocks: sites alone on their own test images, then centralised, then federated.

    Federated arms share a block if no cell has more than one of them (FedAvg in one cell, FedProx in another). A cell
    without figures is in every block that it would have been in; if there is none, in a last block.

    Args:
        content: Content of `study.json`.
    """
    found = [_block(content, arms) for arms in _grouped(content)]
    placed = {row.cell for block in found for row in block.rows}
    lost = [_row(content, name, "", "all") for name in content["cells"] if name not in placed]
    if lost:
        found.append(Block("Without figures", wording.FEDERATED, ALL, ALL, "", lost))
    return found


def hole(cell: dict[str, Any]) -> str:
    """Describe why a cell has no figures."""
    state = "not scored" if cell["state"] == "finished" else str(cell["state"])
    reason = " ".join(str(cell.get("reason") or "").split())
    return f"{state}: {reason}" if reason else state


def _grouped(content: dict[str, Any]) -> Iterator[list[str]]:
    """Yield the arms of each block."""
    ran = [set(cell.get("arms") or {}) for cell in content["cells"].values()]
    waiting = wording.ordered_arms(content)
    while waiting:
        arm = waiting[0]
        together = [other for other in waiting if _kind(other) == _kind(arm)]
        if wording.family(arm) != wording.FEDERATED or any(len(arms & set(together)) > 1 for arms in ran):
            together = [arm]
        yield together
        waiting = [other for other in waiting if other not in together]


def _kind(arm: str) -> str:
    return wording.family(arm) + (TUNED if is_tuned(arm) else BLENDED if is_blended(arm) else "")


def _block(content: dict[str, Any], arms: list[str]) -> Block:
    place = wording.home(arms[0]) or ALL
    labels = wording.FEDERATED if len(arms) > 1 else arm_label(arms[0])
    usual = (content["cells"].get(content["default"], {}).get("arms") or {}) if len(arms) > 1 else arms
    rows = []
    for name, cell in content["cells"].items():
        ran = [arm for arm in arms if arm in (cell.get("arms") or {})]
        if ran or (cell["state"] != "finished" and _expected(content, cell, arms)):
            rows.append(_row(content, name, ran[0] if ran else "", place, usual))
    # Leaky rows have test rows of their own, so the size is that of the first other row.
    sizes = [wording.size({"arms": {"": row.everywhere}}, place) for row in rows if not row.leaky and not row.hole]
    where = "its own test images" if wording.home(arms[0]) else wording.site_label(place)
    primary = MEAN if place == ALL and any(MEAN in row.everywhere for row in rows) else place
    return Block(f"{labels}, {where}", wording.family(arms[0]), place, primary, sizes[0] if sizes else "", rows)


def arm_label(arm: str) -> str:
    """Return the name of an arm for readers; of a fine-tuned or blended one with the place."""
    name = wording.arm_label(arm)
    return f"{name} at each site" if is_tuned(arm) or is_blended(arm) else name


def _expected(content: dict[str, Any], cell: dict[str, Any], arms: list[str]) -> bool:
    """Whether a cell without figures would have run one of these arms, or another federated arm instead."""
    asked = cell["settings"].get("arms", content["settings"].get("arms", arms))
    asked = [asked] if isinstance(asked, str) else asked
    if wording.home(arms[0]):
        return "local" in asked or arms[0] in asked
    elsewhere = set(content["arms"]) - set(arms)
    federated = any(arm in STRATEGIES for arm in arms)
    return any(arm in arms or (federated and arm in STRATEGIES and arm not in elsewhere) for arm in asked)


def _row(content: dict[str, Any], name: str, arm: str, place: str, usual: Iterable[str] = ()) -> Row:
    cell = content["cells"][name]
    everywhere = (cell.get("arms") or {}).get(arm) or {}
    default = name == content["default"]
    leaky = "leakage" in cell
    notes = [
        "the default" if default else "",
        arm_label(arm) if arm and arm not in usual else "",
        "own test rows" if leaky else "",
    ]
    return Row(
        cell=name,
        note=", ".join(note for note in notes if note),
        default=default,
        leaky=leaky,
        hole="" if everywhere.get(place) else hole(cell),
        metrics=everywhere.get(place) or {},
        everywhere=everywhere,
        differences=(cell.get("differences") or {}).get(arm) or {},
        validation=(cell.get("validation") or {}).get(arm) or {},
        work=(cell.get("work") or {}).get(arm) or {},
    )
