"""Models and their start weights: what is exchanged, what fits, and what is refused."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from fedbus.errors import SettingsError, WeightsError
from fedbus.models.build import build_model
from fedbus.models.start import start_state
from fedbus.models.state import get_state, set_state

NAME = "test_resnet"
HEAD = ("fc.weight", "fc.bias")


def random_state(seed: int = 7) -> dict[str, torch.Tensor]:
    """Weights that no seed of a test gives by chance."""
    generator = torch.Generator().manual_seed(seed)
    return {key: torch.rand(value.shape, generator=generator) for key, value in get_state(build_model(NAME)).items()}


def without_head(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in state.items() if key not in HEAD}


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


def test_a_model_has_one_output_per_class_and_three_input_channels():
    with torch.inference_mode():
        assert build_model(NAME).eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 3)


def test_an_unknown_model_suggests_names():
    with pytest.raises(SettingsError, match="'resnetv2_5'") as caught:
        build_model("resnetv2_5")
    assert "resnetv2_50" in caught.value.remedy
    with pytest.raises(SettingsError, match="'qqq'"):
        build_model("qqq")


def test_state_goes_out_and_in_unchanged():
    state = random_state()
    model = build_model(NAME)
    set_state(model, state)
    back = get_state(model)
    assert list(back) == list(state)
    assert all(torch.equal(back[key], state[key]) for key in state)
    assert all(v.dtype == torch.float32 and v.is_contiguous() and v.device.type == "cpu" for v in back.values())


def test_statistics_of_batch_norm_travel_and_its_counter_does_not():
    model = build_model(NAME)
    state = get_state(model)
    kinds = {key.rsplit(".", 1)[1] for key in state}
    assert kinds == {"weight", "bias", "running_mean", "running_var"}
    assert state.keys() == {key for key in model.state_dict() if not key.endswith("num_batches_tracked")}
    counters = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    counters[0].num_batches_tracked.fill_(5)
    set_state(model, state)
    assert int(counters[0].num_batches_tracked) == 5


def test_a_state_is_a_copy():
    model = build_model(NAME)
    state = get_state(model)
    before = state["fc.weight"].clone()
    with torch.no_grad():
        model.fc.weight.add_(1)
    assert torch.equal(state["fc.weight"], before)


@pytest.mark.parametrize(
    ("spoil", "key"),
    [
        (lambda state: state.pop("fc.bias"), "fc.bias"),
        (lambda state: state.update(surplus=torch.zeros(1)), "surplus"),
        (lambda state: state.update({"fc.bias": torch.zeros(4)}), "fc.bias"),
    ],
)
def test_a_state_of_another_model_is_refused_by_name_and_changes_nothing(spoil, key):
    model = build_model(NAME)
    before, state = get_state(model), random_state()
    spoil(state)
    with pytest.raises(WeightsError, match=key):
        set_state(model, state)
    assert all(torch.equal(value, before[name]) for name, value in get_state(model).items())


def test_random_weights_follow_the_seed_and_leave_the_callers_generator_unchanged():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = start_state(NAME, "none", 5)
    assert torch.equal(torch.rand(3), expected)
    second, other = start_state(NAME, "none", 5), start_state(NAME, "none", 6)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["fc.weight"], other["fc.weight"])
    assert not torch.equal(first["conv1.0.weight"], other["conv1.0.weight"])


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_file_gives_the_backbone_and_the_seed_the_head(tmp_path, suffix, wrapped):
    path, body = tmp_path / f"w.{suffix}", without_head(random_state())
    if suffix == "safetensors":
        save_file(body, path)
    else:
        counters = {k: v for k, v in build_model(NAME).state_dict().items() if k.endswith("num_batches_tracked")}
        torch.save({"state_dict": body | counters} if wrapped else body | counters, path)
    one, other = start_state(NAME, str(path), 1), start_state(NAME, str(path), 2)
    assert all(torch.equal(one[key], body[key]) for key in body)
    assert not torch.equal(one["fc.weight"], other["fc.weight"])
    random = start_state(NAME, "none", 1)
    assert all(torch.equal(one[key], random[key]) for key in HEAD)


def test_a_head_of_another_number_of_classes_is_left_out_and_one_that_fits_is_taken(tmp_path):
    state = random_state()
    save_file(state, tmp_path / "three.safetensors")
    assert torch.equal(start_state(NAME, str(tmp_path / "three.safetensors"), 1)["fc.weight"], state["fc.weight"])
    features = state["fc.weight"].shape[1]
    thousand = state | {"fc.weight": torch.rand(1000, features), "fc.bias": torch.rand(1000)}
    save_file(thousand, tmp_path / "thousand.safetensors")
    start = start_state(NAME, str(tmp_path / "thousand.safetensors"), 1)
    assert start["fc.weight"].shape == (3, features)
    assert torch.equal(start["conv1.0.weight"], state["conv1.0.weight"])


def test_half_precision_is_converted_to_float32(tmp_path):
    body = {key: value.half() for key, value in without_head(random_state()).items()}
    save_file(body, tmp_path / "half.safetensors")
    start = start_state(NAME, str(tmp_path / "half.safetensors"), 0)
    assert all(start[key].dtype == torch.float32 and torch.equal(start[key], body[key].float()) for key in body)


def test_a_file_of_another_model_names_what_is_wrong(tmp_path):
    body = without_head(random_state())
    del body["conv1.0.weight"]
    body["strange.weight"] = torch.zeros(2)
    body["bn1.weight"] = torch.zeros(9)
    save_file(body, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError) as caught:
        start_state(NAME, str(tmp_path / "w.safetensors"), 0)
    for words in (
        "missing: conv1.0.weight",
        "not of this model: strange.weight",
        "of another shape: bn1.weight [9] for",
    ):
        assert words in str(caught.value)


def test_a_malicious_pickle_is_refused_before_it_acts(tmp_path):
    torch.save({"state_dict": Malicious(tmp_path / "made")}, tmp_path / "zip.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Malicious(tmp_path / "made"), protocol=2))
    for name in ("zip.pth", "plain.pth"):
        with pytest.raises(WeightsError, match=name):
            start_state(NAME, str(tmp_path / name), 0)
    assert not (tmp_path / "made").exists()
    pickle.loads((tmp_path / "plain.pth").read_bytes())
    assert (tmp_path / "made").exists()  # it would have acted


@pytest.mark.parametrize("content", [[1, 2], {}, {"epoch": 3}, {"state_dict": {"a": "b"}}, torch.zeros(3)])
def test_a_pth_file_without_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="contains no state dict"):
        start_state(NAME, str(tmp_path / "w.pth"), 0)


@pytest.mark.parametrize("legacy", [False, True])
def test_damaged_pth_files_are_a_weights_error_wherever_they_break(tmp_path, legacy):
    path = tmp_path / "w.pth"
    torch.save({"a": torch.rand(5, 3), "b": torch.rand(4)}, path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 8, max(1, len(whole) // 60)):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r"w\.pth"):
            start_state(NAME, str(path), 0)


def test_damaged_and_missing_files_are_named(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"\x10\x00")
    for name in ("w.safetensors", "none.safetensors", ""):
        with pytest.raises(WeightsError, match=name or str(tmp_path)):
            start_state(NAME, str(tmp_path / name), 0)


def test_unavailable_imagenet_weights_are_an_error_and_never_a_random_start(monkeypatch):
    import huggingface_hub.constants
    import timm.models._hub as hub

    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "hf_hub_download", offline)
    with pytest.raises(WeightsError, match="resnetv2_50") as caught:
        start_state("resnetv2_50", "imagenet", 0)
    assert "weights=FILE" in caught.value.remedy


def test_the_shared_weights_fit_the_default_model():
    folder = Path(__file__).resolve().parents[4] / "shared" / "weights"
    files = sorted(folder.glob("resnetv2_50*.safetensors"))
    if not files:
        pytest.skip(f"no weights at {folder}")
    given = load_file(files[0])
    start = start_state("resnetv2_50", str(files[0]), 0)
    assert start.keys() - given.keys() == {"head.fc.weight", "head.fc.bias"}
    assert all(torch.equal(start[key], value.float()) for key, value in given.items() if key in start)


def test_weights_that_timm_does_not_have_are_refused_by_name():
    with pytest.raises(SettingsError, match=r"no 'bogus' weights of resnet18") as caught:
        build_model("resnet18.bogus")
    assert "a1_in1k" in caught.value.remedy
    with pytest.raises(SettingsError, match=r"no 'x' weights of resnetv2_50d") as caught:
        build_model("resnetv2_50d.x")
    assert "model=resnetv2_50d." in caught.value.remedy
    assert get_state(build_model("test_resnet.r160_in1k")).keys() == get_state(build_model(NAME)).keys()


def test_a_model_that_timm_never_trained_has_no_imagenet_weights_on_any_machine():
    with pytest.raises(WeightsError, match=r"timm publishes no weights of test_vit4"):
        start_state("test_vit4", "imagenet", 0)
