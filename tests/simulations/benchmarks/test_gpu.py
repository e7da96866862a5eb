"""The benchmark for a GPU, run on the CPU with only the packages that such a machine needs."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fedbus.classes import CLASSES
from fedbus.settings.schema import Settings
from simulations.benchmarks import gpu
from simulations.benchmarks.gpu import GpuSettings, measure_bare, noise_rows, where_installed, write_images
from tests.bare_machine import OTHERS

TINY = GpuSettings(model="test_resnet", image_size=32, batch_size=4, device="cpu", precision="float32")

ALONE = """
import sys
for name in {others}: sys.modules[name] = None  # importing it fails
from simulations.benchmarks import gpu
gpu.IMAGES_PER_LOOP, gpu.EPOCH_SECONDS = 16, 0.02
words = "--device cpu --model test_resnet --image-size 32 --batch-size 4 --steps 2 --turns 2".split()
gpu.main([{out!r}, *words])
"""


def test_the_script_runs_where_only_pytorch_and_timm_are_installed(tmp_path):
    out = tmp_path / "gpu.json"
    code = ALONE.format(others=OTHERS, out=str(out))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert min(found[key] for key in ("engine_over_ceiling", "engine_over_plain")) > 0
    assert {name: len(each) for name, each in found["images_per_second_by_turn"].items()} == {
        "ceiling": 2, "ours": 2, "plain": 2,
    }  # fmt: skip
    assert found["bare_federation"]["sites"] == 3
    assert "No module named" in found["federation"]["missing"] or "import of" in found["federation"]["missing"]
    assert found["versions"]["torch"] == torch.__version__.split("+")[0]
    assert found["settings"]["steps"] == 2


def test_settings_are_those_of_a_comparison_with_the_same_defaults():
    for name, value in vars(GpuSettings()).items():
        assert Settings.model_fields[name].default == value, name


def test_settings_contain_all_that_training_reads():
    read = {
        name
        for path in [
            *Path("fedbus/training/missing_classes").glob("*.py"),
            *(Path("fedbus/training") / name for name in ("loop.py", "losses.py", "optimiser.py")),
        ]
        for name in re.findall(r"\b(?<!fedbus\.)settings\.(\w+)", path.read_text())
    }
    assert len(read) > 10
    assert read <= set(vars(GpuSettings()))


def test_results_are_kept_if_a_later_part_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "measure_speed", lambda *_: {"images_per_second": {"ours": 7.0}})
    monkeypatch.setattr(gpu, "measure_bare", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        gpu.measure(TINY, tmp_path / "gpu.json", 1, 1)
    assert json.loads((tmp_path / "gpu.json").read_text())["images_per_second"] == {"ours": 7.0}


def test_only_a_missing_package_is_tolerated():
    assert where_installed(lambda: {"a": 1}) == {"a": 1}
    assert "nowhere" in where_installed(lambda: __import__("nowhere_at_all"))["missing"]
    with pytest.raises(ValueError, match="broken"):
        where_installed(lambda: (_ for _ in ()).throw(ValueError("broken")))


def test_the_plain_loop_reads_the_images_that_ours_trains_on(tmp_path):
    rows = noise_rows(TINY, 7, torch.device("cpu"))
    write_images(rows, tmp_path / "train")
    for number, (row, label) in enumerate(zip(rows.index, rows.labels, strict=True)):
        image = np.asarray(Image.open(tmp_path / "train" / CLASSES[label] / f"{number}.png"))
        np.testing.assert_array_equal(image, rows.images[row, 0].numpy())
    assert len(list(tmp_path.rglob("*.png"))) == 7


def test_the_bare_loop_gives_every_site_the_mean_of_the_previous_round(monkeypatch):
    load, loaded, shifts = gpu.set_state, [], {"noise-0": 1.0, "noise-1": 2.0, "noise-2": 6.0}

    def note(model, state):
        loaded.append(state["fc.bias"].clone())
        load(model, state)

    def shift(model, rows, settings, number):
        assert len(rows.index) == 8  # 10 images per second for one second, in whole batches
        with torch.no_grad():
            model.fc.bias.add_(shifts[rows.owner])

    monkeypatch.setattr(gpu, "set_state", note)
    monkeypatch.setattr(gpu, "_train_site", shift)
    found = measure_bare(TINY, 10.0)
    assert len(loaded) == gpu.SITES * gpu.ROUNDS
    for number in range(gpu.ROUNDS):
        for bias in loaded[gpu.SITES * number : gpu.SITES * (number + 1)]:
            torch.testing.assert_close(bias, loaded[0] + 3.0 * number)
    assert found["images_per_site"] == 8
    assert 0 <= found["outside_training_s"] < found["round_s"]
