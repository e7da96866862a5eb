"""From a prepared folder and predictions to the subgroups of results.json and of the page."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from markupsafe import Markup

from fedbus.evaluation.predictions import Predictions
from fedbus.reports import wording
from fedbus.reports.comparison import page, subgroups
from fedbus.settings.schema import Settings
from fedbus.sites.prepare import prepare_sites
from fedbus.sites.site import Site
from simulations.subgroups import measure_site_subgroups
from tests.archives import make_bus_bra, make_class_folders, make_labels_csv, write_table
from tests.fedbus.sites.small_sites import settings_of
from tests.html_reader import HtmlReader
from tests.report_sample import sample_results


def predict_site(site: Site, seed: int) -> Predictions:
    """Random predictions with some skill on the test rows of one site."""
    rows = site.splits["test"]
    probabilities = np.random.default_rng(seed).dirichlet([1, 1, 1], size=len(rows))
    probabilities[np.arange(len(rows)), site.labels[rows]] += 0.5
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    groups = [f"{site.name}/{group}" for group in site.groups[rows]]
    return Predictions(site.labels[rows], probabilities, groups, [site.name] * len(rows), site.paths[rows])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Path, dict[str, Site]]:
    """BUS-BRA, a table with a scanner and a comment, and class folders, which have no attributes."""
    root = tmp_path_factory.mktemp("subgroups")
    table = make_labels_csv(root / "own", {"benign": 66, "malignant": 60}, seed=1)
    names = sorted(path.name for path in (table / "scans").iterdir())
    rows = [
        (f"scans/{name}", name.split("-")[0], name.split(".")[0], ("GE", "Esaote", "")[i % 3], f"seen {i} times x")
        for i, name in enumerate(names)
    ]
    write_table(table / "labels.csv", ("file", "label", "patient", "Scanner", "comment"), rows)
    sites = {
        "bus-bra": ("bus-bra", make_bus_bra(root / "bra", {"benign": 72, "malignant": 60}, seed=2)),
        "own": ("labels-csv", table),
        "plain": ("class-folders", make_class_folders(root / "plain", seed=3)),
    }
    settings = settings_of(
        root / "cache", sites, subgroups=["scanner", "comment"], bootstrap=50, arms=["local", "centralised", "fedprox"]
    )
    return settings, root / "out", prepare_sites(settings, root / "out")


@pytest.fixture(scope="module")
def measured(prepared) -> dict:
    settings, out, sites = prepared
    arms = {}
    for seed, name in enumerate(("centralised", "fedprox", *(f"local-{site}" for site in sites))):
        parts = [predict_site(site, seed) for site in sites.values()]
        joined = [
            np.concatenate([getattr(p, f) for p in parts])
            for f in ("labels", "probabilities", "groups", "sites", "paths")
        ]
        arms[name] = [[Predictions(*joined)]]
    return measure_site_subgroups(arms, [out], list(sites), settings)


def test_sites_with_attributes_have_figures_of_the_own_the_centralised_and_the_federated_model(measured) -> None:
    assert list(measured) == ["bus-bra", "own"]
    assert [column["name"] for column in measured["own"]["columns"]] == ["Scanner"]
    for found in measured.values():
        assert found["unit"] == "patients"
        assert list(found["all"]["arms"]) == ["local", "centralised", "fedprox"]
    scanners = measured["own"]["columns"][0]["groups"]
    assert [group["value"] for group in scanners] == ["Esaote", "GE", "unknown"]
    assert sum(group["images"] for group in scanners) == measured["own"]["all"]["images"]


def test_counts_are_those_of_the_test_rows_and_their_patients(prepared, measured) -> None:
    _, _, sites = prepared
    rows = sites["bus-bra"].splits["test"]
    sides = {side: [path for path in sites["bus-bra"].paths[rows] if path[-5] == side[0]] for side in ("left", "right")}
    column = next(column for column in measured["bus-bra"]["columns"] if column["name"] == "side")
    assert {group["value"]: group["images"] for group in column["groups"]} == {s: len(p) for s, p in sides.items()}
    assert {group["value"]: group["patients"] for group in column["groups"]} == {
        side: len({path[-10:-6] for path in paths}) for side, paths in sides.items()
    }


def test_a_refused_column_leaves_its_note(measured) -> None:
    (note,) = measured["own"]["notes"]
    assert "the column comment has 126 different values" in note


def test_nothing_of_a_suppressed_subgroup_is_in_the_results(measured) -> None:
    text = json.dumps(measured, allow_nan=False)
    assert "NaN" not in text
    for found in measured.values():
        for column in found["columns"]:
            for group in column["groups"]:
                assert not group["suppressed"] or set(group) == {"value", "suppressed"}
                assert group["suppressed"] or group["patients"] >= 10


@pytest.fixture(scope="module")
def section(measured) -> str:
    """The part of the page about subgroups, with a third site whose subgroups are suppressed."""
    small = json.loads(json.dumps(measured["own"])) | {"notes": []}
    small["columns"][0]["groups"] = [
        {"value": "<b>Esaote</b>", "suppressed": "few"},
        {"value": "GE", "suppressed": "subtraction"},
    ]
    plots: defaultdict[str, str] = defaultdict(str)  # drawing the page's other figures takes seconds
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            page,
            "_figures",
            lambda results, _: plots | {name: Markup(plot) for name, plot in subgroups.subgroup_plots(results).items()},
        )
        text = page.render_report(sample_results() | {"subgroups": measured | {"small": small}}, {}, {})
    reader = HtmlReader(text)
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    assert "#subgroups" in reader.links
    return text[text.index('id="subgroups"') : text.index('id="confusion"')]


def test_the_page_shows_every_figure_a_plot_per_site_and_the_notes(section, measured) -> None:
    assert section.count("<svg") == 3
    for found in measured.values():
        for note in found["notes"]:
            assert note[1:] in section
        for column in found["columns"]:
            assert column["name"] in section
            for group in column["groups"]:
                assert group["value"] in section
                for figures in group.get("arms", {}).values():
                    for figure in filter(None, figures.values()):
                        assert wording.value(figure) in section
                        assert wording.interval(figure) in section


def test_the_page_says_that_and_why_a_subgroup_is_suppressed(section) -> None:
    assert "suppressed: fewer than 10 patients" in section
    assert "suppressed: would reveal a smaller subgroup" in section
    assert "<b>Esaote" not in section
