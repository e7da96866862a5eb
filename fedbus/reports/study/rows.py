"""The rows of a study: which cell and arm stand together in a table or a picture, and where a hole is."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from fedbus.reports import wording
from fedbus.settings.schema import STRATEGIES, TUNED, is_tuned, tuned_from

COMPARED = ("auc", "macro_f1")
"""The metrics whose paired difference to the default is shown."""


@dataclass(frozen=True)
class Row:
    """One cell in one block.

    Attributes:
        cell: its name.
        note: what sets it apart in words (`the default`, another arm than the block's others), may be empty.
        default: whether it is the cell that the others are compared with.
        leaky: whether it was scored on test rows of its own, which training may know.
        hole: why there are no figures; empty where there are.
        metrics: on the block's test rows, as `fedbus.evaluation.evaluate.evaluate` gives them.
        everywhere: the same by place.
        differences: by place and metric, paired, to the default; empty where there is nothing to pair.
        validation, work: of this arm; may be empty.
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

    def difference(self, metric: str, place: str) -> dict[str, Any] | None:
        """The paired difference to the default in -1..1, None where there is none."""
        found: dict[str, Any] | None = (self.differences.get(place) or {}).get(metric)
        return found if found and found.get("value") is not None else None


@dataclass(frozen=True)
class Block:
    """The cells of one arm, or of arms that take each other's place from cell to cell.

    Attributes:
        title: the arm and the test rows in words.
        family: of the arms, as `words.family`.
        place: the site on whose test rows the arm is shown, or `all`.
        size: how many test images and groups, in words; empty if not known.
        rows: in the order of the study's file.
    """

    title: str
    family: str
    place: str
    size: str
    rows: list[Row]

    @property
    def default(self) -> Row | None:
        """The default cell's row, if it has figures here."""
        return next((row for row in self.rows if row.default and not row.hole), None)

    @property
    def best(self) -> Row | None:
        """The row with the highest validation macro F1, ties by lower loss; none of one alone.

        Leaky rows do not take part: their validation leaks too.
        """
        known = [row for row in self.rows if row.validation.get("macro_f1") is not None and not row.leaky]
        if len(known) < 2:
            return None
        return max(known, key=lambda row: (row.validation["macro_f1"], -row.validation.get("loss", 0.0)))


def blocks(content: dict[str, Any]) -> list[Block]:
    """Sort the cells into blocks: hospitals alone at home, pooled and federated on all test images.

    Federated arms of which every cell runs one (FedAvg here, FedProx there) share a block. A cell without figures
    stands in every block that it would have been in; if there is none, in a last block of its own.

    Args:
        content: of `study.json`.
    """
    found = [_block(content, arms) for arms in _grouped(content)]
    placed = {row.cell for block in found for row in block.rows}
    lost = [_row(content, name, "", "all") for name in content["cells"] if name not in placed]
    if lost:
        found.append(Block("Without figures", wording.FEDERATED, "all", "", lost))
    return found


def hole(cell: dict[str, Any]) -> str:
    """Say why a cell has no figures."""
    state = "not scored" if cell["state"] == "finished" else str(cell["state"])
    reason = " ".join(str(cell.get("reason") or "").split())
    return f"{state}: {reason}" if reason else state


def _grouped(content: dict[str, Any]) -> Iterator[list[str]]:
    """Give the arms of each block."""
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
    return wording.family(arm) + (TUNED if is_tuned(arm) else "")


def _block(content: dict[str, Any], arms: list[str]) -> Block:
    place = wording.home(arms[0]) or "all"
    labels = wording.FEDERATED if len(arms) > 1 else arm_label(arms[0])
    usual = (content["cells"].get(content["default"], {}).get("arms") or {}) if len(arms) > 1 else arms
    rows = []
    for name, cell in content["cells"].items():
        ran = [arm for arm in arms if arm in (cell.get("arms") or {})]
        if ran or (cell["state"] != "finished" and _expected(content, cell, arms)):
            rows.append(_row(content, name, ran[0] if ran else "", place, usual))
    # Leaky rows have test rows of their own, so the first others tell the size.
    sizes = [wording.size({"arms": {"": row.everywhere}}, place) for row in rows if not row.leaky and not row.hole]
    where = "its own test images" if wording.home(arms[0]) else wording.site_label(place)
    return Block(f"{labels}, {where}", wording.family(arms[0]), place, sizes[0] if sizes else "", rows)


def arm_label(arm: str) -> str:
    """Name an arm as people do, also one that was fine-tuned."""
    if is_tuned(arm):
        return f"{wording.arm_label(tuned_from(arm))}, fine-tuned at each hospital"
    return wording.arm_label(arm)


def _expected(content: dict[str, Any], cell: dict[str, Any], arms: list[str]) -> bool:
    """Say whether a cell without figures would have run one of these arms, or one in their place."""
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
