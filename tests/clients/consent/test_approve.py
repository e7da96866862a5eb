"""`fedbus site approve` shows what a study would do here, before it asks."""

import io
import math
from collections import Counter
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner

from clients.consent.approve import approve_study
from clients.site.folder import SiteFolder, open_site_folder
from clients.site.studies import StudyRequest, record_request
from fedbus.cli import app
from fedbus.deployment.roster import fingerprints, roster_line
from fedbus.errors import RunError
from fedbus.settings.load import build_settings
from fedbus.sites.prepare import prepare_sites
from fedbus.sites.site import split_path
from fedbus.sites.split import read_split
from fedbus.transport.messages import EVALUATION, TRAINING
from fedbus.transport.study import Study
from simulations.local_federation import lower_limits
from tests.approved_sites import new_roster
from tests.archives import make_class_folders
from tests.site_folders import make_site

APPLICATION = "ab" * 32
OTHERS = new_roster("lakeside", "north")
SETTINGS = {"model": "test_resnet", "image-size": 32, "arms": ["fedavg"], "batch-size": 8, "folds": 3, "rounds": 5}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> SiteFolder:
    root = tmp_path_factory.mktemp("site")
    images = make_class_folders(root / "images", {"benign": 12, "malignant": 9, "normal": 9})
    return lower_limits(make_site(root)).with_data("class-folders", images)


@pytest.fixture
def site(made) -> SiteFolder:
    """A site without approvals and studies, with the images that earlier tests have decoded."""
    for digest in made.approvals().digests:
        made.withdraw(digest)
    for path in made.studies.glob("*"):
        path.unlink()
    return made


def store(site: SiteFolder, task: str = TRAINING, *, installed: bool = True, **changes: object) -> Study:
    """Store a study of this site and two others, as when the hub has asked about it."""
    settings = build_settings(SETTINGS | {key.replace("_", "-"): value for key, value in changes.items()}, "the hub")
    roster = (*OTHERS, roster_line("st-mary", site.public_key.read_text()))
    study = Study.of(APPLICATION, task, settings, roster)
    record_request(site.studies, StudyRequest(study, installed), ())
    return study


def shown(site: SiteFolder, study: Study, answer: bool = False) -> str:
    console = Console(file=io.StringIO(), width=80)
    assert approve_study(site, study.digest, console, lambda: answer) is answer
    return console.file.getvalue()


def lines_of(text: str) -> dict[str, str]:
    """The text behind each topic, with its continuation lines."""
    found: dict[str, str] = {}
    topic, lines = "", text.splitlines()
    width = next(line for line in lines if line.startswith("Model ")).index("test_")
    for line in lines:
        topic = line[:width].strip() or topic
        found[topic] = f"{found.get(topic, '')} {line[width:].strip()}".strip()
    return found


def test_a_study_is_shown_in_about_ten_lines_of_80_columns(site):
    study = store(site, rounds=30, learning_rate=0.001, seeds=[1, 2])
    text = shown(site, study)
    lines = text.splitlines()
    assert max(map(cell_len, lines)) <= 80
    assert 10 <= len([line for line in lines if line.strip()]) <= 15
    found = lines_of(text)
    assert study.digest in text
    assert found["Model"] == "test_resnet, images of 32 x 32 pixels"
    assert found["Task"] == "training, 30 rounds of fedavg with each of 2 seeds"
    assert found["What leaves"].startswith("weights, counts and metrics of this site")
    assert found["Privacy"].startswith("none")
    assert "learning-rate = 0.001 (0.0003)" in found["Not default"]
    assert found["Application"] == f"{APPLICATION} It is the one installed here."
    keys = fingerprints(OTHERS)
    assert found["Other sites"] == f"lakeside {keys['lakeside']} north {keys['north']}"
    assert "telephone" in lines[-1]


def test_rows_and_steps_are_those_of_the_split(site, tmp_path):
    reader, root = site.source()
    own = {"sites": {"st-mary": {"reader": reader, "path": str(root)}}, "cache": str(tmp_path), "quorum": 0}
    prepare_sites(build_settings(SETTINGS | own, "the test"), tmp_path / "sites")
    split = read_split("st-mary", split_path(tmp_path / "sites", "st-mary"))
    train = [row.label for row in split.rows if row.split == "train"]
    rows = 3 * max(Counter(train).values())  # over-sampled to the largest class
    found = lines_of(shown(site, store(site)))
    assert found["Training rows"] == f"{len(train)} images of this site, {rows} after balancing"
    assert found["Steps"] == f"{math.ceil(rows / 8)} per round"
    assert lines_of(shown(site, store(site, steps_per_round=7)))["Steps"] == "7 per round"
    assert "all sites together" in lines_of(shown(site, store(site, batches="proportional")))["Steps"]


def test_under_secure_aggregation_only_sums_leave(site):
    found = lines_of(shown(site, store(site, privacy="secure-aggregation")))
    assert found["What leaves"].startswith("masked weights and numbers, of which the hub learns sums over sites")
    assert found["Privacy"].startswith("secure aggregation")


def test_differential_privacy_is_shown_with_its_budget_and_that_of_both_modes(site):
    budget = {"dp_epsilon": 8.0, "dp_delta": 1e-6, "model": "test_efficientnet_gn"}
    found = lines_of(shown(site, store(site, **budget)))
    assert found["Privacy"].startswith("differential privacy")
    assert found["Privacy"].endswith("epsilon 8, delta 1e-06")
    several = lines_of(shown(site, store(site, seeds=[1, 2], arms=["fedavg", "fedprox"], **budget)))["Privacy"]
    assert several.endswith("epsilon 8, delta 1e-06 in each of 4 trainings, which add up")
    both = lines_of(shown(site, store(site, privacy="secure-aggregation", **budget)))["Privacy"]
    assert both.startswith("secure aggregation")
    assert "epsilon 8" in both
    assert "dp-" not in found["Not default"]
    weak = lines_of(shown(site, store(site, **budget | {"dp_delta": 0.5})))
    assert "dp-delta = 0.5 is not below" in weak["Problem here"]


def test_an_evaluation_leaves_counts_in_the_clear_whatever_the_model_was_trained_with(site):
    found = lines_of(shown(site, store(site, EVALUATION, privacy="secure-aggregation")))
    assert "no training" in found["Task"]
    assert found["What leaves"] == "counts and metrics on this site's test images; no weights"
    assert found["Privacy"].startswith("none")
    assert not {"Steps", "Training rows"} & found.keys()


@pytest.mark.parametrize("answer", [True, False])
def test_only_yes_approves(answer, site):
    study = store(site)
    shown(site, study, answer)
    approved = site.approvals()
    assert [each.study for each in approved.studies] == [study.digest] * answer
    assert approved.allow(APPLICATION, study.digest) is answer
    assert not approved.allow(APPLICATION, "0" * 64), "nor any other study of the application"


def test_an_approved_study_is_shown_again_without_a_question(site):
    study = store(site)
    shown(site, study, answer=True)
    console = Console(file=io.StringIO(), width=80)
    assert approve_study(site, study.digest, console, lambda: pytest.fail("asked"))
    assert "already approved" in console.file.getvalue()


@pytest.mark.parametrize("change", [lambda text: text[:16], str.upper, lambda text: f"{text}\n", lambda text: ""])
def test_a_part_of_a_digest_or_capitals_approve_nothing(change, site):
    study = store(site)
    with pytest.raises(RunError, match="is not a digest"):
        approve_study(site, change(study.digest), Console(file=io.StringIO()), lambda: True)
    assert site.approvals().digests == ()


def test_an_unknown_digest_names_the_studies_that_wait(site):
    with pytest.raises(RunError, match=f"fedbus site join {site.path}"):
        shown(site, replace(store_nothing(site), task=EVALUATION))
    study = store(site)
    with pytest.raises(RunError, match=f"Studies that wait: {study.digest}"):
        shown(site, replace(study, task=EVALUATION))


def store_nothing(site: SiteFolder) -> Study:
    study = store(site)
    (site.studies / f"{study.digest}.json").unlink()
    return study


def test_the_digest_of_an_application_is_told_from_a_study(site):
    study = store(site)
    with pytest.raises(RunError, match=f"(?s)of an application, not of a study.*{study.digest}.*--any-study"):
        approve_study(site, APPLICATION, Console(file=io.StringIO()), lambda: True)
    assert site.approvals().digests == ()


def test_another_application_and_a_study_that_the_limits_refuse_are_marked(site):
    assert "NOT the one installed here" in shown(site, store(site, installed=False))
    strict = site.settings_file.read_text()
    try:
        site.settings_file.write_text(strict.replace('require-privacy = "none"', 'require-privacy = "both"'))
        reopened = open_site_folder(site.path)
        problem = lines_of(shown(reopened, store(reopened)))["Problem here"]
    finally:
        site.settings_file.write_text(strict)
    assert "privacy = none, against this site's require-privacy = both" in problem


def test_what_a_hub_writes_can_not_forge_the_screen(site):
    study = store(site, model=f"{'界' * 150}[/bold][red] Privacy secure")
    text = shown(site, study)
    assert all(line.isprintable() and cell_len(line) <= 80 for line in text.splitlines())
    assert [line for line in text.splitlines() if line.startswith("Privacy")] == [
        "Privacy        none: the hub sees what this site alone sends".ljust(80)
    ]


def test_scripts_answer_with_yes_and_others_are_asked(site):
    study = store(site)
    words = ["site", "approve", str(site.path), study.digest]
    asked = CliRunner().invoke(app, words, input="n\n")
    assert (asked.exit_code, site.approvals().digests) == (1, ())
    assert "Approve this study?" in asked.output
    assert CliRunner().invoke(app, words, input="").exit_code == 1, "no answer is no approval"
    done = CliRunner().invoke(app, [*words, "--yes"])
    assert (done.exit_code, site.approvals().digests) == (0, (study.digest,))
    assert "Approve this study?" not in done.output
    assert "Privacy" in done.output, "shown nevertheless"


def test_any_study_says_that_nobody_is_asked(site):
    done = CliRunner().invoke(app, ["site", "approve", str(site.path), APPLICATION, "--any-study"])
    assert done.exit_code == 0
    assert "ANY study" in done.output
    assert "limits" in done.output
    assert site.approvals().applications == (APPLICATION,)
    gone = CliRunner().invoke(app, ["site", "withdraw", str(site.path), APPLICATION])
    assert (gone.exit_code, site.approvals().digests) == (0, ())
