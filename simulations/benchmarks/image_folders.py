"""A case's images as folders for torchvision's `ImageFolder`, for benchmarks of code written with it."""

from pathlib import Path

from fedbus.classes import CLASSES
from fedbus.errors import RunError, SettingsError
from fedbus.images.decode import split_frame
from fedbus.images.file_kind import is_dicom
from fedbus.sites.site import Site
from fedbus.sites.split import SPLITS
from fedbus.training.rows import POOLED
from simulations.benchmarks.case import Case


def write_image_folders(case: Case, root: Path) -> dict[str, Path]:
    """Lay out the splits as `root/SITE/SPLIT/CLASS/`, with links to the datasets' images instead of copies.

    Every split has a folder for every class, even if a site lacks the class: `ImageFolder` numbers the folders that it
    finds in the order of their names, which equals the positions in `CLASSES` only if all three exist.

    Args:
        case: The prepared case; its datasets must still be at the paths in its settings.
        root: Folder of the trees; created with its parents, and must not contain any yet.

    Returns:
        The folder of each site, and under `pooled` that of all sites' images together; each contains `train`,
        `validation` and `test`.

    Raises:
        RunError: If `root` already contains trees, or can't be written.
        SettingsError: If a dataset contains DICOM, which `ImageFolder` can't read.
    """
    folders = {name: root / name for name in [*case.sites, POOLED]}
    try:
        for folder in folders.values():
            for split in SPLITS:
                for label in CLASSES:
                    (folder / split / label).mkdir(parents=True)
        for name, site in case.sites.items():
            for split in SPLITS:
                _link(site, case.settings.sites[name].path, split, [folders[name], folders[POOLED]])
    except OSError as error:
        raise RunError(f"Links to images can't be created in {root} ({error}).", "Choose a new folder.") from error
    return folders


def _link(site: Site, dataset: Path, split: str, folders: list[Path]) -> None:
    for row in site.splits[split]:
        original = dataset.absolute() / str(site.paths[row])
        if is_dicom(split_frame(original)[0]):
            raise SettingsError(f"{original} is DICOM, and ImageFolder can't read it.", "Benchmark other datasets.")
        for folder in folders:
            link = folder / split / CLASSES[site.labels[row]] / f"{site.name}-{row:06d}{original.suffix}"
            link.symlink_to(original)
