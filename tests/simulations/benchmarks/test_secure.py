"""The benchmark of secure aggregation, on a model of a few values."""

import pytest
import torch

from fedbus.errors import RunError
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
