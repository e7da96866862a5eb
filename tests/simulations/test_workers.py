"""How many sites train at the same time, and a worker's share of processors and GPUs."""

from types import SimpleNamespace

import pytest
import torch

from fedbus.errors import SettingsError
from simulations.workers import count_workers, gpus_per_worker, worker_share
from tests.tiny import tiny_settings


@pytest.fixture
def gpus(monkeypatch):
    """A function that lets PyTorch find GPUs with these gigabytes of memory."""

    def find(*gigabytes: float) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(gigabytes))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(gigabytes))
        monkeypatch.setattr(
            torch.cuda, "get_device_properties", lambda gpu: SimpleNamespace(total_memory=gigabytes[gpu] * 1e9)
        )

    return find


SITES = {name: {"reader": "class-folders", "path": f"/{name}"} for name in ("a", "b", "c", "d", "e")}


@pytest.mark.parametrize(
    ("gigabytes", "workers"),
    [((), 1), ((8,), 1), ((24,), 1), ((34,), 2), ((80,), 3), ((141,), 3), ((80, 24), 2), ((80, 80), 5)],
)
def test_as_many_sites_train_at_a_time_as_pay_and_fit(gigabytes, workers, gpus):
    gpus(*gigabytes)
    assert count_workers(tiny_settings(device="auto", sites=SITES)) == workers


def test_a_number_that_was_set_is_used(gpus):
    gpus(80)
    assert count_workers(tiny_settings(device="auto", sites=SITES, workers=1)) == 1
    assert count_workers(tiny_settings(device="auto", sites=SITES, workers=4)) == 4


def test_one_site_trains_at_a_time_on_a_cpu_and_on_a_cluster_whose_gpus_are_unknown(gpus):
    gpus(80)
    assert count_workers(tiny_settings(device="cpu", sites=SITES)) == 1
    assert count_workers(tiny_settings(device="auto", sites=SITES, ray_address="127.0.0.1:1")) == 1


def test_a_missing_gpu_is_an_error_before_ray_starts(gpus):
    gpus()
    with pytest.raises(SettingsError, match="finds no GPU"):
        count_workers(tiny_settings(device="cuda", sites=SITES))


@pytest.mark.parametrize(
    ("gpus", "workers", "share"), [(0, 3, 0.0), (1, 1, 1.0), (1, 3, 1 / 3), (2, 3, 0.5), (3, 2, 1.0), (4, 2, 2.0)]
)
def test_gpus_are_shared_in_parts_that_ray_accepts_and_all_workers_fit(gpus, workers, share):
    assert gpus_per_worker(gpus, workers) == pytest.approx(share)
    if gpus:
        assert share <= 1 or share == int(share)
        assert int(1 / share) * gpus >= workers if share < 1 else share * workers <= gpus


def test_workers_share_the_processors_and_use_no_gpu_on_the_cpu():
    assert worker_share("auto", 3, 16, 1) == {"num_cpus": 5, "num_gpus": pytest.approx(1 / 3)}
    assert worker_share("cpu", 3, 2, 1) == {"num_cpus": 1, "num_gpus": 0}
