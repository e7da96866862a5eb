"""A site that adds to a secure sum what no honest site adds, to its masked vectors: masks do not keep it from that."""

import numpy as np
import pytest
from flwr.app import Array, Message

from fedbus.errors import RunError
from fedbus.secure_aggregation.numbers import SHARE_BITS
from fedbus.transport.messages import ARRAYS
from fedbus.transport.secure_records import MASKED_NUMBERS, MASKED_VALUES
from fedbus.transport.summed_score import LOSS_BITS
from fedbus.transport.summed_update import STATISTIC_BITS
from tests.five_sites import SECURE, first
from tests.server.rounds.federation import federate

LOSS_SUM, CLASS_LOSS, SHARE, STEPS, STATISTICS = 9, 12, 13, 15, 16
"""Positions among the numbers of a round."""

EVERYTHING = slice(None)

LIES = {
    "shares that cancel": (MASKED_NUMBERS, SHARE, -0.99999 * 2**SHARE_BITS, "times the model's norm"),
    "no share": (MASKED_NUMBERS, SHARE, -(2**SHARE_BITS), "add up to"),
    "a larger share": (MASKED_NUMBERS, SHARE, 0.2 * 2**SHARE_BITS, "add up to 1.2"),
    "values at the end of the range": (MASKED_VALUES, EVERYTHING, 2**30, "times the model's norm"),
    "a negative loss": (MASKED_NUMBERS, LOSS_SUM, -1e6 * 2**LOSS_BITS, "losses of .* is negative"),
    "the best loss": (MASKED_NUMBERS, CLASS_LOSS, -1e3 * 2**LOSS_BITS, "losses of .* is negative"),
    "negative steps": (MASKED_NUMBERS, STEPS, -9, "steps"),
    "negative variances": (MASKED_NUMBERS, slice(STATISTICS, None), -100 * 2**STATISTIC_BITS, "running_var is neg"),
}
"""What one site adds to which of its vectors, and what the hub says."""


@pytest.mark.parametrize("lie", LIES)
def test_a_sum_that_no_honest_sites_make_is_refused_and_nothing_of_it_is_kept(
    lie, five_site_settings, five_folder, tmp_path
):
    vector, place, added, reason = LIES[lie]
    settings = first(five_site_settings, 3, **SECURE, rounds=1)

    def spoil(site: str, reply: Message) -> None:
        if site == "north" and reply.metadata.message_type == "train.masked":
            masked = reply.content[ARRAYS][vector].numpy().copy()
            chosen = masked[place : place + 1] if isinstance(place, int) else masked[place]
            chosen += np.int64(added).astype(masked.dtype)
            reply.content[ARRAYS][vector] = Array(masked)

    with pytest.raises(RunError, match=reason) as error:
        federate(settings, five_folder, tmp_path, spoil=spoil, title=f"lie-{list(LIES).index(lie)}")
    assert "a sum does not show which site is wrong" in str(error.value)
    assert not (tmp_path / "history.json").exists()
    assert not list(tmp_path.glob("*.safetensors"))
