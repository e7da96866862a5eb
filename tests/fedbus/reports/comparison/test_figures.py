"""The figures: well-formed, repeatable, with every number."""

import warnings
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from matplotlib import style
from matplotlib.text import Text
from PIL import Image

from fedbus.reports import style as canvas
from fedbus.reports import wording
from fedbus.reports.comparison import curves, figures, heatmaps
from tests.report_sample import sample_histories, sample_results

DRAWN = {
    "forest": figures.forest_plot,
    "differences": figures.differences_plot,
    "matrix": heatmaps.cross_site_matrix,
    "recall": heatmaps.recall_map,
    "confusion": heatmaps.confusion_matrices,
    "curves": lambda results: curves.validation_curves(results, sample_histories()),
    "shared": lambda results: curves.shared_curves(results, sample_histories()),
    "balance": curves.class_balance,
}


def _texts(svg):
    return [text.text for text in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("name", DRAWN)
def test_figures_are_well_formed_repeatable_and_described(name):
    svg = DRAWN[name](sample_results())
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert len(root.get("aria-label")) > 30
    assert wording.PHANTOMS in _texts(svg)
    assert wording.PHANTOMS not in DRAWN[name](sample_results(phantoms=False))
    assert svg == DRAWN[name](sample_results())
    assert "<metadata" not in svg


@pytest.mark.parametrize("name", DRAWN)
def test_ids_are_unique_to_a_figure_and_every_reference_resolves(name):
    root = ElementTree.fromstring(DRAWN[name](sample_results()))
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    used = [value for e in root.iter() for key, value in e.attrib.items() if key.endswith("href")]
    clips = [e.get("clip-path") for e in root.iter() if e.get("clip-path")]
    assert len(ids) == len(set(ids))
    assert all(found.startswith(f"{name}-") for found in ids)
    assert {found.removeprefix("#") for found in used} <= set(ids)
    assert {found.removeprefix("url(#").removesuffix(")") for found in clips} <= set(ids)


def test_the_forest_plot_shows_every_arm_with_its_interval():
    results = sample_results()
    texts = _texts(figures.forest_plot(results))
    for found in results["arms"].values():
        for site in found.values():
            assert wording.with_interval(site["auc"]) in texts
            assert wording.with_interval(site["macro_f1"]) in texts


def test_every_cell_of_the_maps_shows_its_number():
    results = sample_results()
    matrix, recall = _texts(heatmaps.cross_site_matrix(results)), _texts(heatmaps.recall_map(results))
    for arm, found in results["arms"].items():
        for site, scores in ((site, found[site]) for site in ("all", *results["sites"])):
            assert wording.value(scores["auc"]) in matrix
            for label in results["classes"]:
                metric = scores["sensitivity"][label]
                if metric:
                    marked = metric["value"] < 1 / 3
                    assert ("▼ " if marked else "") + wording.value(metric) in recall, (arm, site, label)
    assert recall.count("none") == len(results["arms"])


def test_drawing_leaves_matplotlibs_style_unchanged():
    # Reading the backend is what would choose one.
    before = {key: mpl.rcParams[key] for key in mpl.rcParams if key != "backend"}
    figures.forest_plot(sample_results())
    assert {key: mpl.rcParams[key] for key in before} == before


def test_markup_and_unicode_in_site_names_are_plain_text():
    results = sample_results()
    site = results["sites"]["BUSI"]
    for name in ("<script>$x_{</script>", 'id="url(#a)"', "广东省人民医院"):
        results["sites"] = {name: site}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            svg = curves.class_balance(results)
        assert name in _texts(svg)
        assert "<script" not in svg


def test_the_headline_figure_is_a_repeatable_png(tmp_path):
    for name in ("a.png", "b.png"):
        figures.headline_figure_png(sample_results(), tmp_path / name)
    with Image.open(tmp_path / "a.png") as figure:
        assert figure.width == 2000
        assert "Software" not in figure.info
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_no_text_leaves_the_headline_figure(count):
    results = sample_results()
    results["arms"] = dict(list(results["arms"].items())[-count:])
    with style.context(["default", canvas._LOOK]):
        figure = figures._forest(results, ["all"])
        figure.draw_without_rendering()
        extents = [text.get_window_extent() for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    assert len(extents) > 4 * count
    assert max(extent.y1 for extent in extents) <= figure.bbox.y1
    assert min(extent.y0 for extent in extents) >= figure.bbox.y0


def test_figures_without_their_data_are_empty():
    results = sample_results() | {"differences": []}
    assert figures.differences_plot(results) == ""
    assert curves.validation_curves(results, {}) == ""
    assert curves.shared_curves(results, {"local-BUSI": sample_histories()["local-BUSI"]}) == ""
