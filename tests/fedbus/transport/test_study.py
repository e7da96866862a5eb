"""The study of a run and its digest, which hub and site compute separately."""

import hashlib
import json

import pytest

from fedbus.runs.folder import MAY_CHANGE
from fedbus.settings.load import build_settings
from fedbus.transport.messages import EVALUATION, TRAINING, Instruction
from fedbus.transport.study import Study
from tests.approved_sites import new_roster

APPLICATION = "a" * 64
ROSTER = new_roster("east", "north", "south")
SETTINGS = {"arms": ["fedavg", "fedprox"], "seeds": [3, 4], "rounds": 7}


def settings_with(**changes):
    return build_settings(SETTINGS | {key.replace("_", "-"): value for key, value in changes.items()}, "a test")


def digest(task: str = TRAINING, roster: tuple[str, ...] = ROSTER, application: str = APPLICATION, **changes) -> str:
    return Study.of(application, task, settings_with(**changes), roster).digest


def at_site(instruction: Instruction) -> Study:
    """The study as a site computes it from the message."""
    config = json.loads(json.dumps(instruction.to_config()))
    return Study.of_instruction(APPLICATION, Instruction.from_config(config))


def test_the_digest_is_that_of_the_canonical_json():
    study = Study.of(APPLICATION, TRAINING, settings_with(), ROSTER)
    text = json.dumps(study.to_json(), sort_keys=True, separators=(",", ":"))
    assert study.digest == hashlib.sha256(text.encode()).hexdigest()
    assert study.to_json().keys() == {"application", "task", "settings", "arms", "seeds", "sites"}
    assert list(study.sites) == ["east", "north", "south"]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"update_limit": 10},
        {"learning_rate": 1e-05, "weight_decay": 0},
        {"arms": "fedadam", "strategy_options": {"fedadam": {"eta": 1, "tau": 0.001}}},
        {"model": "resnetv2_50d_gn", "image_size": 64, "label_smoothing": 0.30000000000000004},
    ],
)
def test_hub_and_site_compute_the_same_digest(changes):
    settings = settings_with(**changes)
    here = Study.of(APPLICATION, TRAINING, settings, ROSTER).digest
    for arm in settings.arms:
        for seed in settings.seeds:
            for classes in ((), (0, 1, 2)):
                assert at_site(Instruction(settings, seed, classes, arm=arm, sites=ROSTER)).digest == here


@pytest.mark.parametrize(
    "changes",
    [{"rounds": 8}, {"model": "resnet18"}, {"image_size": 64}, {"arms": ["fedavg"]}, {"seeds": [3]}, {"seeds": [3, 5]},
     {"fold": 1}, {"steps_per_round": 1}, {"batch_norm": "local"}, {"application": "b" * 64}, {"task": EVALUATION},
     {"roster": ROSTER[:2]}, {"roster": (*ROSTER[:2], *new_roster("south"))}, {"roster": (*ROSTER, *new_roster("x"))}],
    ids=lambda changes: "-".join(changes),  # not the keys: they differ between test processes
)  # fmt: skip
def test_whatever_an_operator_agrees_to_changes_the_digest(changes):
    assert digest(**changes) != digest()


def test_what_a_resumed_run_may_change_does_not_ask_again():
    others = {
        "bootstrap": 10, "threshold": "youden", "workers": 2, "ray-address": "127.0.0.1:1", "round-timeout": 5,
        "quorum": 2, "largest-share": 0.9, "cache": "/tmp/other", "engine": "in-process", "track": "tensorboard",
        "subgroups": ["scanner"],
    }  # fmt: skip
    assert others.keys() == MAY_CHANGE - {"arms"}, "every further arm is a training of its own"
    for key, value in others.items():
        assert digest(**{key: value}) == digest(), key


def test_the_order_of_the_sites_is_not_part_of_the_study():
    assert digest(roster=ROSTER[::-1]) == digest()


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"arm": "krum"}, "an arm"), ({"arm": ""}, "an arm"), ({"seed": 5}, "a seed"), ({"sites": ()}, "which|list")],
)
def test_an_instruction_that_leaves_its_study_is_refused(changes, words):
    values = {"seed": 3, "arm": "fedavg", "sites": ROSTER} | changes
    instruction = Instruction(settings_with(), values["seed"], (), arm=values["arm"], sites=values["sites"])
    with pytest.raises(ValueError, match=words):
        at_site(instruction)


def test_an_evaluation_is_a_study_of_its_own_task():
    evaluation = Instruction(settings_with(), 3, (), split="test", arm="local", task=EVALUATION, sites=ROSTER)
    assert at_site(evaluation).digest == digest(task=EVALUATION) != digest()
