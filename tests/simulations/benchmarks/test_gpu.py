"""The benchmark for a GPU, run on the CPU with only the packages that such a machine needs."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from multiprocessing.context import ForkProcess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fedbus.classes import CLASSES
from fedbus.settings.load import build_settings
from fedbus.settings.schema import Settings
from simulations.benchmarks.gpu import bare
from simulations.benchmarks.gpu.bare import SITES, run_bare
from simulations.benchmarks.gpu.flower import FLOWER, choose_workers, flower_settings, measure_flower
from simulations.benchmarks.gpu.headline import headline
from simulations.benchmarks.gpu.results import Results
from simulations.benchmarks.gpu.settings import GpuSettings, Plan, noise_rows
from simulations.benchmarks.gpu.speed import write_images
from simulations.benchmarks.gpu.stages import STOP, Stage, run_stages
from simulations.benchmarks.summary import GPU_FIGURES
from simulations.portable.pack import pack
from simulations.portable.pixels import LOSSLESS
from tests.bare_machine import BLOCKER

TINY = GpuSettings(model="test_resnet", image_size=32, batch_size=4, device="cpu", precision="float32")

WHOLE = f"""{BLOCKER}
from dataclasses import replace
import torch
torch.compile = lambda model, backend: model  # it would take longer than all the rest
from simulations.benchmarks.gpu import __main__ as program, bare, speed
speed.IMAGES, bare.ROUNDS = 8, 2
plan, results = program.read_plan(sys.argv[1:])
settings = replace(plan.settings, batch_size=6, precision="float32")
plan = replace(
    plan, settings=settings, models=("test_resnet",), batch_sizes=(4,), images=2, turns=2, epoch_steps=1
)
sys.exit(program.measure(plan, results))
"""


@pytest.fixture(scope="module")
def packed(two_site_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed")
    changes = {"rounds": 2, "engine": "in-process", "arms": ("centralised", "fedavg"), "precision": "float32"}
    pack(two_site_settings.model_copy(update=changes), out, (0,), LOSSLESS)
    return out


@pytest.fixture(scope="module")
def whole(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The figures of one command where only PyTorch, timm and scikit-learn are installed."""
    out = tmp_path_factory.mktemp("gpu")
    words = ["--device", "cpu", "--model", "test_resnet", "--image-size", "32", "--seconds", "1e6"]
    words += ["--packed", packed, "--checkpoints", out / "checkpoints"]
    # Several threads, as on a usual machine: a process forked after they were used would wait for them forever.
    done = subprocess.run(
        [sys.executable, "-c", WHOLE, out, *words],
        env=os.environ | {"OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads((out / "gpu.json").read_text())
    assert all(stage["finished"] for stage in content["stages"].values()), done.stdout
    return content


@pytest.fixture
def stages(whole: dict) -> dict:
    return whole["stages"]


def test_one_command_measures_every_stage_where_few_packages_are_installed(stages):
    assert list(stages) == [
        "machine", "graphs", "speed", "bare", "flower", "models", "plain", "compile", "comparison",
    ]  # fmt: skip
    assert stages["machine"]["versions"]["torch"] == torch.__version__.split("+")[0]
    assert min(stages["machine"][key] for key in ("copy_gb_per_s", "bfloat16_tflop_per_s")) > 0
    assert stages["graphs"]["difference"] == stages["graphs"]["noise"] == 0
    assert stages["graphs"]["work"]
    assert "pydantic" in stages["flower"]["missing"] or "typer" in stages["flower"]["missing"]
    assert stages["compile"]["compiled_over_ceiling"] > 0
    assert stages["plain"]["engine_over_plain"] > 0


def test_speeds_are_images_per_second_and_their_ratios(stages):
    for row in stages["speed"]["rows"] + stages["models"]["rows"]:
        assert (row["model"], row["batch_size"]) == ("test_resnet", 4)
        for name in ("ceiling", "timm", "ours", "ceiling_with_graphs", "ours_with_graphs"):
            assert row[f"{name}_images_per_s"] > 0
        for name in ("engine_over_ceiling", "engine_over_timm", "graphs_over_ceiling", "graphs_over_engine"):
            assert row[name] > 0
        assert row["peak_mb"] is None  # of a GPU
    assert set(stages["speed"]["step_ms"]) == {"gather", "augment", "normalise", "forward and backward", "optimiser"}


def test_bare_rounds_are_measured_for_both_batch_sizes(stages):
    cases = [(row["batch_size"], row["graphs"]) for row in stages["bare"]["rows"]]
    assert cases == [(size, graphs) for size in (2, 6) for graphs in (False, True)]
    assert all(0 < row["outside_training_s"] < row["round_s"] for row in stages["bare"]["rows"])


def test_the_comparison_reports_its_trainings(stages):
    found = stages["comparison"]
    assert [(each["fold"], each["arm"]) for each in found["trainings"]] == [(0, "centralised"), (0, "fedavg")]
    assert found["training_s"] == sum(each["seconds"] for each in found["trainings"])
    assert found["left"] == []
    assert 0 < found["outside_sites_s"] < found["federated_round_s"]


def test_the_page_gets_its_figures_and_rows(whole, stages):
    assert whole["part"] == "gpu"
    assert set(whole["machine"]) == {"cpu", "cores", "memory", "gpu"}
    assert whole["rows"] == stages["speed"]["rows"] + stages["models"]["rows"]
    assert whole["gpu_engine_over_ceiling"] == whole["rows"][0]["engine_over_ceiling"]
    assert whole["gpu_images_per_s"] == max(
        row[key] for row in whole["rows"] for key in ("ours_images_per_s", "ours_with_graphs_images_per_s")
    )
    assert whole["gpu_comparison_s"] == stages["comparison"]["training_s"]
    figures = {key for key in whole if key.startswith("gpu_")}
    assert {figure.key for figure in GPU_FIGURES} == figures
    assert {key for key in headline({}) if key.startswith("gpu_")} == figures


def test_simulations_with_one_to_three_workers_are_measured_over_the_bare_loop(tmp_path, monkeypatch):
    seconds = {2: (8.0, 7.0), 3: (6.0, 9.0)}
    one = {"round_s": 12.0, "federation_startup_s": 5.0, "bare_round_s": 4.0}
    monkeypatch.setattr("simulations.benchmarks.case.make_case", lambda folder, values: values)
    monkeypatch.setattr("simulations.benchmarks.federation.measure", lambda case, folder: one)
    monkeypatch.setattr(
        "simulations.benchmarks.federation.measure_workers", lambda case, folder, workers: seconds[workers]
    )
    results = Results(tmp_path / "gpu.json")
    measure_flower(Plan(TINY, tmp_path), results)
    rows = results.of(FLOWER)["rows"]
    assert [tuple(row.values()) for row in rows] == [(1, 12, 3, 5), (2, 8, 2, 7), (3, 6, 1.5, 9)]
    figures = json.loads(results.path.read_text())
    assert (figures["gpu_workers"], figures["gpu_federation_over_bare"], figures["workers"]) == (3, 1.5, rows)


def test_a_simulated_round_takes_about_as_many_steps_as_three_datasets_need():
    settings = build_settings(flower_settings(Plan(GpuSettings(), Path())), "the tests")
    assert (settings.batch_size, settings.steps_per_round, settings.workers) == (10, 120, 1)


def test_the_fewest_workers_that_are_hardly_slower_are_chosen():
    def row(workers: int, seconds: float) -> dict:
        return {"workers": workers, "round_s": seconds}

    rows = [row(1, 4.1), row(2, 4), row(3, 4.2)]
    assert choose_workers(rows) == 1
    assert choose_workers([row(1, 4.2), *rows[1:]]) == 2


def test_a_stopped_stage_keeps_its_rows_and_the_next_call_continues(tmp_path, monkeypatch):
    results, plan, join = Results(tmp_path / "gpu.json"), Plan(TINY, tmp_path, seconds=500.0), ForkProcess.join

    def slow(plan, results, seconds):
        results.add_row("slow", {"a": 1})
        return (tmp_path / "again").exists() or time.sleep(1000)

    def broken(plan, results, seconds):
        raise ValueError("broken")

    def killed(plan, results, seconds):
        os.kill(os.getpid(), signal.SIGKILL)

    def rest(plan, results, seconds):
        results.add("rest", {"seconds": seconds})
        return False

    def time_is_over_at_the_first_row(child, limit=None):
        while limit == 50 and not results.of("slow").get("rows"):
            time.sleep(0.01)
        if limit != 50 or (tmp_path / "again").exists():
            join(child)

    monkeypatch.setattr(ForkProcess, "join", time_is_over_at_the_first_row)
    stages = [Stage("slow", 50, slow), Stage("broken", 60, broken), Stage("killed", 60, killed), Stage("rest", 0, rest)]
    run_stages(stages, plan, results)
    found = results.read()
    assert found["slow"] == {"rows": [{"a": 1}], "stopped_after_s": 50}
    assert found["broken"] == {"error": "ValueError: broken"}
    assert found["killed"] == {"error": f"ended with status {-signal.SIGKILL}"}
    assert found["rest"]["seconds"] <= 500 - STOP
    assert not found["rest"]["finished"]
    (tmp_path / "again").touch()
    run_stages(stages, plan, results)
    assert results.read()["slow"] == {"rows": [{"a": 1}, {"a": 1}], "finished": True}


def test_a_stage_without_time_is_left_for_the_next_call(tmp_path, capsys):
    results = Results(tmp_path / "gpu.json")
    run_stages([Stage("late", 60, lambda *_: True)], Plan(TINY, tmp_path, seconds=STOP / 2), results)
    assert results.read() == {}
    assert "late: no time left" in capsys.readouterr().out


def test_settings_are_those_of_a_comparison_with_the_same_defaults():
    for name, value in vars(GpuSettings()).items():
        assert Settings.model_fields[name].default == value, name


def test_settings_contain_all_that_training_reads():
    read = {
        name
        for path in [
            *Path("fedbus/training/missing_classes").glob("*.py"),
            *(Path("fedbus/training") / name for name in ("loop.py", "losses.py", "optimiser.py", "step.py")),
        ]
        for name in re.findall(r"\b(?<!fedbus\.)settings\.(\w+)", path.read_text())
    }
    assert len(read) > 10
    assert read <= set(vars(GpuSettings()))


def test_the_plain_loop_reads_the_images_that_ours_trains_on(tmp_path):
    rows = noise_rows(TINY, 7, torch.device("cpu"))
    write_images(rows, tmp_path / "train")
    for number, (row, label) in enumerate(zip(rows.index, rows.labels, strict=True)):
        image = np.asarray(Image.open(tmp_path / "train" / CLASSES[label] / f"{number}.png"))
        np.testing.assert_array_equal(image, rows.images[row, 0].numpy())
    assert len(list(tmp_path.rglob("*.png"))) == 7


def test_the_bare_loop_gives_every_site_the_mean_of_the_previous_round(monkeypatch):
    load, loaded, shifts = bare.set_state, [], {"noise-0": 1.0, "noise-1": 2.0, "noise-2": 6.0}

    def note(model, state):
        loaded.append(state["fc.bias"].clone())
        load(model, state)

    def shift(model, rows, settings, number):
        assert len(rows.index) == 8  # two steps
        with torch.no_grad():
            model.fc.bias.add_(shifts[rows.owner])

    monkeypatch.setattr(bare, "set_state", note)
    monkeypatch.setattr(bare, "train_site", shift)
    found = run_bare(TINY, 2)
    assert len(loaded) == SITES * bare.ROUNDS
    for number in range(bare.ROUNDS):
        for bias in loaded[SITES * number : SITES * (number + 1)]:
            torch.testing.assert_close(bias, loaded[0] + 3.0 * number)
    assert 0 <= found["outside_training_s"] < found["round_s"]
