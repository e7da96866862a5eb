"""The state of a site: by round, complete, and never of a round that the hub repeats."""

from pathlib import Path

import pytest
import torch

from fedbus.errors import RunError
from fedbus.runs.site_state import BATCH_NORM, OPTIMISER, forget_optimisers, local_batch_norm, site_state


def tensors(value: float) -> dict[str, torch.Tensor]:
    return {"a": torch.full((2, 3), value), "step": torch.tensor(value)}


def files(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "memory" / "run" / "north").iterdir())


def test_state_is_read_back_by_round_title_and_site(tmp_path):
    state = site_state(tmp_path, "run", "north")
    state.save(BATCH_NORM, 1, tensors(1.5))
    state.save(OPTIMISER, 1, tensors(9.5))
    state.save(BATCH_NORM, 2, tensors(2.5))
    for number, value in ((1, 1.5), (2, 2.5)):
        back = local_batch_norm(tmp_path, "run", "north", number)
        assert back.keys() == {"a", "step"}
        assert all(torch.equal(back[key], expected) for key, expected in tensors(value).items())
    assert state.load(OPTIMISER, 1)["step"] == 9.5
    assert local_batch_norm(tmp_path, "run", "south", 2) == local_batch_norm(tmp_path, "another", "north", 2) == {}


def test_nothing_is_known_before_the_first_round(tmp_path):
    state = site_state(tmp_path, "run", "north")
    assert state.load(BATCH_NORM, 0) == {}
    state.save(BATCH_NORM, 1, tensors(1))
    assert state.load(BATCH_NORM, 0) == {}


def test_a_site_that_missed_a_round_continues_from_the_one_before(tmp_path):
    state = site_state(tmp_path, "run", "north")
    for number in (2, 10, 12):
        state.save(BATCH_NORM, number, tensors(number))
    assert [state.load(BATCH_NORM, number)["step"].item() for number in (2, 9, 11, 13)] == [2, 2, 10, 12]


def test_when_the_hub_repeats_rounds_later_ones_are_neither_read_nor_kept(tmp_path):
    state = site_state(tmp_path, "run", "north")
    for number in (1, 2, 3, 4):
        state.save(BATCH_NORM, number, tensors(number))
    assert state.load(BATCH_NORM, 1)["step"] == 1
    state.save(BATCH_NORM, 2, tensors(20))
    assert files(tmp_path) == ["batch-norm-00001.safetensors", "batch-norm-00002.safetensors"]
    assert state.load(BATCH_NORM, 4)["step"] == 20


def test_only_the_latest_rounds_are_kept_if_limited(tmp_path):
    state = site_state(tmp_path, "run", "north")
    for number in (1, 2, 3):
        state.save(OPTIMISER, number, tensors(number), 2)
    assert files(tmp_path) == ["optimiser-00002.safetensors", "optimiser-00003.safetensors"]
    state.save(OPTIMISER, 3, tensors(30), 2)
    assert state.load(OPTIMISER, 2)["step"] == 2, "the round before is still there when a round is asked for again"
    state.save(BATCH_NORM, 4, tensors(4))
    assert len(files(tmp_path)) == 3, "each thing is counted alone"


def test_a_state_without_tensors_is_stored_too(tmp_path):
    site_state(tmp_path, "run", "north").save(BATCH_NORM, 1, {})
    assert local_batch_norm(tmp_path, "run", "north", 1) == {}


@pytest.mark.parametrize("damage", [b"", b"\x00" * 40])
def test_a_damaged_file_is_named_with_a_remedy(tmp_path, damage):
    state = site_state(tmp_path, "run", "north")
    state.save(BATCH_NORM, 1, tensors(1))
    path = tmp_path / "memory" / "run" / "north" / "batch-norm-00001.safetensors"
    path.write_bytes(damage)
    with pytest.raises(RunError, match=r"batch-norm-00001\.safetensors is damaged") as caught:
        state.load(BATCH_NORM, 1)
    assert "delete it" in caught.value.remedy


def test_a_truncated_file_is_damaged(tmp_path):
    state = site_state(tmp_path, "run", "north")
    state.save(BATCH_NORM, 1, tensors(1))
    path = tmp_path / "memory" / "run" / "north" / "batch-norm-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(RunError, match="damaged"):
        state.load(BATCH_NORM, 1)


def test_a_training_that_has_ended_keeps_batch_norm_only(tmp_path):
    for title in ("run", "another"):
        for kind in (BATCH_NORM, OPTIMISER):
            site_state(tmp_path, title, "north").save(kind, 1, tensors(1))
    (tmp_path / "memory" / "run" / "north" / "epsilon.json").touch()
    forget_optimisers(tmp_path, "run")
    assert files(tmp_path) == ["batch-norm-00001.safetensors", "epsilon.json"]
    assert site_state(tmp_path, "another", "north").load(OPTIMISER, 1)
    forget_optimisers(tmp_path, "never begun")
