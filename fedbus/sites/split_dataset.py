"""Which rows of a dataset are split, and the split of one dataset by a comparison's settings."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedbus.datasets.manifest import Row
from fedbus.errors import SplitError
from fedbus.seeds import derive_seed
from fedbus.settings.schema import Settings
from fedbus.sites.groups import Pair, group_rows, identical_rows
from fedbus.sites.leaky_split import leak_splits
from fedbus.sites.split import SplitRow, SplitTable, assign_splits


@dataclass(frozen=True)
class GroupedRows:
    """The rows of one dataset, ready to be split.

    Attributes:
        site: Name of the site.
        rows: Rows in the order of the manifest.
        groups: Group name of each row; rows of a group stay together.
        dropped: Reason of each row that is left out.
    """

    site: str
    rows: Sequence[Row]
    groups: Sequence[str]
    dropped: dict[int, str]

    @property
    def kept(self) -> list[int]:
        """Rows that are not dropped."""
        return [i for i in range(len(self.rows)) if i not in self.dropped]


def group_dataset(site: str, rows: Sequence[Row], digests: NDArray[np.uint8], pairs: Sequence[Pair]) -> GroupedRows:
    """Group the rows of a dataset and drop those whose labels contradict each other.

    Args:
        site: Name of the site.
        rows: Rows in the order of the manifest.
        digests: uint8 [N, 32], equal where images are identical.
        pairs: Near-duplicates, identical images included.
    """
    return GroupedRows(site, rows, group_rows([row.patient for row in rows], pairs), _conflicting_labels(rows, digests))


def _conflicting_labels(rows: Sequence[Row], digests: NDArray[np.uint8]) -> dict[int, str]:
    """Drop identical images under two labels: they teach a contradiction, and which label is right is unknown.

    Near-duplicates under two labels stay, in one group: neighbouring frames of a scan may show different things.
    """
    dropped = {}
    for identical in identical_rows(digests):
        if len({rows[i].label for i in identical}) > 1:
            for i in identical:
                others = ", ".join(rows[j].path for j in identical if j != i)
                dropped[i] = f"same image under another label: {others}"
    return dropped


def split_dataset(dataset: GroupedRows, settings: Settings) -> SplitTable:
    """Split the rows that are not dropped.

    Raises:
        SplitError: If fewer than two classes are left, or a class has too few groups. Its problem names no file.
    """
    site, rows, kept = dataset.site, dataset.rows, dataset.kept
    if settings.limit and len(kept) > settings.limit:
        kept = _limit(dataset, settings.limit, settings)
        lost = {rows[i].label for i in dataset.kept} - {rows[i].label for i in kept}
        if lost:
            raise SplitError(
                f"{site}: limit = {settings.limit} leaves no image of {', '.join(sorted(lost))}, as groups stay whole.",
                "Raise --set limit.",
            )
    _check_classes(dataset, kept)
    labels = [rows[i].label for i in kept]
    splits = assign_splits(
        site,
        labels,
        [dataset.groups[i] for i in kept],
        folds=settings.folds,
        fold=settings.fold,
        validation_fraction=settings.validation_fraction,
        seed=settings.split_seed,
    )
    if settings.split != "groups":
        chosen, splits = leak_splits(site, labels, splits, settings)
        kept = [kept[i] for i in chosen]
    return SplitTable(
        site,
        tuple(
            SplitRow(i, rows[i].path, rows[i].label, rows[i].patient or "", dataset.groups[i], split)
            for i, split in zip(kept, splits, strict=True)
        ),
    )


def _check_classes(dataset: GroupedRows, kept: Sequence[int]) -> None:
    if len({dataset.rows[i].label for i in kept}) > 1:
        return
    dropped = [f"{dataset.rows[i].path} ({why})" for i, why in sorted(dataset.dropped.items())]
    example = f", for example {dropped[0]}" if dropped else ""
    raise SplitError(
        f"{dataset.site}: {len(kept)} of {len(dataset.rows)} images are left, of fewer than two classes; "
        f"{len(dropped)} were dropped as duplicates.",
        f"Check the dropped images{example}, and that no dataset is named twice; or leave this site out.",
    )


def _limit(dataset: GroupedRows, limit: int, settings: Settings) -> list[int]:
    """At most `limit` rows: whole groups in random order, first as many of each class as a split needs."""
    members: dict[str, list[int]] = {}
    for i in dataset.kept:
        members.setdefault(dataset.groups[i], []).append(i)
    generator = np.random.default_rng(derive_seed(settings.split_seed, "limit", dataset.site))
    order = [sorted(members)[i] for i in generator.permutation(len(members))]
    commonest = {g: Counter(dataset.rows[i].label for i in members[g]).most_common(1)[0][0] for g in order}
    rank, seen = dict[str, int](), Counter[str]()
    for group in order:
        rank[group] = seen[commonest[group]]
        seen[commonest[group]] += 1
    order.sort(key=lambda g: rank[g] >= settings.folds)  # stable: the first `folds` groups of every class come first
    chosen: list[int] = []
    for group in order:
        if len(chosen) + len(members[group]) <= limit:
            chosen += members[group]
    return sorted(chosen)
