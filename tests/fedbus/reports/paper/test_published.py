"""Which figures of a run are compared with the paper's, and how many images are published and used."""

import pytest

from fedbus.reports.paper.published import (
    ADDED_UP,
    COMBINED,
    DATASETS,
    NOT_IN_RUN,
    PUBLISHED,
    census,
    our_protocol,
    pair_with_paper,
)

THREE = {"BUSI": "busi", "BUS-UCLM": "bus-uclm", "Guangzhou": "gdph-sysucc"}


def results_of(readers, phantoms=False, **settings):
    """Results of a run: accuracy differs by arm and site, so that a mix-up shows."""
    places = [*readers, "all"]
    arms = [*(f"local-{site}" for site in readers), "centralised"]
    split = {"benign": 5, "malignant": 3, "normal": 1}
    return {
        "phantoms": phantoms,
        "classes": list(split),
        "settings": settings,
        "sites": {
            site: {"reader": reader, "images": 27, "splits": dict.fromkeys(("train", "validation", "test"), split)}
            | {"dropped": [{"path": "a.png", "reason": "copy"}]}
            for site, reader in readers.items()
        },
        "arms": {arm: {place: {"accuracy": {"value": f"{arm}@{place}"}} for place in places} for arm in arms},
    }


def figures(rows):
    """(dataset, the paper's accuracy, ours) of every row."""
    return [(row.dataset, row.paper and row.paper.accuracy, row.ours and row.ours["accuracy"]["value"]) for row in rows]


def test_each_dataset_is_paired_with_its_own_model_and_the_combination_with_the_centralised_one():
    assert figures(pair_with_paper(results_of(THREE))) == [
        ("BUSI", 0.9544, "local-BUSI@BUSI"),
        ("BUS-UCLM", 0.9722, "local-BUS-UCLM@BUS-UCLM"),
        ("GDPH&SYSUCC", 0.9572, "local-Guangzhou@Guangzhou"),
        (COMBINED, 0.9396, "centralised@all"),
    ]


@pytest.mark.parametrize("name", ["BUS-BRA", "GDPH&SYSUCC", "gdph-sysucc", "SYSUCC"])
def test_bus_bra_is_never_taken_for_another_dataset_whatever_its_site_is_called(name):
    rows = pair_with_paper(results_of({"BUSI": "busi", "BUS-UCLM": "bus-uclm", name: "bus-bra"}))
    of_bra = [row for row in rows if row.site == name]
    assert [(row.dataset, row.paper) for row in of_bra] == [("BUS-BRA", None)]
    assert of_bra[0].ours["accuracy"]["value"] == f"local-{name}@{name}"
    theirs = next(row for row in rows if row.dataset == "GDPH&SYSUCC")
    assert (theirs.paper.auc, theirs.ours, theirs.remark) == (0.9837, None, NOT_IN_RUN)


def test_another_combination_has_a_row_of_its_own_without_the_papers_figure():
    *_, theirs, ours = pair_with_paper(results_of({"A": "busi", "B": "bus-uclm", "C": "bus-bra"}))
    assert (theirs.dataset, theirs.ours, theirs.remark) == (COMBINED, None, NOT_IN_RUN)
    assert (ours.dataset, ours.paper) == ("BUSI + BUS-UCLM + BUS-BRA", None)
    assert ours.ours["accuracy"]["value"] == "centralised@all"


@pytest.mark.parametrize(
    ("readers", "same"),
    [
        (["busi", "bus-uclm", "gdph-sysucc"], True),
        (["sysucc", "bus-uclm", "gdph", "busi"], True),  # one dataset, two hospitals
        (["busi", "bus-uclm"], False),
        (["busi", "bus-uclm", "gdph"], False),
        (["busi", "busi", "bus-uclm", "gdph-sysucc"], False),
        (["busi", "bus-uclm", "gdph-sysucc", "bus-bra"], False),
        (["busi", "bus-uclm", "class-folders"], False),
    ],
)
def test_the_combined_figure_needs_exactly_the_papers_datasets(readers, same):
    rows = pair_with_paper(results_of({f"S{place}": reader for place, reader in enumerate(readers)}))
    combined = next(row for row in rows if row.dataset == COMBINED)
    assert (combined.ours is not None) is same
    assert all(row.paper is None or row.ours is None or row.dataset in (*DATASETS.values(), COMBINED) for row in rows)


def test_one_site_of_a_dataset_is_not_the_dataset():
    rows = {row.dataset: row for row in pair_with_paper(results_of({"BUSI": "busi", "G": "gdph", "S": "sysucc"}))}
    assert rows["GDPH&SYSUCC"].ours is None
    assert rows["GDPH"].paper is None
    assert rows["SYSUCC"].paper is None
    assert "half of GDPH&SYSUCC" in rows["GDPH"].remark


def test_arms_that_were_not_trained_leave_a_gap_with_its_reason():
    results = results_of(THREE)
    results["arms"] = {"fedavg": results["arms"]["centralised"]}
    rows = pair_with_paper(results)
    assert [row.ours for row in rows] == [None] * 4
    assert [row.remark for row in rows] == ["not trained alone in this run"] * 3 + ["no centralised arm in this run"]


def test_one_site_is_no_combination():
    assert [row.dataset for row in pair_with_paper(results_of({"BUSI": "busi"}))] == [
        "BUSI", "BUS-UCLM", "GDPH&SYSUCC", COMBINED,
    ]  # fmt: skip


def test_phantoms_and_sites_own_images_are_not_compared():
    own = results_of({"H1": "class-folders", "H2": "labels-csv"})
    between = results_of(THREE)
    for site in between["sites"].values():
        del site["reader"]  # a deployed run
    for results in (results_of({"P": "phantoms"}, phantoms=True), results_of(THREE, phantoms=True), own, between):
        assert pair_with_paper(results) == []
        assert census(results) == []


def test_the_papers_three_sums_do_not_agree():
    rows = {row.what: row for row in census(results_of(THREE))}
    assert rows["Stated in the paper"].images == 3971
    stated = rows["Classes stated in the paper, added up"]
    assert (stated.images, stated.classes) == (3563, {"benign": 1497, "malignant": 1819, "normal": 247})
    together = rows[ADDED_UP]
    assert (together.images, together.classes) == (3868, {"benign": 1497, "malignant": 1819, "normal": 552})
    assert sum(rows[DATASETS[reader]].images for reader in PUBLISHED) == 3868


def test_the_census_counts_the_images_of_a_run_and_those_its_dataset_publishes():
    rows = {row.what: row for row in census(results_of({"A": "busi", "B": "bus-bra", "H": "labels-csv"}))}
    busi = rows["BUSI"]
    assert (busi.images, busi.site, busi.held_images, busi.left_out) == (780, "A", 27, 1)
    assert busi.held == {"benign": 15, "malignant": 9, "normal": 3}
    assert (rows["BUS-UCLM"].images, rows["BUS-UCLM"].held_images) == (683, None)
    assert rows["BUS-BRA"].images == 1875
    assert list(rows).index("BUS-BRA") > list(rows).index(ADDED_UP)
    own = rows["A site's own images"]
    assert (own.images, own.classes, own.held_images) == (None, None, 27)


def test_rows_that_a_split_repeats_are_not_counted_by_class():
    results = results_of(THREE)
    results["sites"]["BUSI"]["images"] = 20  # of 27 entries in the parts
    busi = next(row for row in census(results) if row.site == "BUSI")
    assert (busi.held, busi.held_images) == (None, 20)


def test_our_protocol_names_a_split_that_leaks():
    said = our_protocol(results_of(THREE, **{"model": "resnet50", "image-size": 96, "sampler": "ros", "limit": 90}))
    for words in ("resnet50 at 96 px", "sampler ros", "by patient and near-duplicates", "at most 90 images"):
        assert words in said
    assert "not kept apart" in our_protocol(results_of(THREE, split="images"))
    assert "balanced before the split by image" in our_protocol(results_of(THREE, split="balanced-images"))
