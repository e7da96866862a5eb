"""The study on pfl: it gets our rows and makes our number of steps; where pfl is unavailable, the reason is given."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fedbus.models.inputs import MEAN, STD
from fedbus.system.processes import environment_with
from fedbus.training.rows import site_rows
from simulations.benchmarks import peer_pfl

ROOT = Path(__file__).resolve().parents[3]
CPU = torch.device("cpu")


@pytest.mark.parametrize("epochs", [0.5, 1.0, 2.0])
def test_one_pass_over_the_rows_gives_our_number_of_full_batches(tiny_case, epochs):
    settings = tiny_case.settings.model_copy(update={"local_epochs": epochs})
    for site in tiny_case.sites.values():
        rows = site_rows(site, settings, 0, CPU)
        images, labels = peer_pfl._training(rows, settings, matched=True)
        assert len(images) == len(labels) == rows.steps_per_round(settings) * settings.batch_size
        if epochs == 1:
            counts = torch.bincount(labels, minlength=3)[torch.unique(rows.labels)]
            assert counts.max() - counts.min() <= settings.batch_size, "balanced, but for what fills the last batch"
        known = {(site.pixels[r].tobytes(), int(site.labels[r])) for r in site.splits["train"]}
        given = {(p.numpy().tobytes(), int(c)) for p, c in zip(images, labels, strict=True)}
        assert given <= known, "each image keeps its label, and none is from another split"


def test_images_are_stored_normalised_in_plain_and_as_bytes_if_matched(tiny_case):
    images, labels = peer_pfl._validation(tiny_case, CPU, matched=True)
    plain, same = peer_pfl._validation(tiny_case, CPU, matched=False)
    assert torch.equal(labels, same)
    assert labels.tolist() == [
        c for site in tiny_case.sites.values() for c in site.labels[site.splits["validation"]].tolist()
    ]
    assert images.dtype == torch.uint8
    assert plain.is_contiguous()
    expected = (images.numpy() / 255 - np.reshape(MEAN, (1, 3, 1, 1))) / np.reshape(STD, (1, 3, 1, 1))
    np.testing.assert_allclose(plain.numpy(), expected, atol=1e-5)


def test_an_empty_folder_contains_no_peer(tmp_path):
    assert not peer_pfl.find_peer(tmp_path)
    assert not peer_pfl.find_peer(tmp_path / "missing")


def test_every_requirement_must_be_installed_in_its_version(tmp_path):
    lines = peer_pfl.REQUIREMENTS.read_text().splitlines()
    pins = [line.split()[0].split("==") for line in lines if "==" in line]
    assert ["pfl", "0.6.0"] in pins
    for name, version in pins:
        assert not peer_pfl.find_peer(tmp_path)
        info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    assert peer_pfl.find_peer(tmp_path)
    assert peer_pfl.install_peer(tmp_path) == tmp_path, "an installed peer is not downloaded again"


def test_no_network_is_a_reason_and_not_an_error(tmp_path, monkeypatch):
    nowhere = {"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple", "UV_NO_CACHE": "1", "UV_HTTP_RETRIES": "0"}
    monkeypatch.setattr(peer_pfl, "environment_with", lambda settings: environment_with(nowhere))
    reason = peer_pfl.install_peer(tmp_path / "peer")
    assert isinstance(reason, str)
    assert "uv could not install it" in reason
    monkeypatch.setattr(peer_pfl, "environment_with", lambda settings: {"PATH": str(tmp_path)})
    assert "No such file" in str(peer_pfl.install_peer(tmp_path / "peer"))


@pytest.mark.skipif(
    not peer_pfl.find_peer(peer_pfl.PEER_FOLDER), reason=f"pfl is not installed in {peer_pfl.PEER_FOLDER}"
)
def test_pfl_takes_our_number_of_steps(tiny_case, tmp_path):
    settings, out = tmp_path / "settings.json", tmp_path / "peer.json"
    settings = tiny_case.settings.model_copy(update={"rounds": 2})
    settings.write_text(json.dumps(settings.as_dict()))
    command = [sys.executable, "-m", "simulations.benchmarks.peer_pfl", str(settings), str(out)]
    environment = environment_with({"PYTHONPATH": str(peer_pfl.PEER_FOLDER)})
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=240, capture_output=True)
    steps = sum(site_rows(site, settings, 0, CPU).steps_per_round(settings) for site in tiny_case.sites.values())
    for mode, result in json.loads(out.read_text()).items():
        assert result["steps"] == [steps, steps], mode
        assert len(result["round_seconds"]) == len(result["accuracy"]) == 2
        assert all(0 <= share <= 1 for share in result["accuracy"])
