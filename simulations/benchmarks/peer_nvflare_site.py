"""A site's script on NVIDIA FLARE: receive a model, train it, send it back, as in FLARE's own examples."""

import os
import time
from pathlib import Path

from torch import nn

from fedbus.models.build import build_model
from fedbus.models.state import get_state, set_state
from fedbus.settings.load import build_settings
from fedbus.sites.site import open_site
from fedbus.system.files import read_json, write_json
from simulations.benchmarks.site_work import SiteWork

FOLDER_VARIABLE = "FEDBUS_PEER_FOLDER"
"""Environment variable that names the folder of this run."""

SITE_FILE = "site.json"
"""File in that folder with the settings and the folder of the prepared case."""

MODEL_CLASS = "simulations.benchmarks.peer_nvflare_site.make_model"


def make_model(name: str) -> nn.Module:
    """Build the model that FLARE's server averages and saves."""
    return build_model(name)


def note_path(folder: Path, site: str) -> Path:
    """Return the file in which a site notes when it received models and what it did."""
    return folder / f"flare-{site}.json"


def main() -> None:
    """Take part in a federation until it ends."""
    import nvflare.client as flare

    folder = Path(os.environ[FOLDER_VARIABLE])
    given = read_json(folder / SITE_FILE)
    settings = build_settings(given["settings"], "the benchmark")
    flare.init()
    name = flare.get_site_name()
    work = SiteWork(settings, {name: open_site(Path(given["case"]), name)})
    model = work.make_model()
    received: list[float] = []
    steps: list[int] = []
    while flare.is_running():
        incoming = flare.receive()
        received.append(time.time())
        set_state(model, {key: value for key, value in incoming.params.items() if "num_batches" not in key})
        score = work.train(model, name, len(received))
        steps.append(work.taken - sum(steps))
        update = flare.FLModel(
            params=get_state(model),
            metrics={"accuracy": score.summary()["accuracy"]},
            meta={"NUM_STEPS_CURRENT_ROUND": work.weight(name)},  # FLARE's weight of a site in the average
        )
        flare.send(update)
    received.append(time.time())
    write_json(note_path(folder, name), {"received": received, "steps": steps})


if __name__ == "__main__":
    main()
