"""Count burned-in annotations that the detector finds, by dataset and class, and compare with BUS-UCLM's own column.

python -m simulations.benchmarks.burned_in_annotations READER=FOLDER ...
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
from fedbus.datasets.registry import read_dataset
from fedbus.errors import FedbusError
from fedbus.images.burned_in import find_annotations
from fedbus.images.decode import decode_image
from fedbus.settings.load import parse_sites


def main(sites: Annotated[list[str], typer.Argument(help="Datasets: READER=FOLDER, or NAME=READER:FOLDER.")]) -> None:
    """Print the annotated images by dataset and class and, for BUS-UCLM, the detector against the dataset's column."""
    console = Console()
    try:
        for name, source in parse_sites(sites).items():
            root = Path(source["path"])
            manifest = read_dataset(source["reader"], root, name)
            found = annotated_images(manifest, console)
            console.print(class_table(manifest, found))
            if source["reader"] == "bus-uclm":
                console.print(agreement_table(name, agreement(found, bus_uclm.published_annotations(root))))
    except FedbusError as error:
        console.print(str(error), markup=False)
        raise typer.Exit(1) from None


def annotated_images(manifest: Manifest, console: Console) -> dict[str, bool]:
    """Return for each image, by its path, whether the detector finds an annotation."""
    paths = [row.path for row in manifest.rows]

    def is_annotated(path: str) -> bool:
        return bool(find_annotations(np.asarray(decode_image(manifest.root / path))).any())

    with ThreadPoolExecutor() as pool:
        answers = pool.map(is_annotated, paths)
        return dict(zip(paths, track(answers, manifest.site, len(paths), console=console, transient=True), strict=True))


def agreement(found: Mapping[str, bool], published: Mapping[str, bool]) -> Counter[tuple[bool, bool]]:
    """Count images by (the dataset's column, what the detector found)."""
    return Counter((published[path], found[path]) for path in found)


def class_table(manifest: Manifest, found: Mapping[str, bool]) -> Table:
    """Make the table of annotated images by class."""
    table = Table("class", "images", "annotated", "share", title=f"{manifest.site}: annotations found")
    for name in CLASSES:
        annotated = [found[row.path] for row in manifest.rows if row.label == name]
        if annotated:
            table.add_row(name, str(len(annotated)), str(sum(annotated)), f"{sum(annotated) / len(annotated):.2f}")
    return table


def agreement_table(site: str, counts: Counter[tuple[bool, bool]]) -> Table:
    """Make the table of what the detector found where the dataset's column is yes, and where it is no."""
    table = Table("column Marks", "images", "annotations found", "share", title=f"{site}: detector against dataset")
    for published, answer in ((True, "yes"), (False, "no")):
        hits, images = counts[published, True], counts[published, True] + counts[published, False]
        table.add_row(answer, str(images), str(hits), f"{hits / images:.2f}" if images else "n/a")
    return table


if __name__ == "__main__":
    typer.run(main)
