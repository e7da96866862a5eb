"""A federation of three hospitals with generated archives, as real processes on loopback."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from simulations.local_federation import LocalFederation
from tests.archives import make_class_folders, make_labels_csv

STUDY = {
    "arms": ["fedavg"], "image-size": 32, "model": "test_resnet", "weights": "none", "batch-size": 4, "rounds": 2,
    "learning-rate": 0.01, "bootstrap": 50, "folds": 3, "device": "cpu", "round-timeout": 60,
}  # fmt: skip

TAMPERED = Path(__file__).parent / "tampered"
"""Holds a sitecustomize.py that makes a site's own process misbehave as the environment says."""


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, Path]]:
    root = tmp_path_factory.mktemp("hospitals")
    return {
        "east": ("class-folders", make_class_folders(root / "e", {"benign": 12, "malignant": 9, "normal": 9}, seed=1)),
        "north": ("labels-csv", make_labels_csv(root / "n", {"benign": 24, "malignant": 20}, seed=2)),
        "south": ("labels-csv", make_labels_csv(root / "s", {"benign": 14, "malignant": 20, "normal": 11}, seed=3)),
    }


@pytest.fixture(scope="module")
def federation(archives, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFederation]:
    """Hub and sites, all joined."""
    with LocalFederation(tmp_path_factory.mktemp("federation"), archives, {"OMP_NUM_THREADS": "1"}) as found:
        found.start()
        yield found


def write_settings(folder: Path, name: str = "study", **changes: object) -> Path:
    """Write a study file; keys with underscores, as Python wants them."""
    settings = STUDY | {key.replace("_", "-"): value for key, value in changes.items()}
    lines = [f"{key} = {_toml(value)}" for key, value in settings.items()]
    path = folder / f"{name}.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _toml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_toml(each) for each in value)}]"
    return f'"{value}"' if isinstance(value, str) else str(value).lower()
