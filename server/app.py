"""The ServerApp: registers the sites, then runs one federated training after another with them."""

import fedbus.system.threads  # noqa: F401 -- decides how threads wait, before PyTorch is imported

# isort: split
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from rich.console import Console

from fedbus.errors import SettingsError
from fedbus.models.start import start_state
from fedbus.runs.checkpoint import arm_folder
from fedbus.runs.folder import open_run, run_id
from fedbus.runs.site_keys import make_simulated_keys
from fedbus.seeds import derive_seed
from fedbus.settings.arms import STRATEGIES
from fedbus.settings.privacy_rules import SECURE, check_secure_sites
from fedbus.sites.default_sites import settings_of_run
from fedbus.system.files import make_private_folder
from fedbus.tracking.tracker import check_tracking, open_tracker
from server.hub.deployed_run import format_round, run_deployment
from server.rounds.delivery import deliver_at_once
from server.rounds.job import Job
from server.rounds.loop import run_jobs
from server.rounds.robust import check_robust

Plan = AbstractContextManager[tuple[int, Sequence[Job]]]
"""The number of sites and the trainings to run; its block keeps their run folder for this process."""


def make_server_app(plan: Callable[[Context], Plan]) -> ServerApp:
    """Build the application that the server runs, which is what `plan` returns."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        if context.run_config.get("hub-run"):
            run_deployment(grid, Path(str(context.run_config["hub-run"])))
            return
        deliver_at_once(grid)
        with plan(context) as (expected, jobs):
            if not jobs:
                return
            try:
                run_jobs(grid, expected, jobs)
            except KeyboardInterrupt:
                if not jobs[0].stop.is_set():  # otherwise the caller ended the run
                    raise

    return app


@contextmanager
def plan_from_context(context: Context) -> Iterator[tuple[int, Sequence[Job]]]:
    """Plan what `flwr run .` runs: one arm of one comparison, with its result in a run folder.

    Keys of the run config: `settings` (a TOML file; empty for phantoms), `out` (a run folder; empty for one in the
    cache folder), `arm` and `resume`. Paths must be absolute, because Flower starts the application in another folder.

    Raises:
        SettingsError: If a value is not valid.
    """
    config = context.run_config
    if config.get("out") and not Path(str(config["out"])).is_absolute():
        raise SettingsError(
            f"out = {config['out']} is not an absolute path.",
            "Write the whole path, because Flower starts the application in another folder.",
        )
    settings = settings_of_run(config)
    arm, seed = str(config.get("arm", "fedavg")), settings.seeds[0]
    if arm not in STRATEGIES:
        raise SettingsError(f"arm = {arm} is not a federated arm.", f"Choose one of {', '.join(STRATEGIES)}.")
    check_robust(arm, settings, settings.quorum or len(settings.sites))
    check_secure_sites(settings.privacy, len(settings.sites))
    check_tracking(settings)
    out = Path(str(config.get("out") or settings.cache / "runs" / f"flwr-{arm}-{context.run_id}"))
    make_private_folder(settings.cache)
    log = partial(Console(stderr=True).print, markup=False, highlight=False)
    with (
        open_run(out, settings, resume=bool(config.get("resume", False))),
        open_tracker(settings, out, log) as tracker,
    ):
        log(f"{arm} on {', '.join(settings.sites)}; results in {out}")
        start = start_state(settings.model, settings.weights, derive_seed(seed, "init"))
        track = tracker.follow(arm, seed)

        def on_round(line: dict[str, Any]) -> None:
            log(format_round(line))
            track(line)

        folder = arm_folder(out, settings, arm, seed)
        roster = make_simulated_keys(settings.cache, settings.sites) if settings.privacy == SECURE else ()
        job = Job(settings, arm, seed, start, folder, run=run_id(out), on_round=on_round, on_wait=log, sites=roster)
        yield len(settings.sites), [job]
        tracker.catch_up(arm, seed, folder.read_history)


app = make_server_app(plan_from_context)
