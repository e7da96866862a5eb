"""Grids: which cells a file defines, which setting wins, and how a wrong file is refused."""

import pytest

from fedbus.errors import SettingsError
from fedbus.settings.load import HOSPITALS_PRESET, load_settings
from simulations.studies.grid import GRIDS, grid_names, load_grid

SMALL = """
title = "Small"
question = "What?"
default = "ros_16"
[settings]
rounds = 2
arms = ["fedavg"]
balance = "site"
[grid]
sampler = ["ros", "none"]
batch-size = [16, 8]
[cells.alone]
arms = ["local"]
learning-rate = 1e-2
[cells.again]
weights-of = "alone"
arms = ["local"]
"""


def write(folder, text):
    path = folder / "small.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def refusal(folder, text):
    with pytest.raises(SettingsError) as caught:
        load_grid(write(folder, text))
    return str(caught.value)


def test_a_grid_makes_every_combination_and_then_the_named_cells(tmp_path):
    grid = load_grid(write(tmp_path, SMALL))
    assert list(grid.cells) == ["ros_16", "ros_8", "none_16", "none_8", "alone", "again"]
    assert grid.cells["none_8"].changes == {"sampler": "none", "batch-size": 8}
    assert (grid.cells["none_8"].settings.sampler, grid.cells["none_8"].settings.batch_size) == ("none", 8)
    assert grid.cells["alone"].settings.learning_rate == 1e-2
    assert (grid.cells["again"].weights_of, grid.cells["alone"].weights_of) == ("alone", "")
    assert (grid.name, grid.title, grid.default) == ("small", "Small", "ros_16")
    assert all(cell.settings.rounds == 2 for cell in grid.cells.values())


def test_a_cell_wins_over_set_and_set_over_the_shared_settings(tmp_path):
    grid = load_grid(write(tmp_path, SMALL), ["rounds=5", "batch-size=64", "seeds=0,1"])
    assert {cell.settings.rounds for cell in grid.cells.values()} == {5}
    assert grid.cells["ros_8"].settings.batch_size == 8
    assert grid.cells["alone"].settings.batch_size == 64
    assert grid.cells["alone"].settings.seeds == (0, 1)


def test_without_sites_the_base_is_the_phantoms_preset_and_with_them_the_real_one(tmp_path):
    phantoms = load_grid(write(tmp_path, SMALL))
    real = load_grid(write(tmp_path, SMALL), [], [f"busi={tmp_path}"])
    assert (phantoms.shared.model, phantoms.shared.weights) == ("resnetv2_18", "none")
    assert (real.shared.model, real.shared.image_size) == ("resnetv2_50", 96)
    assert list(real.cells["alone"].settings.sites) == ["busi"]
    assert phantoms.shared.rounds == real.shared.rounds == 2


def test_a_path_of_weights_is_relative_to_the_grids_file(tmp_path):
    text = SMALL.replace("rounds = 2", 'weights = "w.safetensors"')
    assert load_grid(write(tmp_path, text)).shared.weights == str(tmp_path / "w.safetensors")


@pytest.mark.parametrize("name", sorted(path.stem for path in GRIDS.glob("*.toml")))
def test_the_shipped_grids_can_be_read(name):
    if name in ("phantoms", "real", "hospitals"):
        assert name not in grid_names()
        return
    grid = load_grid(name)
    assert grid.title
    assert grid.question
    assert grid.cells


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('["ros", "none"]', '["rose", "none"]', ["small.toml", "cell rose_16", "sampler", "'rose'"]),
        ("learning-rate =", "learning-rat =", ["cell alone", "'learning-rat'", "'learning-rate'"]),
        ("rounds = 2", "round = 2", ["'round'", "'rounds'"]),
        ('default = "ros_16"', 'default = "ros_17"', ["default", "'ros_17'", "'ros_16'"]),
        ('default = "ros_16"', "", ["default"]),
        ('weights-of = "alone"', 'weights-of = "alon"', ["cells.again.weights-of", "'alone'"]),
        ("[cells.alone]", '[cells.alone]\nweights-of = "again"', ["again, which trains none"]),
        ('weights-of = "alone"', 'weights-of = "alone"\nsplit-seed = 1', ["again", "alone", "split-seed", "burned-in"]),
        ('weights-of = "alone"', 'weights-of = "alone"\nburned-in = "masked"\nrounds = 3', ["again", "sets rounds"]),
        ('weights-of = "alone"\narms = ["local"]', 'weights-of = "alone"\narms = ["fedavg"]', ["fedavg", "from alone"]),
        ("[cells.alone]", "[cells.alone]\nfold = 1", ["alone", "differs from ros_16 in fold"]),
        ("[cells.alone]", "[cells.alone]\nlimit = 40\nnear-bits = 3", ["alone", "limit, near-bits"]),
        ('default = "ros_16"', 'default = "leaky"\n[cells.leaky]\nsplit = "images"', ["leaky", "split = images"]),
        ("[cells.alone]", '[cells."a/b"]', ["'a/b'", "folder"]),
        ("[cells.alone]", "[cells.ros_8]", ["two cells", "ros_8"]),
        ("batch-size = [16, 8]", "batch-size = 16", ["grid.batch-size", "list"]),
        ("[grid]", "[gird]", ["'gird'", "'grid'"]),
        ('title = "Small"', "title = = 3", ["line 2"]),
    ],
)
def test_a_wrong_grid_is_refused_with_its_cell_and_a_suggestion(tmp_path, before, after, words):
    assert before in SMALL
    said = refusal(tmp_path, SMALL.replace(before, after, 1))
    assert all(word in said for word in words), said


def test_a_cell_with_anothers_weights_inherits_its_settings(tmp_path):
    cells = load_grid(write(tmp_path, SMALL.replace('of = "alone"', 'of = "alone"\nburned-in = "masked"'))).cells
    assert cells["again"].settings == cells["alone"].settings.model_copy(update={"burned_in": "masked"})
    assert cells["again"].changes == {"arms": ["local"], "burned-in": "masked"}


def test_a_leaky_cell_may_have_other_test_rows(tmp_path):
    grid = load_grid(write(tmp_path, SMALL + '[cells.leaky]\nsplit = "images"\nfold = 1\n'))
    assert grid.cells["leaky"].settings.fold == 1


def test_an_unknown_study_is_refused_with_the_list_of_studies():
    with pytest.raises(SettingsError, match=r"'samplin'.*'sampling'"):
        load_grid("samplin")
    with pytest.raises(SettingsError, match=r"nowhere\.toml"):
        load_grid("nowhere.toml")


def test_a_grid_without_cells_is_refused(tmp_path):
    assert "no cells" in refusal(tmp_path, 'default = "a"')


def test_hospitals_toml_sets_what_the_confirmed_cell_sets(tmp_path):
    confirmed = load_grid("confirmation", sites=[f"east={tmp_path}"]).cells["both"].settings
    advised = load_settings(HOSPITALS_PRESET)
    keys = (
        "rounds", "local_epochs", "learning_rate", "optimiser_state", "batch_norm", "missing_classes", "batch_size",
        "balance", "batches", "keep", "recalibrate", "head", "sampler",
    )  # fmt: skip
    assert {key: getattr(advised, key) for key in keys} == {key: getattr(confirmed, key) for key in keys}
