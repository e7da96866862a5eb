"""Checks of a site's images: whether they can be read and split, whether there are enough of each class.

`fedbus check` shows files by name. Here they are only counted, because the results may leave the site.
"""

from clients.check.results import CheckResult, count
from fedbus.classes import CLASSES
from fedbus.settings.schema import Settings
from fedbus.sites.inspection import Inspection
from fedbus.sites.split import SPLITS

SEE = "`fedbus check` names them."

EFFECTS = {
    "mask": "leaves the class unchanged",
    "plain": "drives the shared model away from the class",
    "restricted": "drives the shared model away from the class, by missing-strength less",
    "softened": "drives the shared model away from the class, missing-strength times as strongly",
    "balanced": "hardly affects the class",
    "distil": "keeps what the shared model has learned of the class",
}
"""What training at a site does to a class that the site lacks, by missing-classes policy."""


def check_data(inspection: Inspection, settings: Settings, steps: int | None, unsplittable: str) -> list[CheckResult]:
    """Check a dataset against what a run needs.

    Args:
        inspection: What the dataset contains.
        settings: The run's settings; folds, image size and missing-classes policy count.
        steps: Optimiser steps of a round on its training rows; None if it could not be split, or that was not tried.
        unsplittable: Why it can't be split into train, validation and test; empty if it can.
    """
    return [
        _files(inspection),
        *(_class(name, inspection, settings, bool(unsplittable)) for name in CLASSES),
        _split(steps, unsplittable, settings),
        _patients(inspection),
        _identical_images(inspection),
        _near_duplicates(inspection),
        _two_labels(inspection),
        *_image_size(inspection, settings),
        *_notes(inspection),
    ]


def unreadable_dataset(reader: str, present: bool) -> CheckResult:
    """The result if not even the list of images can be read; without the reason, which may name files."""
    if not present:
        return CheckResult("Files", "fail", "the folder of the images does not exist", "Set it: --data READER=FOLDER.")
    found = f"the folder can't be read as {reader}"
    return CheckResult("Files", "fail", found, "`fedbus check` shows why.")


def _files(inspection: Inspection) -> CheckResult:
    images, broken = sum(inspection.counts.values()), len(inspection.unreadable)
    if broken:
        return CheckResult("Files", "fail", f"{broken} of {count(images, 'image')} can't be read", f"Fix them. {SEE}")
    return CheckResult("Files", "pass", f"all {count(images, 'image')} can be read")


def _class(name: str, inspection: Inspection, settings: Settings, unsplittable: bool) -> CheckResult:
    topic, images = f"Class {name}", inspection.counts[name]
    if images == 0:
        effect = EFFECTS[settings.missing_classes]
        found = f'no image; missing-classes = "{settings.missing_classes}": training at this site {effect}'
        return CheckResult(topic, "warn", found, "Tell the coordinator if the hospital has such images.")
    found = count(images, "image")
    if images < len(SPLITS) or (unsplittable and images < settings.folds):
        found += f", too few for {settings.folds} folds and one each in train, validation and test"
        return CheckResult(topic, "fail", found, "Add images of this class, or remove the class.")
    if images < settings.folds:
        found += f" for {settings.folds} folds: some test splits lack this class"
        return CheckResult(topic, "warn", found, "Add images of this class.")
    return CheckResult(topic, "pass", found)


def _split(steps: int | None, unsplittable: str, settings: Settings) -> CheckResult:
    if unsplittable:
        remedy = (
            "Add patients of the rare class, or ask the coordinator for fewer folds or a larger validation-fraction."
        )
        return CheckResult("Split", "fail", unsplittable, remedy)
    if steps is None:
        return CheckResult("Split", "warn", "not tried because of the other failures", "Fix those first.")
    found = f"every class of this site in train, validation and test ({settings.folds} folds)"
    return CheckResult("Split", "pass", found)


def _patients(inspection: Inspection) -> CheckResult:
    if inspection.patients is None:
        found = "unknown: one patient's images may be in both training and test"
        return CheckResult("Patients", "warn", found, "List the images in a labels.csv with a patient column.")
    return CheckResult("Patients", "pass", f"{count(inspection.patients, 'patient')}; each in one split only")


def _identical_images(inspection: Inspection) -> CheckResult:
    pairs = sum(pair.labels[0] == pair.labels[1] for pair in inspection.identical_pairs)
    found = f"{count(pairs, 'pair')}, kept in one split" if pairs else "none with the same label"
    return CheckResult("Identical images", "pass", found)


def _near_duplicates(inspection: Inspection) -> CheckResult:
    pairs = len(inspection.near_duplicates)
    bits = f"up to {inspection.near_bits} of 256 bits apart"
    found = f"{count(pairs, 'pair')}, {bits}, kept in one split" if pairs else f"none {bits}"
    return CheckResult("Near-duplicates", "pass", found)


def _two_labels(inspection: Inspection) -> CheckResult:
    pairs = inspection.conflicting_pairs
    if not pairs:
        return CheckResult("Two labels", "pass", "no image appears under two labels")
    identical = len({path for pair in pairs if pair.identical for path in (pair.first, pair.second)})
    near = sum(not pair.identical for pair in pairs)
    found = []
    if identical:
        found.append(f"{count(identical, 'identical image')} under two labels: left out")
    if near:
        found.append(f"{count(near, 'pair')} of near-duplicates under two labels: kept, in one split")
    return CheckResult("Two labels", "warn", "; ".join(found), f"Find out which label is right. {SEE}")


def _image_size(inspection: Inspection, settings: Settings) -> list[CheckResult]:
    if inspection.widths is None or inspection.heights is None:
        return []
    (_, width, _), (_, height, _) = inspection.widths, inspection.heights
    found = f"median {width:g} x {height:g} pixels"
    if min(width, height) < settings.image_size:
        found += f", smaller than the {settings.image_size} of the settings: enlarging adds nothing"
        return [CheckResult("Image size", "warn", found, "Export the images at the scanner's own size.")]
    return [CheckResult("Image size", "pass", f"{found}; trained at {settings.image_size}")]


def _notes(inspection: Inspection) -> list[CheckResult]:
    """Count masks and the inspection's notes, whose text names files."""
    if inspection.masks:
        found = f"{count(len(inspection.masks), 'image')} that are masks of others, or of which half a class consists"
        results = [CheckResult("Masks", "fail", found, f"Move masks out of the folder. {SEE}")]
    elif inspection.doubtful:
        found = f"{count(inspection.doubtful, 'image')} with as few grey values as a mask"
        results = [CheckResult("Masks", "warn", found, f"Remove masks from the folder. {SEE}")]
    else:
        results = [CheckResult("Masks", "pass", "no image looks like a mask")]
    elsewhere = (inspection.doubtful, inspection.patients is None, inspection.conflicting_pairs)  # each has a note
    others = len(inspection.notes) - sum(map(bool, elsewhere))
    if others:
        found = f"{count(others, 'note')} about the dataset and its split"
        results.append(CheckResult("Notes", "warn", found, "`fedbus check` shows them."))
    return results
