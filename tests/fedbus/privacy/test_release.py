"""Equal inputs give the same noise; anything that changes the result changes all of it."""

from dataclasses import replace

import pytest
import torch

from fedbus.privacy.release import release_digest, release_key, simulated_secret
from tests.fedbus.privacy.private_rows import patients_site, private_settings, rows_of

STATE, MOMENTA = {"w": torch.arange(3.0)}, {"0/exp_avg": torch.zeros(3)}
ROUND = {"seed": 0, "round_number": 1, "steps": 2, "proximal_mu": 0.0}


def digest(state=STATE, momenta=MOMENTA, rows=None, settings=None, **changes: object) -> str:
    settings = settings or private_settings()
    return release_digest(state, momenta, rows or rows_of(settings), settings, **(ROUND | changes))


def test_the_same_round_has_the_same_digest():
    assert digest() == digest()


@pytest.mark.parametrize(
    "change",
    [
        {"round_number": 2}, {"seed": 1}, {"steps": 3}, {"proximal_mu": 0.1}, {"momenta": {}},
        {"state": {"w": torch.arange(3.0) + 1e-6}}, {"settings": private_settings(learning_rate=0.02)},
        {"settings": private_settings(dp_clip=2.0)},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_whatever_the_result_depends_on_changes_the_digest(change):
    assert digest(**change) != digest()


def test_the_images_of_a_single_patient_change_it():
    site = patients_site()
    pixels = site.pixels.copy()
    pixels[site.splits["train"][0], 0, 0] ^= 1
    settings = private_settings()
    assert digest(rows=rows_of(settings, replace(site, pixels=pixels))) != digest()


def test_what_a_resumed_run_may_change_does_not_change_it():
    assert digest(settings=private_settings(workers=2, engine="in-process", bootstrap=7)) == digest()


def test_the_key_depends_on_the_secret_and_the_digest():
    keys = {
        release_key(secret, text) for secret in (bytes(32), simulated_secret(0), simulated_secret(1)) for text in "ab"
    }
    assert len(keys) == 6
    assert {len(key) for key in keys} == {32}
