"""Compute the figures of `bench.json` from what the parts measured, with their aims."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Found = Mapping[str, Mapping[str, Any]]
"""What each part measured, by the part's name."""


@dataclass(frozen=True)
class Figure:
    """One row of the tables.

    Attributes:
        key: Its key in `bench.json`.
        words: What it measures, for the tables.
        part: The part that measures it.
        needs: The parts from whose measurements it is computed.
        compute: The figure from all parts; None if they have no such case.
        aim: The aim in words; empty if there is none.
        least, most: The range in which the aim is reached.
    """

    key: str
    words: str
    part: str
    needs: frozenset[str]
    compute: Callable[[Found], float | None]
    aim: str = ""
    least: float = -math.inf
    most: float = math.inf

    def reached(self, value: float) -> bool:
        """Return whether a value reaches the aim."""
        return self.least <= value <= self.most


def figures_of(device: str) -> tuple[Figure, ...]:
    """Return all figures, with the aims for a kind of device: `cpu` or `cuda`."""
    ceiling, plain, bare = (0.97, 2.0, 1.05) if device == "cpu" else (0.95, 5.0, 1.25)
    return (
        _measured(
            "engine_over_ceiling", "engine", "images/s: our loop over the model on one resident batch", least=ceiling
        ),
        _measured(
            "engine_over_plain", "engine", "images/s: our loop over ImageFolder, DataLoader, float32", least=plain
        ),
        _measured(
            "loaded_over_fair_share", "loaded", "seconds: a step beside two busy loops over its fair share", most=1.3
        ),
        _measured(
            "quiet_over_default", "loaded", "seconds: a step on a quiet machine over OpenMP's default", most=1.05
        ),
        *_startup_figures(),
        _measured("federation_over_bare", "federation", "seconds: a federated round over a bare loop's", most=bare),
        _measured("federation_over_steps", "federation", "the same, over only the bare loop's optimiser steps"),
        _measured("federation_startup_s", "federation", "seconds until a simulation trains", most=8),
        _peer(
            "pfl_matched_over_ours", "seconds: a round of pfl-research with our steps, over ours", least=1
        ),
        _peer("fluke_over_ours", "the same with fluke"),
        _peer("nvflare_over_ours", "the same with NVIDIA FLARE's simulator"),
        _peer("pfl_over_ours", "the same with pfl-research and its own loop"),
        _peer("plain_flower_over_ours", "the same with Flower's quickstart and its own loop"),
        _measured("inference_over_bare", "inference", "images/s: fedbus predict over a bare timm loop", least=0.95),
        _measured("onnxruntime_over_bare", "inference", "images/s: ONNX Runtime over a bare timm loop"),
        _measured("secure_site_s", "secure", "seconds per site and round for secure aggregation, 10 sites", most=3),
        _measured("secure_bytes_over_flat", "secure", "bytes: a round with secure aggregation over flat", most=1.1),
        _measured("secure_mask_over_floor", "secure", "seconds: masking over only the cipher and the additions"),
        _measured("memory_slope_mb_per_round", "rounds", "MB that memory grows per round"),
        _case(
            "deployed_outside_flat_s", "deployment", "seconds: a deployed round besides training, 94 MB, `flat`",
            ("payload", "flat"), "outside_seconds", most=3,
        ),
        _case(
            "deployed_outside_half_s", "deployment", "the same with `flat-fp16`",
            ("payload", "flat-fp16"), "outside_seconds",
        ),
        _measured("secure_extra_s", "deployment", "seconds: a deployed round with secure aggregation over one without"),
        _case(
            "round_100_sites_s", "sites", "seconds: a round of 100 sites, `test_resnet`", ("sites", 100), "round_s"
        ),
        _case("round_1000_sites_s", "sites", "the same, 1 000 sites", ("sites", 1000), "round_s"),
        _case(
            "site_overhead_ms", "sites", "ms per site and round besides its work, 1 000 sites, one worker",
            ("sites", 1000), "overhead_ms", most=20,
        ),
        _case(
            "prepare_100000_images_s", "images", "seconds: prepare a site of 100 000 images",
            ("images", 100_000), "open_s",
        ),
        _case(
            "outside_400_mb_s", "models", "seconds: a simulated round besides training, 401 MB",
            ("model", "ecaresnet269d"), "outside_s",
        ),
    )  # fmt: skip


def _startup_figures() -> tuple[Figure, ...]:
    return (
        _measured("startup_compare_s", "startup", "seconds from `fedbus compare` to its first optimiser step", most=4),
        _measured("startup_first_compare_s", "startup", "the same the first time: 450 phantoms are drawn and decoded"),
        _measured("startup_join_s", "deployment", "seconds from `fedbus site join` to a connected site"),
        _measured("startup_hub_run_s", "deployment", "seconds from `fedbus hub run` to its first round, three sites"),
    )


def _measured(key: str, part: str, words: str, *, least: float = -math.inf, most: float = math.inf) -> Figure:
    """Make a figure that a part computed itself, with its aim, if it has one."""
    aim = f"at least {least:g}" if least > -math.inf else f"at most {most:g}" if most < math.inf else ""
    return Figure(key, words, part, frozenset({part}), lambda found: _number(found[part].get(key)), aim, least, most)


def _number(value: Any) -> float | None:
    """Return a figure as a number; None if the part could not measure it in its time."""
    return None if value is None else float(value)


def _peer(key: str, words: str, *, least: float = -math.inf) -> Figure:
    """Make a figure of a peer; None if it was not measured, since not every machine can install every peer."""
    aim = f"at least {least:g}" if least > -math.inf else ""
    return Figure(key, words, "peers", frozenset({"peers"}), lambda found: found["peers"].get(key), aim, least)


def _case(key: str, part: str, words: str, case: tuple[str, Any], quantity: str, *, most: float = math.inf) -> Figure:
    """Make a figure of one of a part's cases, for example of the payload `flat`."""
    name, value = case

    def compute(found: Found) -> float | None:
        return next((float(row[quantity]) for row in found[part].get("rows", ()) if row[name] == value), None)

    aim = f"at most {most:g}" if most < math.inf else ""
    return Figure(key, words, part, frozenset({part}), compute, aim, most=most)


GPU_FIGURES = (
    _measured("gpu_images_per_s", "gpu", "images/s at 224 px, `resnetv2_50`, bfloat16", least=2500),
    _measured("gpu_engine_over_ceiling", "gpu", "images/s: our loop over its ceiling", least=0.95),
    _measured("gpu_engine_over_timm", "gpu", "images/s: our loop over timm's plain step", least=0.95),
    _measured("gpu_graphs_over_engine", "gpu", "images/s: our loop with CUDA graphs over without"),
    _measured("gpu_graphs_over_ceiling", "gpu", "images/s: our loop over its ceiling, both with CUDA graphs"),
    _measured("gpu_compiled_over_ceiling", "gpu", "images/s: the ceiling with torch.compile over without"),
    _measured("gpu_engine_over_plain", "gpu", "images/s: our loop over ImageFolder, DataLoader, float32", least=5),
    _measured("gpu_federation_over_bare", "gpu", "seconds: a simulated round over a bare loop's", most=1.25),
    _measured("gpu_workers", "gpu", "workers: the fewest that are hardly slower than the best"),
    _measured("gpu_comparison_s", "gpu", "seconds: three datasets, 224 px, 30 epochs, folds 2 to 4", most=600),
    _measured("gpu_comparison_peak_mb", "gpu", "MB of the GPU's memory for that comparison"),
)
"""Figures of `simulations.benchmarks.gpu`, which `make bench` does not run."""


def figures(found: Found, runs: Mapping[str, str]) -> dict[str, float | None]:
    """Compute all figures; None where a part is missing.

    Parts compare what they ran themselves; rounds of other simulators are compared with ours of the same run only.

    Args:
        found: What each part measured, by name.
        runs: Which run each part was measured in.
    """
    return {
        figure.key: figure.compute(found)
        if figure.needs <= found.keys() and len({runs[name] for name in figure.needs}) == 1
        else None
        for figure in (*figures_of("cpu"), *(GPU_FIGURES if "gpu" in found else ()))
    }
