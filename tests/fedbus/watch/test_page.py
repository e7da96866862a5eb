"""What the page says of each arm."""

import pytest

from fedbus.watch.page import Page
from fedbus.watch.snapshot import Snapshot, Training
from tests.html_reader import HtmlReader
from tests.tiny import tiny_settings

TRAININGS = (
    Training("centralised", 0, 4, 4, finished=True),
    Training("fedavg", 0, 4, 4),
    Training("fedprox", 0, 4, 2),
    Training("fedadam", 0, 4, 0),
)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("training", ["done", "trained", "training", "waiting"]),
        ("waiting", ["done", "trained", "training", "waiting"]),
        ("interrupted", ["done", "trained", "stopped", "waiting"]),
        ("failed", ["done", "trained", "stopped", "waiting"]),
    ],
)
def test_the_state_of_every_arm(state, said):
    settings = tiny_settings(arms=("centralised", "fedavg", "fedprox", "fedadam"), rounds=4)
    text = Page("first").live(Snapshot(state, settings, TRAININGS))
    rows = text.partition("<tbody>")[2].partition("</tbody>")[0].split("<tr")[1:]
    assert [
        next(word for word in ("done", "trained", "training", "stopped", "waiting") if f"<td>{word}</td>" in row)
        for row in rows
    ] == said
    assert ("Time left" in text) == (state in ("training", "waiting"))


def test_a_run_that_has_not_started_or_is_finished_says_so():
    assert "waits for them" in Page("first").page(Snapshot("not started"))
    text = Page("first").page(Snapshot("finished", tiny_settings(), TRAININGS[:1], report=True))
    assert "<code>report.html</code> in the run folder" in text
    assert all(link.startswith("#") for link in HtmlReader(text).links), "it links nothing outside the page"


def test_phantoms_are_marked_on_the_page():
    assert "PHANTOMS" in Page("first").page(Snapshot("training", tiny_settings(), TRAININGS, phantoms=True))
    assert "PHANTOMS" not in Page("first").page(Snapshot("training", tiny_settings(), TRAININGS))


def test_every_seed_has_its_curves_and_an_unchanged_figure_is_not_drawn_again():
    settings, page = tiny_settings(arms=("fedavg",), seeds=(3, 5)), Page("first")
    lines = ({"round": 1, "train_loss": 0.5, "validation": {"loss": 0.7, "macro_f1": 0.4}},)
    found = tuple(Training("fedavg", seed, 3, 1, lines) for seed in (3, 5))
    text = page.live(Snapshot("training", settings, found))
    assert text.index("Seed 5") < text.index("Seed 3"), "the latest first"
    drawn = dict(page.figures)
    longer = Training("fedavg", 5, 3, 2, (*lines, {"round": 2, "train_loss": 0.25}))
    page.live(Snapshot("training", settings, (found[0], longer)))
    assert page.figures[3] is drawn[3]
    assert page.figures[5] is not drawn[5]
