"""Where the detector of burned-in marks finds any, by archive and class, and how far BUS-UCLM's own column agrees.

python -m simulations.benchmarks.burned_in_marks NAME=PATH ...
"""

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from fedbus.classes import CLASSES
from fedbus.datasets.manifest import Manifest
from fedbus.datasets.readers import bus_uclm
from fedbus.datasets.registry import read_archive
from fedbus.errors import FedbusError
from fedbus.images.burned_in import find_annotations
from fedbus.images.decode import decode_image
from fedbus.settings.load import parse_sites


def main(sites: Annotated[list[str], typer.Argument(help="Archives, as NAME=PATH or NAME=READER:PATH.")]) -> None:
    """Print two tables: pictures with marks by archive and class; detector against column, where one tells."""
    console = Console()
    try:
        for name, source in parse_sites(sites).items():
            root = Path(source["path"])
            manifest = read_archive(source["reader"], root, name)
            found = marked_pictures(manifest, console)
            console.print(class_table(manifest, found))
            if source["reader"] == "bus-uclm":
                console.print(agreement_table(name, agreement(found, bus_uclm.published_annotations(root))))
    except FedbusError as error:
        console.print(str(error), markup=False)
        raise typer.Exit(1) from None


def marked_pictures(manifest: Manifest, console: Console) -> dict[str, bool]:
    """Whether the detector finds any mark in each picture, by its path."""
    paths = [row.path for row in manifest.rows]

    def has_marks(path: str) -> bool:
        return bool(find_annotations(np.asarray(decode_image(manifest.root / path))).any())

    with ThreadPoolExecutor() as pool:
        answers = pool.map(has_marks, paths)
        return dict(zip(paths, track(answers, manifest.site, len(paths), console=console, transient=True), strict=True))


def agreement(found: Mapping[str, bool], told: Mapping[str, bool]) -> Counter[tuple[bool, bool]]:
    """Count pictures by (what the archive tells, what the detector found)."""
    return Counter((told[path], found[path]) for path in found)


def class_table(manifest: Manifest, found: Mapping[str, bool]) -> Table:
    """Pictures with marks of each class."""
    table = Table("class", "pictures", "with marks", "share", title=f"{manifest.site}: marks found")
    for name in CLASSES:
        marked = [found[row.path] for row in manifest.rows if row.label == name]
        if marked:
            table.add_row(name, str(len(marked)), str(sum(marked)), f"{sum(marked) / len(marked):.2f}")
    return table


def agreement_table(site: str, counts: Counter[tuple[bool, bool]]) -> Table:
    """What the detector found where the archive says yes, and where it says no."""
    table = Table("column Marks", "pictures", "marks found", "share", title=f"{site}: detector against archive")
    for told, answer in ((True, "yes"), (False, "no")):
        hits, pictures = counts[told, True], counts[told, True] + counts[told, False]
        table.add_row(answer, str(pictures), str(hits), f"{hits / pictures:.2f}" if pictures else "n/a")
    return table


if __name__ == "__main__":
    typer.run(main)
