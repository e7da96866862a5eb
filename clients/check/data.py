"""Findings on a site's images: can they be read and parted, is there enough of each class, what is doubtful.

What `fedbus check` shows by name is only counted here, because these findings may leave the hospital.
"""

from clients.check.findings import Finding, count
from fedbus.classes import CLASSES
from fedbus.settings.schema import Settings
from fedbus.sites.inspection import Inspection
from fedbus.sites.split import SPLITS

SEE = "`fedbus check` names them."

EFFECTS = {
    "mask": "leaves the class alone",
    "plain": "drives the shared model away from the class",
    "restricted": "drives the shared model away from the class, by missing-strength less",
    "softened": "drives the shared model away from the class, missing-strength times as hard",
    "balanced": "hardly touches the class",
    "distil": "holds the shared model to what it knew of the class",
}
"""What a site's training does to a class that it has no images of, by missing-classes policy."""


def data_findings(inspection: Inspection, settings: Settings, steps: int | None, unsplittable: str) -> list[Finding]:
    """Judge an archive by what a study needs.

    Args:
        inspection: what is in it.
        settings: whose folds, image size and missing-classes policy count.
        steps: of a round on its training rows; None if it could not be parted, or that was not tried.
        unsplittable: why the study can't part it into train, validation and test.
    """
    return [
        _files(inspection),
        *(_class(name, inspection, settings, bool(unsplittable)) for name in CLASSES),
        _split(steps, unsplittable, settings),
        _patients(inspection),
        _copies(inspection),
        _near_copies(inspection),
        _two_labels(inspection),
        *_size(inspection, settings),
        *_notes(inspection),
    ]


def unreadable_archive(reader: str, present: bool) -> Finding:
    """The finding where not even the list of images can be read; the reason may name files, so it is not in here."""
    if not present:
        return Finding("Files", "fail", "the folder of the images is not there", "Name it with --data READER=FOLDER.")
    found = f"the folder can't be read as {reader}"
    return Finding("Files", "fail", found, "`fedbus check` says why.")


def _files(inspection: Inspection) -> Finding:
    images, broken = sum(inspection.counts.values()), len(inspection.unreadable)
    if broken:
        return Finding("Files", "fail", f"{broken} of {count(images, 'image')} can't be read", f"Mend them. {SEE}")
    return Finding("Files", "pass", f"all {count(images, 'image')} can be read")


def _class(name: str, inspection: Inspection, settings: Settings, unsplittable: bool) -> Finding:
    topic, images = f"Class {name}", inspection.counts[name]
    if images == 0:
        policy = (
            f'missing-classes = "{settings.missing_classes}": this site\'s training {EFFECTS[settings.missing_classes]}'
        )
        return Finding(topic, "warn", f"no image; {policy}", "Tell the coordinator if the hospital has such images.")
    found = count(images, "image")
    if images < len(SPLITS) or (unsplittable and images < settings.folds):
        least = f"too few for {settings.folds} folds and one each in train, validation and test"
        return Finding(topic, "fail", f"{found}, {least}", "Add images of that class, or leave the class out.")
    if images < settings.folds:
        return Finding(
            topic, "warn", f"{found} for {settings.folds} folds: some test parts lack it", "Add images of that class."
        )
    return Finding(topic, "pass", found)


def _split(steps: int | None, unsplittable: str, settings: Settings) -> Finding:
    if unsplittable:
        remedy = "Add patients of the rare class, or ask the coordinator for fewer folds."
        return Finding("Split", "fail", unsplittable, remedy)
    if steps is None:
        return Finding("Split", "warn", "not tried, because of the failures above or below", "Mend those first.")
    found = f"every class of this site in train, validation and test ({settings.folds} folds)"
    return Finding("Split", "pass", found)


def _patients(inspection: Inspection) -> Finding:
    if inspection.patients is None:
        found = "not known: one patient's images may be parted between training and test"
        return Finding("Patients", "warn", found, "List the images in a labels.csv with a patient column.")
    return Finding("Patients", "pass", f"{count(inspection.patients, 'patient')}; none is parted")


def _copies(inspection: Inspection) -> Finding:
    pairs = sum(pair.labels[0] == pair.labels[1] for pair in inspection.identical_pairs)
    found = (
        f"{count(pairs, 'pair')} of identical pictures, kept in one part"
        if pairs
        else "no identical pictures under one label"
    )
    return Finding("Copies", "pass", found)


def _near_copies(inspection: Inspection) -> Finding:
    pairs = len(inspection.near_duplicates)
    bits = f"up to {inspection.near_bits} of 256 bits apart"
    found = f"{count(pairs, 'pair')}, {bits}, kept in one part" if pairs else f"none {bits}"
    return Finding("Near copies", "pass", found)


def _two_labels(inspection: Inspection) -> Finding:
    pairs = inspection.conflicting_pairs
    if not pairs:
        return Finding("Two labels", "pass", "no picture stands under two labels")
    out = len({path for pair in pairs if pair.identical for path in (pair.first, pair.second)})
    near = sum(not pair.identical for pair in pairs)
    found = []
    if out:
        found.append(f"{count(out, 'identical picture')} under two labels: left out")
    if near:
        found.append(f"{count(near, 'pair')} of near copies under two labels: stay, in one part")
    return Finding("Two labels", "warn", "; ".join(found), f"Find out which label is right. {SEE}")


def _size(inspection: Inspection, settings: Settings) -> list[Finding]:
    if inspection.widths is None or inspection.heights is None:
        return []
    (_, width, _), (_, height, _) = inspection.widths, inspection.heights
    found = f"{width:g} x {height:g} pixels in the median"
    if min(width, height) < settings.image_size:
        found += f", smaller than the study's {settings.image_size}: enlarging adds nothing"
        return [Finding("Picture size", "warn", found, "Export the images at the scanner's own size.")]
    return [Finding("Picture size", "pass", f"{found}; the study takes {settings.image_size}")]


def _notes(inspection: Inspection) -> list[Finding]:
    """Count what the inspection noted; the notes themselves name files."""
    if inspection.masks:
        what = f"{count(inspection.masks, 'picture')} with as few grey values as a mask has"
        found = [Finding("Masks", "warn", what, f"Take masks out of the folder. {SEE}")]
    else:
        found = [Finding("Masks", "pass", "no picture looks like a mask")]
    others = len(inspection.notes) - bool(inspection.masks)  # one of them is on the masks
    if others:
        what = f"the reader has {count(others, 'note')} on the archive"
        found.append(Finding("Notes", "warn", what, "`fedbus check` shows them."))
    return found
