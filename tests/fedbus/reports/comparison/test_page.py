"""The report: complete, offline, escaped, with every warning about phantoms."""

import html
import re
from pathlib import Path

import pytest

from fedbus.errors import RunError
from fedbus.reports import wording
from fedbus.reports.comparison import page
from tests.html_reader import HtmlReader
from tests.report_sample import sample_histories, sample_images, sample_results


@pytest.fixture(scope="module")
def report():
    return page.render_report(sample_results(), sample_histories(), sample_images())


def test_every_figure_of_the_results_is_on_the_page(report):
    results = sample_results()
    cells = {wording.value(metric) + wording.interval(metric) for metric in _metrics(results["arms"])}
    text = re.sub(r"</b>\s*<small>", "", report)
    missing = [cell for cell in cells if html.escape(cell) not in text]
    assert not missing
    for row in results["differences"]:
        assert f"<b>{wording.value(row, signed=True)}</b> {wording.interval(row)}" in report


def _metrics(arms):
    for found in arms.values():
        for site, scores in found.items():
            yield from (scores[name] for name in ("auc", "macro_f1"))
            if site == "all":
                yield from (scores[name] for name in ("accuracy", "ece"))
                yield from (m for name in ("sensitivity", "specificity") for m in scores[name].values() if m)


def test_the_record_of_the_run_is_on_the_page(report):
    results = sample_results()
    for text in ("3f" * 32, "a7" * 32, results["command"], results["weights"], "2000 draws", "32 GB"):
        assert text in report
    for site, found in results["sites"].items():
        for split, counts in found["splits"].items():
            row = "".join(f'<td class="count">{count}</td>' for count in counts.values())
            assert f'<tr><th scope="row">{split}</th>{row}' in report, site
    for package, version in results["versions"].items():
        assert f"<dt>{package}</dt><dd>{version}</dd>" in report
    for site in results["sites"].values():
        assert site["citation"] in report
        assert site["terms"] in report
    assert "the update contains NaN" in report
    assert "malignant (145).png" in report


def test_the_page_is_complete_and_loads_nothing(report):
    reader = HtmlReader(report)
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    assert not {"script", "link", "iframe", "object", "embed", "form"} & set(reader.tags)
    assert all(target.startswith(("#", "data:image/png;base64,")) for target in reader.loaded)
    assert {link.removeprefix("#") for link in reader.links} <= set(reader.ids)
    assert "url(http" not in report
    assert "@import" not in report
    assert reader.tags.count("img") == 3 * 3 + 3 * 3 + 2 * 3
    assert '<html lang="en">' in report


def test_results_without_subgroups_or_audit_have_no_section_on_them(report):
    assert "Subgroups" not in report
    assert "What the model gives away" not in report


def test_equal_results_give_an_equal_page(report):
    assert report == page.render_report(sample_results(), sample_histories(), sample_images())


def test_every_section_and_table_is_marked_as_phantoms(report):
    sections = re.split(r"<section ", report)
    assert len(sections) == 14
    assert all(wording.PHANTOMS in section for section in sections)
    headings = re.findall(r"</h2>\s*(<p class=\"phantoms\">)?", report)
    assert len(headings) == 13
    assert all(headings)
    captions = re.findall(r"<caption>.*?</caption>", report, flags=re.DOTALL)
    assert len(captions) == report.count("<table")
    assert all(wording.PHANTOMS in caption for caption in captions)
    assert "embedded in this page" in report


def test_real_datasets_are_not_called_phantoms(monkeypatch):
    text = page.render_report(sample_results(phantoms=False), sample_histories(), sample_images())
    assert "PHANTOMS" not in text
    assert 'class="phantoms' not in text
    assert "Keep and share this file under the same rules as the images themselves" in text
    names = ("forest", "differences", "matrix", "recall", "confusion", "curves", "shared", "balance")
    monkeypatch.setattr(page, "_figures", lambda *_: dict.fromkeys(names, ""))
    bare = page.render_report(sample_results(phantoms=False), sample_histories(), {})
    assert "<img" not in bare
    assert "the first is shown" not in text
    assert "embedded" not in bare


def test_names_and_notes_from_outside_are_text():
    hostile = '<script>alert("x")</script>&"\'>'
    results = sample_results()
    renamed = {site: f"{hostile}{place}" for place, site in enumerate(results["sites"])}
    results["sites"] = {renamed[site]: found for site, found in results["sites"].items()}
    arms = results["arms"]
    results["arms"] = {
        _renamed_arm(arm, renamed): {renamed.get(site, site): scores for site, scores in found.items()}
        for arm, found in arms.items()
    }
    first = next(iter(results["sites"].values()))
    first |= {"reader": hostile, "citation": hostile, "terms": hostile, "notes": [hostile]}
    first["dropped"] = [{"path": hostile, "reason": hostile}]
    results["federation"]["fedavg"]["rounds"][0]["refused"] = {hostile: hostile}
    results |= {
        "command": hostile,
        "weights": hostile,
        "settings": {hostile: hostile},
        "machine": {"cpu": hostile},
    }
    text = page.render_report(results, sample_histories(), {renamed["BUSI"]: sample_images()["BUSI"]})
    reader = HtmlReader(text)
    assert "script" not in reader.tags
    assert reader.open == []
    assert "&lt;script&gt;" in text


def _renamed_arm(arm, renamed):
    site = wording.home(arm)
    return arm if site is None else f"local-{renamed[site]}"


def _only_one_site(results):
    results["sites"] = {"BUSI": results["sites"]["BUSI"]}
    results["arms"] = {arm: results["arms"][arm] for arm in ("local-BUSI", "centralised")}
    results["arms"] = {a: {s: found[s] for s in ("BUSI", "all")} for a, found in results["arms"].items()}
    results |= {"differences": [], "federation": {}}


def _no_arms(results):
    results |= {"arms": {}, "differences": [], "federation": {}, "work": {}}


def _undefined_metrics(results):
    for found in results["arms"].values():
        found["BUSI"] |= {"auc": None, "ece": None, "sensitivity": dict.fromkeys(results["classes"])}
        found["all"]["auc"] = {"value": 0.7, "low": None, "high": None}
    for row in results["differences"]:
        row |= {"value": None, "low": None, "high": None}


def _arm_scored_in_one_place(results):
    results["arms"]["fedavg"] = {"all": results["arms"]["fedavg"]["all"]}


def _bare(results):
    for key in ("created", "work", "federation", "differences", "versions", "machine", "weights", "command"):
        del results[key]
    for site in results["sites"].values():
        for key in ("notes", "dropped", "patients", "balanced"):
            del site[key]


def _no_federated_arm(results):
    results["arms"] = {arm: found for arm, found in results["arms"].items() if not arm.startswith("fed")}
    results |= {"differences": [], "federation": {}}


def _unknown_strategy(results):
    results["arms"] = {"krum" if arm == "fedavg" else arm: found for arm, found in results["arms"].items()}


@pytest.mark.parametrize(
    "change",
    [
        _only_one_site,
        _no_arms,
        _undefined_metrics,
        _arm_scored_in_one_place,
        _bare,
        _no_federated_arm,
        _unknown_strategy,
    ],
)
def test_missing_data_leave_a_complete_page(change):
    results = sample_results(seeds=3)
    change(results)
    text = page.render_report(results, {"fedprox": sample_histories(rounds=1)["fedprox"]}, {})
    assert HtmlReader(text).open == []
    assert text.rstrip().endswith("</html>")
    assert "None" not in re.sub(r"<(svg|style).*?</\1>", "", text, flags=re.DOTALL)


def test_with_several_seeds_the_page_says_which_one_a_curve_shows():
    text = page.render_report(sample_results(seeds=3), {"fedprox": sample_histories(rounds=1)["fedprox"]}, {})
    assert text.count("Of several seeds, the first is shown.") == 2 + 2


def test_rounds_with_the_same_sites_are_joined():
    rounds = [{"round": number, "participants": ["a", "b"], "refused": {}} for number in (1, 2)]
    rounds += [{"round": 3, "participants": ["a"], "refused": {"b": "NaN"}}, {**rounds[0], "round": 4}]
    found = page.stretches(rounds)
    assert [(row["first"], row["last"]) for row in found] == [(1, 2), (3, 3), (4, 4)]
    assert found[1]["refused"] == {"b": "NaN"}


def test_a_failed_write_leaves_the_old_report(tmp_path, monkeypatch):
    target = tmp_path / "report.html"
    target.write_text("the old report")
    whole = Path.write_text

    def half(self, text, **kwargs):
        whole(self, text[:100], **kwargs)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", half)
    monkeypatch.setattr(page, "render_report", lambda *_: "<!DOCTYPE html>" * 100)
    with pytest.raises(RunError, match=r"report\.html"):
        page.write_report(sample_results(), {}, {}, target)
    monkeypatch.setattr(Path, "write_text", whole)
    assert target.read_text() == "the old report"
    assert list(tmp_path.iterdir()) == [target]
    page.write_report(sample_results(), {}, {}, target)
    assert target.read_text().startswith("<!DOCTYPE html>")
