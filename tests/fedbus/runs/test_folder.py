"""The run folder: what may be resumed, what a checkpoint contains, and the errors of damaged files."""

import json
import math
import re
import tempfile
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors import safe_open
from safetensors.torch import save_file

from fedbus.errors import RunError
from fedbus.runs import environment
from fedbus.runs.checkpoint import ArmFolder, Checkpoint, arm_folder
from fedbus.runs.folder import MAY_CHANGE, record_run, run_id
from fedbus.settings.load import build_settings
from fedbus.settings.schema import Settings
from fedbus.transport.messages import RUN
from tests.tiny import start_run, tiny_settings


def settings_of(**changes: object) -> Settings:
    return build_settings({"arms": "fedavg", "cache": "/cache"} | changes, "the tests")


def checkpoint() -> Checkpoint:
    generator = torch.Generator().manual_seed(0)
    return Checkpoint(
        round=3,
        state={"a/b.weight": torch.rand(2, 3, generator=generator), "bias": torch.rand(4, generator=generator)},
        history=[{"round": 1, "validation": {"loss": 0.1 + 0.2}}, {"round": 2, "name": "ä"}],
        best_round=2,
        best_loss=1 / 3,
        extra={"0/step": torch.tensor(7.0), "0/exp_avg": torch.rand(2, generator=generator), "model/x": torch.ones(1)},
    )


def test_a_new_folder_records_how_it_was_made(tmp_path):
    start_run(tmp_path / "new" / "run", settings_of(), resume=False)
    assert json.loads((tmp_path / "new/run/settings.json").read_text()) == settings_of().as_dict()
    environment = json.loads((tmp_path / "new/run/environment.json").read_text())
    assert environment["versions"]["torch"] == metadata.version("torch")
    assert environment["machine"]["cores"] >= 1


def test_a_run_resumes_with_the_same_settings(tmp_path):
    start_run(tmp_path, settings_of(rounds=4), resume=False)
    before = (tmp_path / "environment.json").read_bytes()
    start_run(tmp_path, settings_of(rounds=4), resume=True)
    assert (tmp_path / "environment.json").read_bytes() == before


def test_other_settings_are_refused_by_name_and_the_folder_stays(tmp_path):
    start_run(tmp_path, settings_of(), resume=False)
    before = (tmp_path / "settings.json").read_bytes()
    with pytest.raises(RunError) as caught:
        start_run(tmp_path, settings_of(rounds=5, **{"learning-rate": 0.5}), resume=True)
    assert "rounds was 12 and is now 5" in str(caught.value)
    assert "learning-rate was 0.0003 and is now 0.5" in str(caught.value)
    assert (tmp_path / "settings.json").read_bytes() == before


CHANGES = {
    "arms": "fedavg,krum", "bootstrap": 7, "workers": 3, "ray-address": "a:1", "round-timeout": 5.0, "quorum": 1,
    "largest-share": 0.9, "cache": "/other", "engine": "in-process", "track": "tensorboard", "threshold": "youden",
    "subgroups": ["scanner"],
}  # fmt: skip


@pytest.mark.parametrize("key", sorted(MAY_CHANGE))
def test_settings_that_affect_no_finished_arm_may_change_and_are_recorded(tmp_path, key):
    start_run(tmp_path, settings_of(), resume=False)
    changed = settings_of(**{key: CHANGES[key]})
    assert changed != settings_of()
    start_run(tmp_path, changed, resume=True)
    assert json.loads((tmp_path / "settings.json").read_text()) == changed.as_dict()


def test_every_other_setting_may_not_change():
    keys = set(settings_of().as_dict())
    assert keys >= MAY_CHANGE
    trained = {"seeds", "fold", "sampler", "model", "weights", "sites", "batch-size", "proximal-mu", "missing-classes"}
    assert not trained & MAY_CHANGE


@pytest.mark.parametrize(
    ("prepare", "resume", "words"),
    [
        (lambda out: None, True, "no run to resume"),
        (lambda out: (out / "thesis.doc").write_text("x"), False, "not empty"),
        (lambda out: (out / "thesis.doc").write_text("x"), True, "no run to resume"),
        (lambda out: start_run(out, settings_of(), resume=False), False, "already contains a run"),
        (lambda out: (out / "settings.json").write_text("{"), True, "settings.json is missing or damaged"),
        (lambda out: (out / "settings.json").write_text("3"), True, "settings.json is damaged"),
        (lambda out: (out / "settings.json").write_bytes(b"\xff"), True, "settings.json is missing or damaged"),
    ],
)
def test_folders_that_can_not_be_used_are_refused(tmp_path, prepare, resume, words):
    prepare(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(RunError, match=words):
        start_run(tmp_path, settings_of(), resume=resume)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
TENSORS = st.dictionaries(
    NAMES,
    arrays(np.float32, array_shapes(min_dims=0, max_dims=3, max_side=3), elements=st.floats(width=32)).map(
        torch.tensor
    ),
    max_size=4,
)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    st.builds(
        Checkpoint,
        round=st.integers(0, 10_000),
        state=TENSORS,
        history=st.lists(st.dictionaries(NAMES, NUMBERS | NAMES | st.none() | st.integers(), max_size=3), max_size=3),
        best_round=st.none() | st.integers(0, 10_000),
        best_loss=NUMBERS | st.just(math.inf),
        extra=TENSORS,
    )
)
def test_a_checkpoint_is_read_as_it_was_written(given_checkpoint):
    with tempfile.TemporaryDirectory() as place:
        folder = ArmFolder(Path(place) / "arm")
        assert folder.load() is None
        folder.save(given_checkpoint)
        back = folder.load()
        assert folder.read_history() == given_checkpoint.history
    for field in ("round", "history", "best_round", "best_loss"):
        assert getattr(back, field) == getattr(given_checkpoint, field)
    for field in ("state", "extra"):
        one, other = getattr(back, field), getattr(given_checkpoint, field)
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert value.dtype == other[key].dtype
            np.testing.assert_array_equal(value.numpy(), other[key].numpy())  # NaN equals NaN


def test_a_first_checkpoint_has_no_best_round(tmp_path):
    folder = ArmFolder(tmp_path)
    folder.save(Checkpoint(0, {"a": torch.zeros(1)}))
    back = folder.load()
    assert (back.best_round, back.best_loss, back.history, back.extra) == (None, math.inf, [], {})


@pytest.mark.parametrize("length", [0, 5, 100, -1])
def test_a_truncated_checkpoint_is_a_run_error_with_a_remedy(tmp_path, length):
    folder = ArmFolder(tmp_path / "arm")
    folder.save(checkpoint())
    path = tmp_path / "arm" / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(RunError, match=r"checkpoint\.safetensors is missing or damaged") as caught:
        folder.load()
    assert f"Delete {tmp_path / 'arm'}" in caught.value.remedy


@pytest.mark.parametrize(
    "notes", [None, {"round": "1"}, {"round": "x", "history": "[]", "best_round": "1", "best_loss": "0.5"}]
)
def test_a_file_that_is_not_a_checkpoint_is_a_run_error(tmp_path, notes):
    save_file({"model/a": torch.zeros(1)}, tmp_path / "checkpoint.safetensors", notes)
    with pytest.raises(RunError, match="damaged"):
        ArmFolder(tmp_path).load()


def test_a_failed_save_leaves_the_previous_checkpoint(tmp_path):
    folder = ArmFolder(tmp_path)
    folder.save(checkpoint())
    broken = checkpoint()
    broken.round, broken.state = 4, {"a": torch.zeros(2, 2).to_sparse()}
    with pytest.raises(Exception, match=r".+"):
        folder.save(broken)
    assert folder.load().round == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.safetensors", "history.jsonl"]


def test_weights_are_read_back_with_their_notes_in_the_header(tmp_path):
    folder, state = ArmFolder(tmp_path), checkpoint().state
    folder.save_weights("best", state, round=4, arm="fedavg")
    back = folder.load_weights("best")
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)
    with safe_open(tmp_path / "best.safetensors", framework="pt") as file:
        assert file.metadata() == {"round": "4", "arm": "fedavg"}


def test_missing_and_damaged_weights_are_a_run_error(tmp_path):
    with pytest.raises(RunError, match=r"final\.safetensors is missing"):
        ArmFolder(tmp_path).load_weights("final")
    (tmp_path / "final.safetensors").write_bytes(b"\x01")
    with pytest.raises(RunError, match=r"final\.safetensors is missing or damaged"):
        ArmFolder(tmp_path).load_weights("final")


def test_a_run_has_an_id_that_resuming_keeps_and_no_other_run_has(tmp_path):
    for name in ("one", "two"):
        start_run(tmp_path / name, settings_of(), resume=False)
    first = run_id(tmp_path / "one")
    start_run(tmp_path / "one", settings_of(bootstrap=7), resume=True)
    assert run_id(tmp_path / "one") == first
    made = tmp_path / "two" / "environment.json"
    made.write_text(made.read_text().replace('"created": "2', '"created": "3'))
    assert run_id(tmp_path / "two") != first
    assert re.fullmatch(RUN, first)


def test_an_arm_is_finished_after_finish(tmp_path):
    folder = ArmFolder(tmp_path / "arm")
    folder.save(checkpoint())
    assert not folder.finished
    folder.finish({"steps": 3})
    assert folder.finished
    assert folder.read_facts() == {"steps": 3}
    assert ArmFolder(tmp_path / "other").read_history() == []


def test_seeds_have_folders_where_there_are_several():
    out = Path("/out")
    assert arm_folder(out, settings_of(seeds=[4]), "fedavg", 4).path == out / "arms/fedavg"
    several = settings_of(seeds=[4, 5])
    assert arm_folder(out, several, "local-north", 5).path == out / "arms/local-north/seed-5"
    paths = {arm_folder(out, several, arm, seed).path for arm in ("a", "b") for seed in (4, 5)}
    assert len(paths) == 4


def test_runs_that_start_in_the_same_second_have_different_ids(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "describe_environment", lambda: {"created": "now"})
    for name in ("a", "b"):
        record_run(tmp_path / name, tiny_settings())
    assert run_id(tmp_path / "a") != run_id(tmp_path / "b")
