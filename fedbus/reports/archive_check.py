"""`fedbus check`: inspect the sites' datasets before a comparison, and report what a data manager has to fix."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from fedbus.classes import CLASSES
from fedbus.datasets.registry import find_reader
from fedbus.errors import FedbusError, RunError
from fedbus.settings.schema import Settings
from fedbus.sites.inspect_dataset import inspect_dataset
from fedbus.sites.inspection import DuplicatePair, Inspection
from fedbus.sites.masks import masks_error
from fedbus.system.files import write_json
from fedbus.system.progress import Advance
from fedbus.system.terminal import BAD, GOOD, QUIET, advance_task, plain_table, progress_bar

NEAR_BITS: int = Settings.model_fields["near_bits"].default
FOLDS: int = Settings.model_fields["folds"].default
SHOWN_PAIRS = 10
MODES = {
    "L": "grey",
    "LA": "grey with transparency",
    "RGB": "colour",
    "RGBA": "colour with transparency",
    "P": "palette",
    "1": "black and white",
}


def check_sites(
    specs: Sequence[tuple[str, str, Path]], out: Path | None, console: Console, near_bits: int = NEAR_BITS
) -> int:
    """Inspect every site, print the findings and the next step, and write all findings as JSON.

    Args:
        specs: (site, reader, root of its dataset).
        out: The JSON file, written completely or not at all; None: `check.json` in the current folder.
        console: Where to print.
        near_bits: Images whose hashes differ in at most this many of 256 bits are near-duplicates.

    Returns:
        The exit code: 0 if every site can be used, 1 otherwise.

    Raises:
        SettingsError: If a reader does not exist; nothing has been inspected.
        RunError: If the JSON file can't be written.
    """
    for _, reader, _ in specs:
        find_reader(reader)
    out = out or Path("check.json")
    reports: list[dict[str, Any]] = []
    for site, reader, root in specs:
        try:
            inspection = _inspect(site, reader, root, near_bits, console)
        except FedbusError as error:
            console.print(_render_refusal(site, reader, root, error))
            failure = {"problem": error.problem, "remedy": error.remedy}
            reports.append({"site": site, "reader": reader, "root": str(root), "usable": False, **failure})
        else:
            console.print(render(inspection))
            reports.append(inspection.to_json())
    write_json(out, {"sites": reports})
    usable = [spec for spec, report in zip(specs, reports, strict=True) if report["usable"]]
    folds = min((report["folds"] for report in reports if report["usable"]), default=0)
    console.print(_next_step(specs, usable, folds, out), soft_wrap=True)
    return 0 if len(usable) == len(specs) else 1


def _inspect(site: str, reader: str, root: Path, near_bits: int, console: Console) -> Inspection:
    """Inspect one dataset.

    Raises:
        FedbusError: If it can't be read, or the inspection itself fails: the findings of other sites must not be lost.
    """
    with progress_bar(console) as bar:
        listing = bar.add_task(f"Listing {site}", total=None)  # until the number of images is known

        def start_decoding(name: str, total: int) -> Advance:
            bar.remove_task(listing)
            return advance_task(bar, f"Reading {name}", total)

        try:
            return inspect_dataset(reader, root, site, near_bits, start_decoding)
        except FedbusError:
            raise
        except Exception as error:  # a fault in FedBUS or a library, foreseen by nobody
            raise RunError(
                f"{root} could not be checked ({type(error).__name__}: {error}).",
                "This is a fault of FedBUS: report it, with this line.",
            ) from error


def render(inspection: Inspection) -> RenderableType:
    """Lay out an inspection for the terminal: verdict, classes, facts, unreadable files, duplicates, notes."""
    images = sum(inspection.counts.values())
    broken = len(inspection.unreadable)
    if inspection.usable:
        verdict = Text(f"✔ can be used: {images} images", style=GOOD)
    elif broken:
        verdict = Text(f"✘ can't be used yet: {broken} of {images} images can't be read", style=BAD)
    elif inspection.masks:
        verdict = Text(f"✘ can't be used yet: {len(inspection.masks)} of {images} images are masks", style=BAD)
    else:
        verdict = Text(f"✘ can't be used yet: {inspection.unsplittable}", style=BAD)
    parts: list[RenderableType] = [
        *_heading(inspection.site, inspection.reader, inspection.root),
        verdict,
        _classes(inspection),
        _facts(inspection),
    ]
    if inspection.unreadable:
        parts.append(_unreadable(inspection))
    if inspection.masks:
        error = masks_error(inspection.root, inspection.masks)
        faults = Group(_hanging("✘", Text(error.problem, style=BAD)), _hanging("→", Text(error.remedy)))
        parts.append(Padding(faults, (0, 0, 1, 2)))
    if inspection.conflicting_pairs:
        parts.append(_contradictions(inspection))
    if inspection.notes:
        notes = Group(*(_hanging("•", Text(f"Note: {note}.")) for note in inspection.notes))
        parts.append(Padding(notes, (0, 0, 1, 2)))
    return Group(*parts)


def _heading(site: str, reader: str, root: Path) -> tuple[RenderableType, ...]:
    where = Text(f"{root}", overflow="fold").append(f"  (read with {reader})", style=QUIET)
    return Rule(Text(site, style="bold"), align="left", style=QUIET), where


def _classes(inspection: Inspection) -> RenderableType:
    census = inspection.census
    table = plain_table("Class")
    table.add_column("Images", justify="right")
    if census is not None:
        table.add_column("Published", justify="right")
        table.add_column("")
    for name in CLASSES:
        found = inspection.counts[name]
        cells = [Text(name), Text(str(found))]
        if census is not None:
            missing = census[name] - found
            agrees = Text("✔", style=GOOD)
            differs = Text(f"✘ {abs(missing)} {'missing' if missing > 0 else 'too many'}", style=BAD)
            cells += [Text(str(census[name])), differs if missing else agrees]
        table.add_row(*cells)
    return Padding(table, (1, 0, 1, 2))


def _facts(inspection: Inspection) -> RenderableType:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("Patients", _patients(inspection))
    if inspection.widths is not None and inspection.heights is not None:
        table.add_row("Width", _spread(inspection.widths))
        table.add_row("Height", _spread(inspection.heights))
        table.add_row("Stored as", ", ".join(f"{MODES.get(m, m)} {n}" for m, n in inspection.modes.items()))
    table.add_row("Identical", _pairs(inspection.identical_pairs))
    distance = f", up to {inspection.near_bits} of 256 bits apart"
    table.add_row("Near-duplicates", _pairs(inspection.near_duplicates, distance))
    if inspection.census is not None:
        table.add_row("Terms", find_reader(inspection.reader).terms)
    return Padding(table, (0, 0, 1, 2))


def _patients(inspection: Inspection) -> str:
    if inspection.patients is None or inspection.images_per_patient is None:
        return "unknown, see below"
    middle, most = inspection.images_per_patient
    return f"{inspection.patients} (images of each: {middle:g} in the median, {most} at most)"


def _spread(values: tuple[int, float, int]) -> str:
    low, middle, high = values
    return f"{low} pixels" if low == high else f"{low} to {high} pixels, median {middle:g}"


def _pairs(pairs: Sequence[DuplicatePair], distance: str = "") -> str:
    if not pairs:
        return "none"
    conflicts = sum(pair.labels[0] != pair.labels[1] for pair in pairs)
    return f"{_count(pairs)}{distance}" + (f"; {conflicts} under two labels, see below" if conflicts else "")


def _count(pairs: Sequence[DuplicatePair]) -> str:
    return f"{len(pairs)} pair{'' if len(pairs) == 1 else 's'}"


def _unreadable(inspection: Inspection) -> RenderableType:
    table = plain_table("File", "Reason", "Remedy", title="Can't be read", title_style=BAD)
    for each in inspection.unreadable:
        table.add_row(Text(each.path), Text(each.reason), Text(each.remedy))
    return Padding(table, (0, 0, 1, 2))


def _contradictions(inspection: Inspection) -> RenderableType:
    pairs = inspection.conflicting_pairs
    shared = os.path.commonpath([path for pair in pairs for path in (pair.first, pair.second)])
    title = f"! Duplicates under two labels: {_count(pairs)}"
    table = plain_table("Labels", "One file", "Other file", "Bits", title=title, title_style=BAD)
    for pair in pairs[:SHOWN_PAIRS]:
        table.add_row(*_contradiction(pair, shared))
    hidden = len(pairs) - SHOWN_PAIRS
    rest = [Text(f"and {hidden} more in the JSON file")] if hidden > 0 else []
    meaning = Text(
        "Only the site can tell which label is right. A comparison leaves out identical images under two labels. "
        "All other duplicates are used, and stay together when images are split into training, validation and test.",
        style=QUIET,
    )
    return Padding(Group(table, *rest, meaning), (0, 0, 1, 2))


def _contradiction(pair: DuplicatePair, shared: str) -> tuple[Text, ...]:
    difference = "same" if pair.identical else str(pair.bits)
    files = [Path(path).relative_to(shared).as_posix() for path in (pair.first, pair.second)]
    return Text("/".join(pair.labels)), *map(Text, files), Text(difference)


def _render_refusal(site: str, reader: str, root: Path, error: FedbusError) -> RenderableType:
    return Group(
        *_heading(site, reader, root),
        _hanging("✘", Text(f"can't be used: {error.problem}", style=BAD)),
        Padding(_hanging("→", Text(error.remedy)), (0, 0, 1, 0)),
    )


def _next_step(
    specs: Sequence[tuple[str, str, Path]], usable: Sequence[tuple[str, str, Path]], folds: int, out: Path
) -> RenderableType:
    lines = Text()
    failed = [site for site, reader, root in specs if (site, reader, root) not in usable]
    if failed:
        lines.append(f"✘ Fix {', '.join(failed)} and check again.\n", style=BAD)
    if usable:
        fewer = [f"--set folds={folds}"] if folds < FOLDS else []
        command = " \\\n    ".join(["fedbus compare", *(f"--site {_spell(*spec)}" for spec in usable), *fewer])
        lines.append("Meanwhile, the others: " if failed else "Next: ").append(f"{command}\n", style="bold")
    return lines.append(f"All findings, with every pair of files: {out}", style=QUIET)


def _spell(site: str, reader: str, root: Path) -> str:
    return shlex.quote(f"{site}={root}" if site == reader else f"{site}={reader}:{root}")


def _hanging(sign: str, text: Text) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(sign, text)
    return table
