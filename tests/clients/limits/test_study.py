"""What a site refuses because of a study's settings, before anything is prepared or built."""

import resource
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from clients.limits import study
from clients.limits.limits import Limits
from clients.limits.refusal import RefusedError
from clients.limits.study import check_study, check_update, model_layout, time_limit
from fedbus.errors import SettingsError
from fedbus.models.build import build_model
from fedbus.models.state import get_state
from fedbus.settings.load import HOSPITALS_PRESET, PHANTOMS_PRESET, build_settings, load_settings
from fedbus.training.federation import FederationRows
from fedbus.training.rows import site_rows
from fedbus.transport.packing import layout_of
from simulations.studies.grid import grid_names, load_grid
from tests.tiny import noise_site, tiny_settings

DEFAULTS = Limits.model_validate({})
CPU = torch.device("cpu")


def limits(**changes: int) -> Limits:
    return DEFAULTS.model_copy(update=changes)


@pytest.mark.parametrize("preset", [PHANTOMS_PRESET, HOSPITALS_PRESET, HOSPITALS_PRESET.with_name("real.toml")])
def test_the_presets_are_within_the_default_limits(preset: Path):
    check_study(load_settings(preset), DEFAULTS)


def test_the_studies_that_do_not_leak_are_within_the_default_limits():
    cells = [cell for name in grid_names() for cell in load_grid(name).cells.values()]
    sound = [cell.settings for cell in cells if cell.settings.split == "groups"]
    assert len(cells) > len(sound) > 50
    for settings in sound:
        check_study(settings, DEFAULTS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"split": "images"}, "split = images leaks"),
        ({"split": "balanced-images"}, "split = balanced-images leaks"),
        ({"rounds": 301}, "rounds = 301, above this site's max-rounds = 300"),
        ({"steps-per-round": 1001}, "steps-per-round = 1001, above this site's max-steps = 1000"),
        ({"image-size": 513}, "image-size = 513, above this site's max-image-size = 512"),
        ({"batch-size": 257}, "batch-size = 257, above this site's max-batch-size = 256"),
        ({"steps-per-round": 1, "batch-size": 2}, "an update of 2 images, below this site's min-update-images = 32"),
        ({"steps-per-round": 1, "batch-size": 31}, "an update of 31 images"),
        ({"model": "eva02_enormous_patch14_clip_224"}, "4349 million values, above this site's max-parameters = 150"),
        ({"model": "hf-hub:someone/model"}, "model is not a name of timm's"),
        ({"model": "local-dir:/etc"}, "model is not a name of timm's"),
        ({"model": "../resnet18"}, "model is not a name of timm's"),
        ({"model": "a" * 101}, "model is not a name of timm's"),
        ({"model": "*" * 50}, "model is not a name of timm's"),
    ],
)
def test_a_study_beyond_a_limit_is_refused_by_name(changes, words):
    with pytest.raises(RefusedError) as refused:
        check_study(build_settings(changes, "the hub"), DEFAULTS)
    assert words in refused.value.problem
    assert "site.toml" in refused.value.remedy


def test_all_faults_are_named_at_once():
    with pytest.raises(RefusedError) as refused:
        check_study(build_settings({"split": "images", "rounds": 9999, "image-size": 1024}, "the hub"), DEFAULTS)
    assert all(word in refused.value.problem for word in ("split = ", "rounds = 9999", "image-size = 1024"))


def test_a_site_can_be_stricter_and_more_generous():
    settings = build_settings({"model": "vgg16", "rounds": 500}, "the hub")
    with pytest.raises(RefusedError, match="135 million values, above this site's max-parameters = 100"):
        check_study(settings, limits(max_parameters=100))
    check_study(settings, limits(max_rounds=500))


def test_an_unknown_model_is_an_error_of_the_settings():
    with pytest.raises(SettingsError, match="no model called 'resnet_18'"):
        check_study(build_settings({"model": "resnet_18"}, "the hub"), DEFAULTS)


def test_a_huge_model_costs_no_memory():
    model_layout.cache_clear()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    layout = model_layout("eva02_enormous_patch14_clip_224")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert study.number_of_values(layout) > 4e9  # 17 GB in float32
    assert grown < 500e6


@pytest.mark.parametrize("name", ["test_resnet", "resnetv2_18", "test_vit"])
def test_the_layout_is_that_of_the_built_model(name):
    built = layout_of(get_state(build_model(name)))
    assert list(model_layout(name).items()) == list(built.items())


@pytest.mark.parametrize(
    ("changes", "images"),
    [
        ({"batch_size": 2, "steps_per_round": 1}, 2),
        ({"batch_size": 4, "local_epochs": 0.01}, 4),
        ({"batch_size": 4, "steps_per_round": 3}, 12),
        ({"batch_size": 16, "local_epochs": 5}, 18),  # the distinct training images, however often they are repeated
        ({"batch_size": 16, "sampler": "rus"}, 9),  # three of each class
    ],
)
def test_an_update_is_made_of_enough_distinct_images(changes, images):
    settings = tiny_settings(**changes)
    rows = site_rows(noise_site(), settings, 7, CPU)
    check_update(rows, settings, limits(min_update_images=images))
    with pytest.raises(RefusedError, match=f"an update of {images} images, below .* min-update-images = {images + 1}"):
        check_update(rows, settings, limits(min_update_images=images + 1))


def test_synthetic_images_reveal_the_images_that_they_are_made_of():
    settings = tiny_settings(batch_size=64, sampler="smote")
    rows = site_rows(noise_site(counts=(30, 20, 15)), settings, 7, CPU)
    assert len(rows.index) == 3 * 18
    with pytest.raises(RefusedError, match=f"an update of {18 + 12 + 9} images"):
        check_update(rows, settings, limits(min_update_images=40))


def test_sums_of_the_hub_can_not_make_a_batch_small_or_a_round_long():
    settings = tiny_settings(batch_size=32, batches="proportional", local_epochs=0.001)
    few = site_rows(noise_site(), settings, 7, CPU, FederationRows((9, 6, 3), 1000))
    with pytest.raises(RefusedError, match="an update of 4 images"):
        check_update(few, settings, DEFAULTS)
    many = site_rows(noise_site(), settings, 7, CPU, FederationRows((9, 6, 3), 10**9 - 1))
    with pytest.raises(RefusedError, match="31250 steps per round, above this site's max-steps = 1000"):
        check_update(many, settings, DEFAULTS)


def test_a_round_is_stopped_after_the_allowed_minutes(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(study, "time", SimpleNamespace(monotonic=lambda: now[0]))
    check, unlimited = time_limit(limits(max_minutes=2)), time_limit(None)
    now[0] += 120
    check(4)
    now[0] += 1
    unlimited(4)
    with pytest.raises(RefusedError, match="max-minutes = 2"):
        check(4)
