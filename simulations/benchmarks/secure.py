"""Measure what secure aggregation costs a site and the hub per round, beside a plain round of the same model.

    python -m simulations.benchmarks.secure SETTINGS.json OUT.json [--quick]

Each session is run in this process, one site after another, without training and without a network: all of its seconds
are those of one core. *Plain* is what the same round needs without secure aggregation: a site packs its update, the hub
adds it to the mean. The *floor* is what no implementation of the masks can avoid: AES-256-CTR over one model per mask,
and its addition. All take turns; seconds are medians over the turns. If the secure mean differs from the plain one by
more than the quantisation allows, the measurement fails.
"""

import fedbus.system.threads  # noqa: F401 -- decides how threads wait, before PyTorch is imported

# isort: split
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import numpy as np
import torch
import typer
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from fedbus.deployment.keys import public_line
from fedbus.errors import RunError
from fedbus.models.start import start_state
from fedbus.models.state import State
from fedbus.runs.environment import describe_environment
from fedbus.secure_aggregation.fixed_point import decode_mean, encode_update, step_of, tensor_ranges
from fedbus.secure_aggregation.hub_session import HubSession
from fedbus.secure_aggregation.masks import BLOCK_BYTES
from fedbus.secure_aggregation.numbers import SHARE_BITS, NumberFormat, encode_numbers
from fedbus.secure_aggregation.site_session import SiteSession
from fedbus.secure_aggregation.terms import SessionTerms, digest_of_arrays, digest_of_layout
from fedbus.system.files import read_json, write_json
from fedbus.transport.packing import FLAT, layout_of, pack

SITES, TURNS = (3, 10), 3
"""Sites of each session, and sessions of each size."""

NUMBERS = (NumberFormat("share", 1, SHARE_BITS), NumberFormat("counts", 100, 0))
"""A report's numbers; their size hardly matters beside the model's."""

UPDATE_RANGE = 4.0
CHANGE = 0.01
"""Standard deviation of the update's values."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Stopwatch:
    """Seconds of processor time by step, summed; the sites take turns on one core, so others' work is not counted."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def time(
        self, step: str, work: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        """Do one step and add its time."""
        started = time.process_time()
        result = work(*args, **kwargs)
        self.seconds[step] += time.process_time() - started
        return result


def measure(state: State, sites: int, turns: int, lost: int = 0) -> dict[str, Any]:
    """Run sessions of one size.

    Args:
        state: The model that is sent.
        sites: Number of sites.
        turns: Number of sessions.
        lost: Sites that are lost before they send their masked vector.

    Returns:
        Seconds per site and step, of the hub by step, of a plain round and of the floor; bytes sent and received by a
        site, and their ratio to a plain round's.

    Raises:
        RunError: If a mean is not exact.
    """
    seconds: dict[str, list[float]] = defaultdict(list)
    traffic: dict[str, int] = {}
    for turn in range(turns):
        watch = Stopwatch()
        traffic = run_session(state, sites, lost, np.random.default_rng(turn), watch)
        watch.time("floor", floor, sum(value.numel() for value in state.values()), sites)
        for step, spent in watch.seconds.items():
            by_site = {"site": sites, "masking": sites - lost, "plain site": sites - lost}.get(step.split(":")[0], 1)
            seconds[step].append(spent / by_site)
    medians = {step: statistics.median(spent) for step, spent in seconds.items()}
    site = sum(spent for step, spent in medians.items() if step.startswith(("site:", "masking:")))
    flat = 2 * traffic.pop("flat")
    return {
        "sites": sites,
        "lost": lost,
        "values": sum(value.numel() for value in state.values()),
        "site_seconds": site,
        "hub_seconds": sum(spent for step, spent in medians.items() if step.startswith("hub:")),
        "mask_over_floor": medians["masking:mask"] / medians["floor"],
        "bytes": traffic,
        "bytes_over_flat": sum(traffic.values()) / flat,
        "seconds": medians,
    }


def run_session(state: State, sites: int, lost: int, random: np.random.Generator, watch: Stopwatch) -> dict[str, int]:
    """Run one session and the plain round beside it; return the bytes that a site receives and sends."""
    base = {key: value.numpy() for key, value in state.items()}
    flat = pack(state, "flat")
    terms, keys = make_terms(base, flat, sites)
    ranges, size = tensor_ranges(base, UPDATE_RANGE), (flat[FLAT].size, sum(entry.size for entry in NUMBERS))
    hub = watch.time("hub:open", HubSession, terms, size)
    started = {name: watch.time("site:keys", SiteSession.start, terms, name, keys[name]) for name in keys}
    sessions = {name: session for name, (session, _) in started.items()}
    known = watch.time("hub:keys", hub.take_keys, {name: data for name, (_, data) in started.items()})
    shared = {name: watch.time("site:shares", site.share, known) for name, site in sessions.items()}
    sealed = watch.time("hub:shares", hub.take_shares, shared)
    present, plain = sorted(keys)[: sites - lost], np.zeros(size[0], dtype=np.float64)
    for name in present:
        update = {
            key: value + random.standard_normal(value.shape, np.float32) * np.float32(CHANGE)
            for key, value in base.items()
        }
        values, numbers = _site_work(sessions[name], sealed[name], update, base, flat, watch)
        watch.time("hub:add", hub.add, name, values, numbers)
        tensors = {key: torch.from_numpy(value) for key, value in update.items()}
        packed = watch.time("plain site:pack", pack, tensors, "flat")[FLAT]
        watch.time("plain hub:add", np.add, plain, packed, out=plain)
    survivors = hub.survivors()
    revealed = {name: watch.time("masking:reveal", sessions[name].unmask, survivors) for name in present}
    total, _ = watch.time("hub:unmask", hub.unmask, revealed)
    shares = len(present) / sites
    mean = watch.time("hub:decode", decode_mean, total, base, ranges, shares)
    _check_mean(mean, plain / len(present), max(ranges.values()), sites)
    some = present[0]
    return {
        "flat": flat[FLAT].nbytes,
        "received": flat[FLAT].nbytes
        + _size({"terms": terms.to_bytes(), **known, **sealed[some]})
        + len("".join(survivors).encode()),
        "sent": values.nbytes + numbers.nbytes + len(known[some]) + _size(shared[some]) + len(revealed[some]),
    }


def _site_work(
    session: SiteSession,
    sealed: Mapping[str, bytes],
    update: Mapping[str, NDArray[np.float32]],
    base: Mapping[str, NDArray[np.float32]],
    flat: Mapping[str, NDArray[Any]],
    watch: Stopwatch,
) -> tuple[NDArray[np.uint32], NDArray[np.uint64]]:
    """Do what a site does around its training."""
    watch.time("masking:accept", session.accept, sealed)
    watch.time("masking:check model", session.terms.check_model, flat)
    share = session.terms.share_of(1.0)
    ranges = watch.time("masking:ranges", tensor_ranges, base, UPDATE_RANGE)
    values = watch.time("masking:encode", encode_update, update, base, ranges, share)
    numbers = encode_numbers({"share": share, "counts": np.ones(100)}, NUMBERS)
    watch.time("masking:mask", session.mask, values, numbers)
    return values, numbers


def make_terms(
    base: Mapping[str, NDArray[np.float32]], flat: Mapping[str, NDArray[Any]], sites: int
) -> tuple[SessionTerms, dict[str, ec.EllipticCurvePrivateKey]]:
    """Make the terms of a session with new keys of sites of equal weight, and these keys."""
    keys = {f"site-{number:02}": ec.generate_private_key(ec.SECP384R1()) for number in range(sites)}
    terms = SessionTerms(
        session=np.random.default_rng().bytes(16).hex(), title="benchmark", run="benchmark", arm="fedavg", round=1,
        purpose="train", instruction="0" * 64, model=digest_of_arrays(flat), total_weight=float(sites),
        update_range=UPDATE_RANGE, layout=digest_of_layout({key: value.shape for key, value in base.items()}, NUMBERS),
        roster={name: public_line(key.public_key(), name) for name, key in keys.items()},
    )  # fmt: skip
    return terms, keys


def floor(values: int, masks: int) -> None:
    """Do only what masks can't do without: compute one stream per mask, and add it; the sum is not even stored."""
    zeros, buffer = bytes(BLOCK_BYTES), bytearray(BLOCK_BYTES + 16)
    noise = np.frombuffer(buffer, dtype=np.uint32, count=BLOCK_BYTES // 4)
    block = np.zeros_like(noise)
    for number in range(masks):
        stream = Cipher(algorithms.AES(bytes([number]) * 32), modes.CTR(bytes(16))).encryptor()
        for _ in range(0, values, noise.size):
            stream.update_into(zeros, buffer)
            np.add(block, noise, out=block)


def _check_mean(
    mean: Mapping[str, NDArray[np.float32]], plain: NDArray[np.float64], largest_range: float, sites: int
) -> None:
    """Refuse a mean that is further from the plain one than quantisation and float32 explain."""
    found = np.concatenate([mean[key].reshape(-1) for key in sorted(mean)])
    bound = sites * step_of(largest_range) + float(np.spacing(np.float32(np.abs(plain).max())))
    if not float(np.abs(found - plain).max()) <= bound:
        raise RunError("The secure mean is not the plain one.", "Report this as a bug.")


def _size(messages: Mapping[str, bytes]) -> int:
    return sum(len(name.encode()) + len(data) for name, data in messages.items())


def main(
    settings: Path,
    out: Path,
    quick: Annotated[bool, typer.Option(help="Only the larger session, once.")] = False,
) -> None:
    """Measure with the model of the settings in a JSON file, and write OUT."""
    state = start_state(read_json(settings)["model"], "none", 0)
    cases = [(SITES[-1], 0)] if quick else [*((sites, 0) for sites in SITES), (SITES[-1], 3)]
    rows = [measure(state, sites, 1 if quick else TURNS, lost) for sites, lost in cases]
    largest = next(row for row in rows if (row["sites"], row["lost"]) == (SITES[-1], 0))
    figures = {
        "secure_site_s": largest["site_seconds"],
        "secure_bytes_over_flat": largest["bytes_over_flat"],
        "secure_mask_over_floor": largest["mask_over_floor"],
    }
    write_json(out, figures | {"tensors": len(layout_of(state)), "rows": rows, **describe_environment()})


if __name__ == "__main__":
    typer.run(main)
