"""The findings of a study in sentences computed from its figures, and cautions for its readers."""

from typing import Any

from fedbus.reports import wording
from fedbus.reports.claims import claim_sentences
from fedbus.reports.study.rows import COMPARED, Block, Row, arm_label, blocks


def findings(content: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Describe for each block what the default reached, which cells differ from it, and which is best on validation.

    Args:
        content: Content of `study.json`.

    Returns:
        The block's title and its sentences; blocks without figures are left out. Leaks, if any, come last.
    """
    shown = [block for block in blocks(content) if any(not row.hole for row in block.rows)]
    found = [(block.title, _sentences(block)) for block in shown]
    leaks = [_leak(leak) for leak in leaks_of(content)]
    return [*found, *_claims(content), *([("Claim and truth", leaks)] if leaks else [])]


def leaks_of(content: dict[str, Any]) -> list[dict[str, Any]]:
    """List what each leaky cell and arm claims and what it reaches on held-out groups.

    Returns:
        {"cell", "arm", "place", "claim", "truth", "difference"}; the last three by metric, empty if not scored.
    """
    found = []
    for name, cell in content["cells"].items():
        for arm, sides in cell.get("leakage", {}).get("arms", {}).items():
            place = wording.home(arm) or "all"
            known = {key: (sides.get(key) or {}).get(place) or {} for key in ("claim", "truth", "difference")}
            found.append({"cell": name, "arm": arm, "place": place, **known})
    return found


def cautions(content: dict[str, Any]) -> list[str]:
    """List what to read with care: comparisons, failed cells, lost classes, few groups, one seed, notes on data."""
    found = blocks(content)
    return [
        sentence
        for sentence in (
            _multiple_comparisons(found),
            _without_figures(content),
            _lost_classes(content, found),
            _few_groups(content),
            *(_unequal_work(block) for block in found),
            _own_rows(found),
            _one_seed(found),
            _notes_on_data(content),
        )
        if sentence
    ]


def _sentences(block: Block) -> list[str]:
    first = block.default
    if first is None:
        only = [row for row in block.rows if not row.hole]
        reached = "; ".join(f"{row.cell} {_reached(block, row)}" for row in only)
        return [f"Reached: {reached}. The default cell has no figures here, so no difference is paired."]
    found = [f"The default, {first.cell}, reached {_reached(block, first)}.", *_decided_differences(block)]
    best = block.best
    if best is not None:
        score = wording.number(best.validation["macro_f1"])
        usual = wording.number(first.validation.get("macro_f1"))
        beside = "the default itself" if best.default else f"the default {usual}"
        found.append(f"Best on validation, by which settings are chosen: {best.cell}, macro F1 {score} ({beside}).")
    return found


def _leak(leak: dict[str, Any]) -> str:
    claim, truth = (wording.with_interval(leak[side].get("macro_f1")) for side in ("claim", "truth"))
    who = f"{leak['cell']} ({arm_label(leak['arm'])})"
    text = f"{who} claims macro F1 {claim}; the same weights reach {truth} on held-out groups"
    difference = leak["difference"].get("macro_f1")
    if not difference:
        return f"{text}."
    return f"{text}, {wording.with_interval(difference, signed=True)}: {wording.verdict_sentence(difference)}."


def _claims(content: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Write what each cell with federated arms shows against the references, cell by cell."""
    found = []
    for name, cell in content["cells"].items():
        by_arm = (cell.get("claims") or {}).items()
        sentences = [sentence for arm, claims in by_arm for sentence in claim_sentences(arm, claims)]
        if sentences:
            found.append((f"{name}: claims", sentences))
    return found


def _reached(block: Block, row: Row) -> str:
    return " and ".join(
        f"{block.name_of(metric)} {wording.with_interval(row.figure(metric, block.place_of(metric)))}"
        for metric in COMPARED
    )


def _decided_differences(block: Block) -> list[str]:
    if len(block.rows) == 1:
        return []  # a study of one cell, for example on several folds
    decided, inconclusive = [], []
    for row in block.rows:
        paired = [(metric, row.difference(metric, block.place_of(metric))) for metric in COMPARED]
        apart = [
            f"{block.name_of(metric)} {wording.with_interval(found, signed=True)}, {wording.verdict(found)}"
            for metric, found in paired
            if found and wording.is_decided(found)
        ]
        if apart:
            decided.append(f"{row.cell}: {', '.join(apart)}")
        elif any(found for _, found in paired):
            inconclusive.append(row.cell)
    if not decided and not inconclusive:
        return ["No other cell could be compared with it."]
    sentences = [f"Cells whose interval of the paired difference excludes 0: {'; '.join(decided)}."] if decided else []
    if inconclusive:
        first = "No cell differs from it beyond chance" if not decided else "Inconclusive"
        sentences.append(f"{first}: {', '.join(inconclusive)}. That does not show that they equal the default.")
    return sentences


def _multiple_comparisons(found: list[Block]) -> str:
    cells = {row.cell for block in found for row in block.rows if row.differences}
    intervals = sum(
        row.difference(metric, block.place_of(metric)) is not None
        for block in found
        for row in block.rows
        for metric in COMPARED
    )
    if not intervals:
        return ""
    return (
        f"{len(cells)} {'cell was' if len(cells) == 1 else 'cells were'} compared with the default in {intervals} "
        f"intervals at 95 %, without correction. If there were no difference at all, about {intervals * 0.05:.1f} of "
        "them would exclude 0 by chance."
    )


def _without_figures(content: dict[str, Any]) -> str:
    names = [name for name, cell in content["cells"].items() if cell["state"] != "finished"]
    return f"Cells without figures: {', '.join(names)}." if names else ""


def _lost_classes(content: dict[str, Any], found: list[Block]) -> str:
    lost: dict[tuple[str, str], list[str]] = {}
    for block in found:
        for row in block.rows:
            for label in content["classes"]:
                recall = (row.metrics.get("sensitivity") or {}).get(label)
                if recall and recall["value"] < wording.GUESSING:
                    lost.setdefault((block.title, label), []).append(f"{row.cell} {wording.value(recall)}")
    listed = "; ".join(f"{label} ({title}): {', '.join(cells)}" for (title, label), cells in lost.items())
    return f"A class is found less often than by random guessing: {listed}." if lost else ""


def _few_groups(content: dict[str, Any]) -> str:
    few = {}
    for cell in content["cells"].values():
        for places in (cell.get("arms") or {}).values():
            for site in content["sites"]:
                groups = (places.get(site) or {}).get("groups")
                if groups is not None and groups < wording.FEW_GROUPS:
                    few[site] = groups
    listed = ", ".join(f"{site} ({groups})" for site, groups in few.items())
    return f"Few test groups, so the intervals are likely too narrow: {listed}." if few else ""


def _unequal_work(block: Block) -> str:
    steps = {row.cell: row.work["steps"] for row in block.rows if "steps" in row.work}
    if len(set(steps.values())) < 2:
        return ""
    listed = ", ".join(f"{cell} {count}" for cell, count in steps.items())
    return f"Cells did not take the same number of optimiser steps ({block.title}): {listed}."


def _own_rows(found: list[Block]) -> str:
    names = list(dict.fromkeys(row.cell for block in found for row in block.rows if row.leaky))
    if not names:
        return ""
    return (
        f"Scored on their own test images, from a split that leaks: {', '.join(names)}. Their figures are claims, "
        "not comparable with those of the default."
    )


def _one_seed(found: list[Block]) -> str:
    rows = [row for block in found for row in block.rows if row.metrics]
    if not rows or any("spread" in (row.metrics.get("accuracy") or {}) for row in rows):
        return ""
    return "Every cell was trained once. Another seed would give other figures; how different is unknown."


def _notes_on_data(content: dict[str, Any]) -> str:
    """Refer to the notes on the sites' data, which name files and patients and so are not in the study's results."""
    noted = {name: facts["noted"] for name, facts in content["sites"].items() if facts.get("noted")}
    if not noted:
        return ""
    listed = ", ".join(f"{site} ({count})" for site, count in noted.items())
    return f"There are notes on the data of {listed}: the report in the folder of a cell lists them."
