"""The checklists: every published item, no filled item without evidence, and no evidence that does not exist."""

import json
from pathlib import Path

import pytest

from fedbus.cards.answer import STATUSES, filled
from fedbus.cards.checklist import checklist_page
from fedbus.cards.claim import CLAIM
from fedbus.cards.evidence import Evidence, point, result
from fedbus.cards.model_card import model_card
from fedbus.cards.run import read_run
from fedbus.cards.tripod_ai import TRIPOD_AI
from fedbus.reports import wording
from tests.finished_run import write_run

SUB_ITEMS = {3: 3, 5: 2, 6: 3, 8: 3, 9: 3, 12: 7, 18: 6, 20: 3, 23: 2, 27: 3}
"""Of TRIPOD+AI, how many sub-items an item has."""

LISTS = pytest.mark.parametrize("checklist", [TRIPOD_AI, CLAIM], ids=["TRIPOD+AI", "CLAIM"])

RUNS = {
    "plain": {},
    "phantoms": {"phantoms": True},
    "several seeds, evaluated elsewhere": {"seeds": [0, 1], "elsewhere": True},
    "leaking, not balanced, limited": {
        "split": "images", "sampler": "none", "limit": 50, "augmentation": False, "steps_per_round": 3, "keep": "last",
        "burned_in": "masked", "batch_norm": "average",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory, shared_hub_run, shared_secure_run):
    """Finished runs of every kind, by name."""
    root = tmp_path_factory.mktemp("runs")
    for name, changes in RUNS.items():
        write_run(root / name, **changes)
    (root / "plain" / "splits" / "BUSI.csv").unlink()  # a part of the evidence is gone
    return {name: read_run(root / name) for name in RUNS} | {
        "hub": read_run(shared_hub_run),
        "hub with totals only": read_run(shared_secure_run),
    }


def found(folder: Path, pointer: str) -> object:
    """What a pointer leads to, without the code under test; None if nothing."""
    file, _, keys = pointer.partition("#")
    if not keys:
        return (folder / file).exists() or None
    value = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
    for key in keys.split("/")[1:]:
        value = value.get(key.replace("~1", "/").replace("~0", "~"), {})
    return None if value in ({}, [], "", None) else value


def test_tripod_ai_has_its_27_items_and_52_sub_items():
    expected = [f"{item}{letter}" for item in range(1, 28) for letter in ("abcdefg"[: SUB_ITEMS.get(item, 0)] or ("",))]
    assert [item.number for item in TRIPOD_AI.items] == expected
    assert len(expected) == 52


def test_claim_has_its_44_items():
    assert [item.number for item in CLAIM.items] == [str(number) for number in range(1, 45)]


@LISTS
def test_every_evidence_exists_and_no_item_is_filled_without(checklist, runs):
    for name, run in runs.items():
        answers = checklist.answers(run)
        assert answers.keys() == {item.number for item in checklist.items}
        for number, answer in answers.items():
            where = (name, number)
            assert answer.status in STATUSES, where
            assert all(found(run.path, pointer) is not None for pointer in answer.evidence), where
            assert answer.evidence or answer.status != "filled", where
            assert answer.text or answer.task, where
            assert answer.status == "filled" or answer.task or answer.status == "not done", where


@LISTS
def test_every_pointer_is_right_in_some_run(checklist, runs):
    """A misspelt key would otherwise be left out of all of them unseen."""
    pointers, present = set(), set()
    for run in runs.values():
        for item in checklist.items:
            raw = item.answer(run) if callable(item.answer) else item.answer
            pointers |= set(raw.evidence)
            present |= {pointer for pointer in raw.evidence if found(run.path, pointer) is not None}
    assert pointers - present == set()


@LISTS
def test_the_page_has_every_item_with_its_status_and_evidence(checklist, runs):
    for run in runs.values():
        page, answers = checklist_page(checklist, run), checklist.answers(run)
        items = page.split("\n### ")[1:]
        assert [text.split(". ")[0] for text in items] == [item.number for item in checklist.items]
        for text, item in zip(items, checklist.items, strict=True):
            answer = answers[item.number]
            assert text.splitlines()[0] == f"{item.number}. {item.topic}"
            assert f"**{answer.status}**" in text
            assert all(f"`{pointer}`" in text for pointer in answer.evidence)
        assert "None" not in page
        assert "  " not in page


def statuses(run, checklist, *numbers):
    answers = checklist.answers(run)
    return [answers[number].status for number in numbers]


def test_what_a_run_did_changes_the_status(runs):
    plain, rich = runs["plain"], runs["several seeds, evaluated elsewhere"]
    assert statuses(plain, CLAIM, "30", "31", "33") == ["not done"] * 3
    assert statuses(rich, CLAIM, "30", "31", "33") == ["filled"] * 3
    energy = "FedAvg, 70 images: energy .400 (.300–.500), area .150 (.140–.160), random weights .200 (.100–.300)."
    assert CLAIM.answers(rich)["31"].text.endswith(energy)
    assert energy in model_card(rich)
    assert statuses(plain, TRIPOD_AI, "12f", "24", "16") == ["not done", "not done", "filled"]
    assert statuses(rich, TRIPOD_AI, "12f", "24", "16") == ["filled", "filled", "for you to fill"]
    found = CLAIM.answers(rich)["33"].text
    aucs = [wording.with_interval(rich.results["arms"][arm]["BUSI"]["auc"]) for arm in ("centralised", "fedavg")]
    assert found == f"elsewhere, 60 images in 50 groups: AUC Centralised {aucs[0]}; FedAvg {aucs[1]}."
    assert statuses(plain, CLAIM, "7") == ["filled"]  # published datasets
    assert statuses(runs["hub"], CLAIM, "7") == ["for you to fill"]
    assert CLAIM.answers(runs["plain"])["35"].task == "Give the number of patients of BUSI."


def test_a_leaking_split_is_called_one(runs):
    answers = CLAIM.answers(runs["leaking, not balanced, limited"])
    for number in ("19", "20", "32"):
        assert "leak" in answers[number].text or "not disjoint" in answers[number].text, number
    assert "At most 50 images per site" in answers["10"].text
    assert TRIPOD_AI.answers(runs["leaking, not balanced, limited"])["13"].text.startswith("No method")


def test_texts_are_computed_from_the_run(runs):
    answers = TRIPOD_AI.answers(runs["plain"])
    for site, facts in runs["plain"].sites.items():
        images = sum(sum(split.values()) for split in facts["splits"].values())
        assert f"{site}: {images:,} images" in answers["20a"].text
        assert f"{site} 1 image (1 identical images with two labels)" in answers["20a"].text
    test = sum(sum(facts["splits"]["test"].values()) for facts in runs["plain"].sites.values())
    assert f"{test:,} test." in answers["12a"].text


def test_a_filled_item_without_evidence_is_left_to_the_authors(tmp_path):
    answer = filled("All is well.", "missing.csv", result("sites")).checked(Evidence(tmp_path))
    assert (answer.status, answer.text, answer.evidence) == ("for you to fill", "", ())
    assert answer.task


def test_pointers_are_json_pointers(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"b/c": {"d~e": 1}, "none": None, "empty": []}))
    evidence, pointer = Evidence(tmp_path), point("a.json", "b/c", "d~e")
    assert pointer == "a.json#/b~1c/d~0e"
    assert evidence.value(pointer) == 1
    assert evidence.exists(pointer)
    absent = [
        point("a.json", "none"),
        point("a.json", "empty"),
        point("a.json", "b/c", "d~e", "f"),
        point("b.json", "b"),
    ]
    assert not any(evidence.exists(each) for each in absent)
