"""Growth: slopes and exponents, private memory, and generated datasets with patients and near-duplicates."""

import inspect
import json
import mmap
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import scipy.stats
import torch

from fedbus.classes import CLASSES
from fedbus.datasets.registry import read_dataset
from fedbus.models.start import start_state
from fedbus.settings.load import build_settings
from fedbus.sites.pixel_cache import PixelCache, decode_dataset
from fedbus.sites.prepare import prepare_sites
from fedbus.training.rows import site_rows
from simulations.benchmarks import growth, growth_federation
from simulations.benchmarks.growth import CASES, TRENDS, Part, summarise
from simulations.benchmarks.growth_federation import measure_model, measure_rounds, measure_sites, slopes
from simulations.benchmarks.growth_images import SIDE, measure_images, run_epoch, write_dataset
from simulations.benchmarks.growth_memory import exponent, fit_slope, own_peak, run_apart

# Ray leaves its processes and /dev/null open until the interpreter ends.
pytestmark = [pytest.mark.timeout(1200), pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]


def process_facts(word: str) -> dict[str, Any]:
    return {"word": word, "process": os.getpid(), "parent": os.getppid()}


def test_a_case_runs_in_its_own_process():
    found = run_apart(process_facts, "one")
    assert found["word"] == "one"
    assert found["parent"] == os.getpid()
    assert not psutil.pid_exists(found["process"])


@pytest.mark.parametrize("seed", range(5))
def test_a_slope_and_its_error_are_those_of_a_regression(seed):
    generator = np.random.default_rng(seed)
    series = 3 * seed + 0.7 * np.arange(20 + seed) + generator.normal(0, 2, 20 + seed)
    expected = scipy.stats.linregress(np.arange(len(series)), series)
    found = fit_slope(series.tolist())
    assert found.value == pytest.approx(expected.slope)
    assert found.error == pytest.approx(expected.stderr)


def test_linear_growth_has_exponent_one_and_quadratic_growth_two():
    sizes = [3, 10, 30, 100]
    assert exponent(sizes, [0.5 * n for n in sizes]) == pytest.approx(1)
    assert exponent(sizes, [n**2 / 7 for n in sizes]) == pytest.approx(2)


def test_the_peak_counts_released_memory_but_no_memory_map(tmp_path):
    size = 200 * 2**20
    with (tmp_path / "map").open("wb") as file:
        file.truncate(size)
    with own_peak() as mapped:
        pages = np.memmap(tmp_path / "map", mode="r")
        assert pages[:: mmap.PAGESIZE].sum() == 0  # every page was read
        time.sleep(0.2)
    with own_peak() as held:
        block = np.ones(size, dtype=np.uint8)
        time.sleep(0.2)
        del block
    assert mapped.growth_megabytes < 50
    assert 0.9 * size < 1e6 * held.growth_megabytes < 1.5 * size


def test_slopes_leave_out_the_warm_up_and_rays_own_processes():
    series = {
        "driver": [900.0, 100.0, 102.0, 104.0, 106.0],
        "workers": [0.0, 50.0, 51.0, 52.0, 53.0],
        "store": [700.0, 7.0, 7.0, 7.0, 7.0],
        "ray": [0.0, 10.0, 20.0, 30.0, 40.0],
    }
    found = slopes(series, 1)
    assert found["memory_slope_mb_per_round"] == pytest.approx(3)
    assert found["memory_slope_error_mb_per_round"] == pytest.approx(0)
    assert {name: line["slope"] for name, line in found["slopes_mb_per_round"].items()} == pytest.approx(
        {"driver": 2, "workers": 1, "store": 0, "ray": 10}
    )


def test_a_dataset_has_patients_of_one_class_and_the_intended_near_duplicates(tmp_path):
    manifest = read_dataset("labels-csv", write_dataset(tmp_path / "one", 250, seed=3), "one")
    assert sum(manifest.counts.values()) == 250
    assert max(manifest.counts.values()) - min(manifest.counts.values()) <= 3
    labels_of: dict[str | None, list[str]] = {}
    for row in manifest.rows:
        labels_of.setdefault(row.patient, []).append(row.label)
    assert all(len(set(labels)) == 1 and len(labels) <= 3 for labels in labels_of.values())
    assert len(labels_of) == 84
    pixels = decode_dataset(manifest, PixelCache(tmp_path / "cache", SIDE))
    assert len(np.unique(pixels.digests, axis=0)) == 250
    distances = (np.unpackbits(pixels.hashes, axis=1)[:, None] != np.unpackbits(pixels.hashes, axis=1)[None]).sum(2)
    near = [(int(i), int(j)) for i, j in np.argwhere(distances <= 20) if i < j]
    assert near == [(98, 99), (198, 199)]


def test_datasets_of_two_seeds_share_no_image_and_one_seed_gives_the_same_bytes(tmp_path):
    first, again, other = (
        read_dataset("labels-csv", write_dataset(tmp_path / name, 40, seed=seed), name)
        for name, seed in (("first", 0), ("again", 0), ("other", 1))
    )
    assert first.digest == again.digest
    assert not {row.sha256 for row in first.rows} & {row.sha256 for row in other.rows}


def test_images_are_counted_and_an_epoch_reads_every_balanced_row(tmp_path):
    found = measure_images(tmp_path, 210)
    assert found["images"] == 210
    assert found["near_pairs"] == 2
    assert found["map_mb"] == pytest.approx(210 * SIDE**2 / 1e6)
    assert min(found[key] for key in ("open_s", "near_pairs_s", "epoch_s")) > 0
    dataset = str(tmp_path / "dataset")
    settings = build_settings(
        {"sites": {"one": {"reader": "labels-csv", "path": dataset}}, "cache": str(tmp_path / "c"), "image-size": SIDE},
        "the tests",
    )
    site = prepare_sites(settings, tmp_path / "again")["one"]
    rows = site_rows(site, settings, 0, torch.device("cpu"))
    assert len(rows.index) % len(CLASSES) == 0
    assert found["epoch_steps"] == run_epoch(site, settings) == -(-len(rows.index) // settings.batch_size)


LINES = [
    {"seconds": seconds, "site_seconds": {"a": 0.5 * seconds, "b": 0.25 * seconds}} for seconds in (99.0, 4.0, 2.0, 6.0)
]


def test_the_first_round_does_not_count_and_the_sites_work_is_subtracted(tmp_path, monkeypatch):
    monkeypatch.setattr(growth_federation, "run", lambda case: LINES)
    sites = measure_sites(tmp_path / "sites", 4)
    assert (sites["sites"], sites["round_s"], sites["round_s_per_site"], sites["work_s_per_site"]) == (4, 4, 1, 0.75)
    assert (sites["workers"], sites["overhead_ms"]) == (1, 250)
    assert 20 < sites["peak_mb"] < 20_000
    model = measure_model(tmp_path / "model", "test_resnet")
    size = sum(value.numel() for value in start_state("test_resnet", "none", 0).values()) * 4 / 1e6
    assert (model["round_s"], model["outside_s"]) == (4, 1)
    assert model["model_mb"] == pytest.approx(size)
    assert model["message_mb"] == pytest.approx(size)
    assert model["message_fp16_mb"] == pytest.approx(size / 2)


def test_no_two_sites_have_an_image_in_common(tmp_path, monkeypatch):
    cases = []
    monkeypatch.setattr(growth_federation, "run", lambda case: cases.append(case) or LINES)
    measure_sites(tmp_path, 5)
    facts = json.loads((cases[0].out / "sites.json").read_text())
    assert len(facts) == 5
    assert all(site["dropped"] == [] and site["images"] == 30 for site in facts.values())


def test_memory_of_a_simulation_is_read_after_every_round(tmp_path):
    found = run_apart(measure_rounds, tmp_path, "test_resnet", 6)
    assert found["warm_up"] == 3
    assert found["series_mb"].keys() == {"driver", "workers", "ray", "store"}
    assert all(len(series) == 6 for series in found["series_mb"].values())
    for name in ("driver", "workers", "ray"):
        assert 20 < min(found["series_mb"][name]) <= max(found["series_mb"][name]) < 20_000, name
    assert 0 <= min(found["series_mb"]["store"]) <= max(found["series_mb"]["store"]) < 100
    assert found | slopes(found["series_mb"], 3) == found


@pytest.mark.parametrize("part", Part)
def test_every_case_fits_its_functions_signature(part):
    measure, full, quick = CASES[part]
    for arguments in (*full, *quick):
        inspect.signature(measure).bind(Path(), *arguments)
    assert len(quick) <= len(full)


def test_a_part_is_written_with_its_trend_and_its_machine(tmp_path, monkeypatch):
    def measure(folder: Path, images: int) -> dict[str, Any]:
        assert folder.parent.is_dir()
        assert not folder.exists()
        return {"images": images, **dict.fromkeys(TRENDS[Part.IMAGES][1], images**2 / 100)}

    monkeypatch.setitem(CASES, Part.IMAGES, (measure, ((10,), (20,), (40,)), ((10,), (20,))))
    monkeypatch.setattr(growth, "run_apart", lambda work, *arguments: work(*arguments))
    for quick, count in ((False, 3), (True, 2)):
        growth.main(Part.IMAGES, tmp_path / "out" / "images.json", quick)
        found = json.loads((tmp_path / "out" / "images.json").read_text())
        assert [row["images"] for row in found["rows"]] == [10, 20, 40][:count]
        assert found["exponents"] == pytest.approx(dict.fromkeys(TRENDS[Part.IMAGES][1], 2))
        assert (found["part"], found["quick"]) == ("images", quick)
        assert "machine" in found
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["images.json"]


def test_cases_with_several_workers_are_not_part_of_the_trend():
    rows = [{"sites": n, "workers": 1, "round_s": 0.1 * n} for n in (3, 10, 30)]
    rows.append({"sites": 30, "workers": 8, "round_s": 100.0})
    found = summarise(Part.SITES, rows)
    assert found["exponents"] == pytest.approx({"round_s": 1})
    assert found["rows"] == rows


def test_the_figures_of_the_rounds_are_top_level_keys():
    row = {"memory_slope_mb_per_round": 0.1, "memory_slope_error_mb_per_round": 0.2}
    assert summarise(Part.ROUNDS, [row]) == row
