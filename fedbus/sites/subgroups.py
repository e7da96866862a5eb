"""The subgroups of each site's images, by scanner, side, BI-RADS or size of the lesion, and their file.

`subgroups/SITE.csv` in the run folder has the columns `path` and one per attribute; an empty cell means unknown. It is
as confidential as the split. A site without attributes has no file.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from fedbus.datasets.attributes import OWN_TABLE, Attributes, choose_columns, read_attributes
from fedbus.datasets.manifest import Manifest
from fedbus.errors import RunError
from fedbus.settings.schema import Settings
from fedbus.sites.attribute_groups import group_values
from fedbus.sites.lesion_size import COLUMN, NO_LESION, measure_lesions
from fedbus.system.csv_file import read_csv, write_csv
from fedbus.system.files import write_text

PATH = "path"


def find_subgroups(manifests: Mapping[str, Manifest], settings: Settings) -> dict[str, tuple[Attributes, list[str]]]:
    """Find the subgroup of every image by every attribute.

    Args:
        manifests: By site its images.
        settings: Settings of the comparison, which name columns of `labels.csv`.

    Returns:
        By site the group of each image by column, and notes on columns and masks that can't be used.

    Raises:
        SettingsError: If the settings name a column that no site has.
        ArchiveError: If a dataset is no longer one that its reader accepts.
    """
    readers = {site: settings.sites[site].reader for site in manifests}
    own = [site for site, reader in readers.items() if reader == OWN_TABLE]
    cells = {
        site: read_attributes(readers[site], manifest.root, [row.path for row in manifest.rows])
        for site, manifest in manifests.items()
        if settings.subgroups or site not in own
    }
    chosen = choose_columns({site: list(cells[site]) for site in own if site in cells}, settings.subgroups)
    found = {}
    for site, manifest in manifests.items():
        columns = {name: cells[site][name] for name in chosen.get(site, cells.get(site, {}))}
        sizes, notes = measure_lesions(manifest, readers[site])
        if sizes is not None:
            columns[COLUMN] = sizes
        grouped = {name: group_values(name, values, (NO_LESION,)) for name, values in columns.items()}
        groups = {name: values for name, (values, _) in grouped.items() if values is not None}
        found[site] = groups, [*notes, *(note for _, note in grouped.values() if note)]
    return found


def subgroups_path(out: Path, site: str) -> Path:
    """The file with a site's subgroups in a run folder."""
    return out / "subgroups" / f"{site}.csv"


def write_subgroups(out: Path, site: str, paths: Sequence[str], groups: Attributes) -> None:
    """Write a site's subgroups; without attributes, remove the file of an earlier start.

    Raises:
        RunError: If the disk is full.
    """
    path = subgroups_path(out, site)
    if groups:
        write_text(path, write_csv((PATH, *groups), zip(paths, *groups.values(), strict=True)))
    else:
        path.unlink(missing_ok=True)


def read_subgroups(out: Path, site: str) -> dict[str, dict[str, str]]:
    """Read a site's subgroups: by column the group of each image's path, empty where unknown.

    Returns:
        Nothing for a site without attributes.

    Raises:
        RunError: If the file is damaged.
    """
    path = subgroups_path(out, site)
    if not path.is_file():
        return {}
    try:
        (first, *columns), *rows = read_csv(path.read_bytes().decode())
        if first != PATH or not columns or any(len(row) != len(columns) + 1 for row in rows):
            raise ValueError(f"its header is {first},{','.join(columns)}")
    except (OSError, ValueError, csv.Error) as error:
        raise RunError(
            f"{path} can't be read as subgroups ({error}).", "Rerun the comparison with --resume: it writes it again."
        ) from error
    return {column: {row[0]: row[i] for row in rows} for i, column in enumerate(columns, start=1)}
