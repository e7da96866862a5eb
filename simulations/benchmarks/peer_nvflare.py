"""FedAvg on NVIDIA FLARE's simulator, with exactly our work at the sites.

    python -m simulations.benchmarks.peer_nvflare SETTINGS.json OUT.json

FLARE is not among our dependencies: `install_peer` installs it into a separate folder, which must be on PYTHONPATH. It
is used as in its PyTorch examples: its `FedAvgRecipe` and `SimEnv`, a server and one process per site, all sites at the
same time, and the site's script `peer_nvflare_site`, which receives a model, trains it and sends it back. The server
averages with the sites' weights and saves the model after every round. A site's round is ours (`SiteWork`), so the end
weights must be ours but for rounding; the processors are shared out among the sites, since a step of all processes on
all processors is slower.
"""

import json
import os
from pathlib import Path

import torch
import typer

from fedbus.errors import RunError
from fedbus.models.state import State
from fedbus.system.files import read_json, write_json
from simulations.benchmarks.case import Case
from simulations.benchmarks.peer_nvflare_site import FOLDER_VARIABLE, MODEL_CLASS, SITE_FILE, note_path
from simulations.benchmarks.peer_result import Trained, measure

JOB = "fedavg"


def main(settings: Path, out: Path) -> None:
    """Train the case of a settings file on FLARE, and write OUT."""
    measure(settings, out, train_flare)


def train_flare(case: Case, folder: Path) -> Trained:
    """Train the case on FLARE's simulator, with our rounds at the sites.

    Raises:
        RunError: If FLARE is not installed, or a site did not end its rounds.
    """
    try:
        from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe
        from nvflare.recipe.sim_env import SimEnv
    except ImportError as error:
        raise RunError(
            f"NVIDIA FLARE can't be imported ({error}).", "Put the folder of install_peer on PYTHONPATH."
        ) from error
    folder, settings = folder.resolve(), case.settings
    start = folder / "start.pt"
    torch.save(case.start, start)
    write_json(folder / SITE_FILE, {"settings": settings.as_dict(), "case": str(case.out.resolve())})
    os.environ[FOLDER_VARIABLE] = str(folder)
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // len(case.sites)))  # of the sites' processes
    _allow_model(folder / "flare" / JOB)
    recipe = FedAvgRecipe(
        name=JOB,
        model={"class_path": MODEL_CLASS, "args": {"name": settings.model}},
        initial_ckpt=str(start),
        min_clients=len(case.sites),
        num_rounds=settings.rounds,
        train_script=str(Path(__file__).with_name("peer_nvflare_site.py")),
    )
    recipe.execute(SimEnv(clients=sorted(case.sites), workspace_root=str(folder / "flare")))
    return _read_result(case, folder)


def _allow_model(workspace: Path) -> None:
    """Let FLARE build our model: without this list, it builds only classes of its own."""
    from nvflare.app_common.default_component_policy import DEFAULT_CLASS_ALLOW_LIST

    allowed = {"format_version": 2, "class_allow_list": [*DEFAULT_CLASS_ALLOW_LIST, MODEL_CLASS]}
    (workspace / "local").mkdir(parents=True)
    (workspace / "local" / "resources.json.default").write_text(json.dumps(allowed))


def _read_result(case: Case, folder: Path) -> Trained:
    """Read what the sites noted, and the model that the server saved last.

    A round ends when the first site gets the next one's model; the last one when a site is told that all have ended.
    """
    notes = [read_json(note_path(folder, name)) for name in case.sites]
    ends = [min(times) for times in zip(*(note["received"][1:] for note in notes), strict=True)]
    steps = [sum(each) for each in zip(*(note["steps"] for note in notes), strict=True)]
    saved = sorted((folder / "flare").rglob("FL_global_model.pt"))
    if not saved:
        raise RunError("FLARE saved no model.", "See the logs of its workspace.")
    final: State = torch.load(saved[-1], weights_only=True)["model"]
    return Trained(ends, steps, {key: torch.as_tensor(final[key]).float().contiguous() for key in case.start})


if __name__ == "__main__":
    program = typer.Typer(pretty_exceptions_enable=False)  # otherwise it prints local tensors
    program.command()(main)
    program()
