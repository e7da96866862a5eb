"""Check that no count that leaves a site is about too few images or patients."""

import numpy as np
from numpy.typing import NDArray

from clients.limits.limits import Limits
from clients.limits.refusal import refusal
from fedbus.classes import CLASSES
from fedbus.sites.site import Site
from fedbus.sites.split import SPLITS


def check_counts(site: Site, limits: Limits) -> None:
    """Check the images and the patients of every split and class. A class that the site lacks has no count.

    Raises:
        RefusedError: If there are too few. It names split and class, but not the count, which would then leave the site
            after all.
    """
    faults = []
    for split in SPLITS:
        rows = site.splits[split]
        if _patients(site, rows) < limits.min_split_patients:
            faults.append(
                f"fewer patients in {split} than this site's min-split-patients = {limits.min_split_patients}"
            )
        for label, name in enumerate(CLASSES):
            found = rows[site.labels[rows] == label]
            if not len(found):
                continue
            if len(np.unique(found)) < limits.min_images:
                faults.append(f"fewer {name} images in {split} than this site's min-images = {limits.min_images}")
            if _patients(site, found) < limits.min_patients:
                faults.append(f"fewer {name} patients in {split} than this site's min-patients = {limits.min_patients}")
    if faults:
        raise refusal(faults)


def _patients(site: Site, rows: NDArray[np.int64]) -> int:
    return len(np.unique(site.groups[rows]))
