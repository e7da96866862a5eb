"""The ServerApp: greets the sites, then runs one federated training after another with the same warm sites."""

from collections.abc import Callable, Sequence
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from rich.console import Console

from fedbus.errors import SettingsError
from fedbus.models.start import start_state
from fedbus.runs.checkpoint import arm_folder
from fedbus.runs.folder import open_run, run_id
from fedbus.seeds import derive_seed
from fedbus.settings.schema import STRATEGIES
from fedbus.sites.default_sites import settings_of_run
from server.hub.deployed_run import format_round, run_deployment
from server.rounds.loop import Job
from server.rounds.train_all import train_all


def make_server_app(plan: Callable[[Context], tuple[int, Sequence[Job]]]) -> ServerApp:
    """Build the application that the server runs; `plan` says how many sites to expect and what to train."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        if context.run_config.get("hub-run"):
            run_deployment(grid, Path(str(context.run_config["hub-run"])))
            return
        expected, jobs = plan(context)
        if not jobs:
            return
        try:
            train_all(grid, expected, jobs)
        except KeyboardInterrupt:
            if not jobs[0].stop.is_set():  # else whoever set it knows
                raise

    return app


def plan_from_context(context: Context) -> tuple[int, Sequence[Job]]:
    """What `flwr run .` asks for: one arm of one study, its result in a run folder.

    Run settings: `settings` (a TOML file; empty: phantoms), `out` (a run folder; empty: `runs/flwr-ARM` in the current
    folder), `arm`, `resume`. All paths must be absolute, because Flower starts the application in a folder of its own.
    """
    config = context.run_config
    if config.get("out") and not Path(str(config["out"])).is_absolute():
        raise SettingsError(
            f"out = {config['out']} is not an absolute path.", "Write it in full: Flower starts elsewhere."
        )
    settings = settings_of_run(config)
    arm, seed = str(config.get("arm", "fedavg")), settings.seeds[0]
    if arm not in STRATEGIES:
        raise SettingsError(f"arm = {arm} is not a federated arm.", f"There are {', '.join(STRATEGIES)}.")
    out = Path(str(config.get("out") or settings.cache / "runs" / f"flwr-{arm}-{context.run_id}"))
    open_run(out, settings, resume=bool(config.get("resume", False)))
    console = Console(stderr=True)
    console.print(f"{arm} on {', '.join(settings.sites)}; results in {out}")
    start = start_state(settings.model, settings.weights, derive_seed(seed, "init"))
    job = Job(
        settings,
        arm,
        seed,
        start,
        arm_folder(out, settings, arm, seed),
        run=run_id(out),
        on_round=lambda line: console.print(format_round(line)),
    )
    return len(settings.sites), [job]


app = make_server_app(plan_from_context)
