"""What to know about a dataset and its split before anything is trained on it.

`fedbus check` and a comparison print the same notes, and the comparison's report repeats them.
"""

from collections import Counter
from collections.abc import Sequence

from fedbus.errors import listed
from fedbus.sites.annotated_copies import annotated_copies_note
from fedbus.sites.groups import Pair
from fedbus.sites.split import SplitTable
from fedbus.sites.split_dataset import GroupedRows

LARGE_SHARE = 1 / 3
"""A patient with a larger share of a site's images dominates the split that it is in."""

FEW_IMAGES, FEW_PATIENTS = 10, 5
"""With fewer of a class in a split, one more or less of them changes its metrics by a tenth or a fifth."""

UNKNOWN_PATIENTS = (
    "no patient is known, so images of one patient may be in both training and test: only near-duplicates are kept "
    "together"
)
"""The note on a dataset without patient ids."""

_USES = {"test": "its metrics rest on these", "validation": "the choice of a round rests on these"}


def dataset_notes(dataset: GroupedRows, pairs: Sequence[Pair]) -> list[str]:
    """Note unknown patients, a patient or group with many of the images, duplicates under two labels, annotated copies.

    Args:
        dataset: The rows of a dataset with their groups.
        pairs: Near-duplicates among them, identical images included.
    """
    return [
        *_unknown_patients(dataset),
        *_large_share(dataset),
        *_two_labels(dataset, pairs),
        *annotated_copies_note(dataset.rows, pairs),
    ]


def split_notes(split: SplitTable) -> list[str]:
    """Note the classes of which few images or patients are in the test or the validation split."""
    notes = []
    for name, use in _USES.items():
        few = [text for label in split.counts[name] if (text := _describe_few(split, name, label))]
        if few:
            notes.append(f"few {name} images of a class, and {use}: {', '.join(few)}")
    return notes


def _unknown_patients(dataset: GroupedRows) -> list[str]:
    if any(row.patient for row in dataset.rows):
        return []
    return [UNKNOWN_PATIENTS]


def _large_share(dataset: GroupedRows) -> list[str]:
    total = len(dataset.kept)
    patients = Counter(dataset.rows[i].patient for i in dataset.kept if dataset.rows[i].patient)
    for patient, images in patients.most_common(1):
        if images > LARGE_SHARE * total:
            return [f"patient {patient} has {images} of {total} images, more than a third"]
    for group, images in Counter(dataset.groups[i] for i in dataset.kept).most_common(1):
        if images > LARGE_SHARE * total:
            example = next(dataset.rows[i].path for i in dataset.kept if dataset.groups[i] == group)
            return [
                f"one group of patients and near-duplicates that must stay together has {images} of {total} images, "
                f"more than a third, for example {example}"
            ]
    return []


def _two_labels(dataset: GroupedRows, pairs: Sequence[Pair]) -> list[str]:
    rows = dataset.rows
    found = [f"{rows[p.first].path} and {rows[p.second].path}" for p in pairs if _labels_differ(dataset, p)]
    if not found:
        return []
    return [
        f"{len(found)} pair(s) of duplicates under two labels, of which identical images are left out: "
        f"{listed(found, most=3)}"
    ]


def _labels_differ(dataset: GroupedRows, pair: Pair) -> bool:
    return dataset.rows[pair.first].label != dataset.rows[pair.second].label


def _describe_few(split: SplitTable, name: str, label: str) -> str:
    """The number of a class's images and patients in a split, if there are few; empty if there are enough or none."""
    rows = [row for row in split.rows if row.split == name and row.label == label]
    images, groups = len({row.path for row in rows}), len({row.group for row in rows})
    if not rows or (images >= FEW_IMAGES and groups >= FEW_PATIENTS):
        return ""
    known = all(row.patient for row in rows)
    owners = len({row.patient for row in rows}) if known else groups
    return f"{label} {images} of {owners} {'patient(s)' if known else 'group(s)'}"
