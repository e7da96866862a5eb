"""Five sites of small noise images, of which a test takes three or more, and their federations in this process."""

from pathlib import Path

from fedbus.settings.load import build_settings
from fedbus.settings.schema import Settings
from tests.archives import make_class_folders

NAMES = ("east", "mid", "north", "south", "west")

SECURE = {"privacy": "secure-aggregation"}


def make_five_sites(root: Path) -> Settings:
    """Write the datasets of the sites, of unequal size and one without normals; one step per round is enough."""
    counts = [{"benign": 12 + 2 * i, "malignant": 9 + i, "normal": 9 if i != 1 else 0} for i in range(len(NAMES))]
    paths = {name: make_class_folders(root / name, counts[i], seed=i) for i, name in enumerate(NAMES)}
    return build_settings(
        {
            "sites": {name: {"reader": "class-folders", "path": str(path)} for name, path in paths.items()},
            "cache": str(root / "cache"), "image-size": 32, "model": "test_resnet", "weights": "none",
            "batch-size": 4, "rounds": 2, "steps-per-round": 1, "learning-rate": 0.01, "bootstrap": 50, "folds": 3,
            "device": "cpu", "precision": "float32",
        },
        "the tests",
    )  # fmt: skip


def first(settings: Settings, sites: int, **changes: object) -> Settings:
    """Return the settings with the first few sites, and with changes."""
    chosen = {name: settings.sites[name] for name in NAMES[:sites]}
    return settings.model_copy(update={"sites": chosen, **changes})
