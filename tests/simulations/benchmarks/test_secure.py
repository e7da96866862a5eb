"""The benchmark of secure aggregation, on a model of a few values."""

from pathlib import Path

import pytest
import torch

from fedbus.errors import RunError
from fedbus.system.files import read_json
from simulations.benchmarks import secure

STATE = {"b.weight": torch.linspace(-2, 2, 600).reshape(20, 30), "a.bias": torch.zeros(10)}


@pytest.mark.parametrize(("sites", "lost"), [(3, 0), (4, 1)])
def test_a_session_is_exact_and_every_byte_and_step_is_counted(sites: int, lost: int) -> None:
    found = secure.measure(STATE, sites, 1, lost)
    assert found["values"] == 610
    sent = found["bytes"]["sent"]
    values, numbers, share, revealed = 610 * 4, 101 * 8, 144, 32
    assert sent > values + numbers + (sites - 1) * share + sites * revealed  # and the site's keys
    assert found["bytes_over_flat"] == (sent + found["bytes"]["received"]) / (2 * 610 * 4)
    assert found["site_seconds"] == pytest.approx(
        sum(found["seconds"][f"{who}:{step}"] for who, step in (
            ("site", "keys"), ("site", "shares"), ("masking", "accept"), ("masking", "check model"),
            ("masking", "ranges"), ("masking", "encode"), ("masking", "mask"), ("masking", "reveal"),
        ))
    )  # fmt: skip


def test_a_mean_that_is_not_exact_fails_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = secure.decode_mean
    monkeypatch.setattr(secure, "decode_mean", lambda *args: {key: value + 1e-5 for key, value in exact(*args).items()})
    with pytest.raises(RunError, match="not the plain one"):
        secure.measure(STATE, 3, 1)


@pytest.mark.parametrize("quick", [True, False])
def test_the_part_writes_the_figures_of_the_larger_session(
    quick: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secure, "start_state", lambda *_: STATE)
    monkeypatch.setattr(secure, "TURNS", 1)
    (tmp_path / "settings.json").write_text('{"model": "any"}')
    secure.main(tmp_path / "settings.json", tmp_path / "out.json", quick)
    found = read_json(tmp_path / "out.json")
    assert [(row["sites"], row["lost"]) for row in found["rows"]] == ([] if quick else [(3, 0)]) + [(10, 0)] + (
        [] if quick else [(10, 3)]
    )
    larger = next(row for row in found["rows"] if (row["sites"], row["lost"]) == (10, 0))
    assert found["secure_site_s"] == larger["site_seconds"]
    assert found["secure_bytes_over_flat"] == larger["bytes_over_flat"]
    assert found["secure_mask_over_floor"] == larger["mask_over_floor"]
