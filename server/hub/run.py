"""`fedbus hub run`: a study with the approved sites, from its settings to its report."""

import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from fedbus.errors import RunError, SettingsError
from fedbus.models.input_size import check_input_size
from fedbus.models.start import start_state
from fedbus.runs.checkpoint import arm_folder
from fedbus.runs.folder import check_run, check_same_start, record_run
from fedbus.seeds import derive_seed
from fedbus.settings.load import load_settings
from fedbus.settings.schema import STRATEGIES, Settings
from fedbus.system.locks import hold
from fedbus.transport.messages import TITLE
from server.hub import flwr_cli
from server.hub.bundle import stage_application
from server.hub.deployed_run import prepare_deployment, title_of
from server.hub.folder import HubFolder
from server.hub.registrations import read_registrations
from server.hub.report import write_hub_report
from server.hub.run_status import STATUS_FILE, Status, read_status, write_status
from server.hub.superlink import is_up

Say = Callable[[str], object]

POLL_SECONDS = 0.5

LAUNCHING = ".launching"
"""In the run folder: the lock of the command that follows the run."""

QUIET_SECONDS = 30.0
"""A run that has not said anything for so long is asked after."""

LOOK_SECONDS = 3.0
"""How often the hub is looked after: a run that died with it can't say so."""


def load_deployed_settings(path: Path, overrides: Sequence[str], log: Say) -> Settings:
    """Read a study for a hub: sites bring their own images, and only federated arms can be trained.

    Raises:
        SettingsError: as `load_settings`; or there is no federated arm; or the split leaks.
    """
    settings = load_settings(path, overrides)
    arms = tuple(arm for arm in settings.arms if arm in STRATEGIES)
    if not arms:
        raise SettingsError(
            f"{path} names no federated arm.", f"Set arms to some of {', '.join(STRATEGIES)}, e.g. --set arms=fedavg."
        )
    if settings.split != "groups":
        raise SettingsError(
            f"{path} says split = {settings.split}, which leaks on purpose, and is for simulations alone.",
            "Leave split out, or use --set split=groups.",
        )
    left = [arm for arm in settings.arms if arm not in arms]
    if left:
        log(f"left out: {', '.join(left)} (a hub has no images to train on)")
    return settings.model_copy(update={"arms": arms, "sites": {}})


def run_study(hub: HubFolder, settings: Settings, out: Path, *, resume: bool, log: Say) -> Path:
    """Run a study and write its report.

    Args:
        hub: must be running (`fedbus hub start`).
        settings: without sites; see `load_deployed_settings`.
        out: the run folder.
        resume: go on with what is in it.
        log: told in words what is going on.

    Returns:
        The path of the report.

    Raises:
        FedbusError: bad input, before anything is started; or the run failed, with what it had finished kept.
        KeyboardInterrupt: the run was ended; its finished rounds are kept.
    """
    _check_place(hub, settings, out)
    check_run(out, settings, resume=resume)
    check_input_size(settings.model, settings.image_size)
    sites = hub.sites()
    if not sites:
        raise RunError(f"No site is approved at {hub.path}.", f"Run: fedbus hub approve {hub.path} SITE.pub")
    if settings.quorum > len(sites):
        raise SettingsError(
            f"quorum: {settings.quorum} of {len(sites)} approved sites can't be reached.", "Approve more, or lower it."
        )
    if not is_up(hub):
        raise RunError(f"The hub at {hub.path} is not running.", f"Start it: fedbus hub start {hub.path}")
    starts = {seed: start_state(settings.model, settings.weights, derive_seed(seed, "init")) for seed in settings.seeds}
    check_same_start(starts, out)
    record_run(out, settings)
    if any(not arm_folder(out, settings, arm, seed).finished for arm in settings.arms for seed in settings.seeds):
        application, digest = stage_application(hub)
        log(f"application {digest}")
        log("each site approves it once: fedbus site approve DIR DIGEST")
        with hold(
            out / LAUNCHING, f"A command is following {out} already", "Wait for it, or end it with Ctrl-C there."
        ):
            prepare_deployment(out, out.name, {name: site.node for name, site in sites.items()})
            _follow(hub, application, out, log)
    phantoms = any(registration["phantoms"] for registration in read_registrations(out).values())
    return write_hub_report(out, settings, phantoms=phantoms)


def _check_place(hub: HubFolder, settings: Settings, out: Path) -> None:
    """Check that a run folder lies where the hub's own processes may write, under a name that sites accept.

    Raises:
        SettingsError: it does not.
    """
    if out.parent.resolve() != hub.runs.resolve():
        raise SettingsError(f"{out} is not a folder directly in {hub.runs}.", f"Choose --out {hub.runs / out.name}")
    for arm in settings.arms:
        for seed in settings.seeds:
            if not re.fullmatch(TITLE, title_of(out.name, arm, seed)):
                raise SettingsError(
                    f"{out.name!r} can't name a run, whose models the sites keep in folders of that name.",
                    "Use at most 70 letters, digits, '.', '_' and '-'; give another one by --out.",
                )


def _follow(hub: HubFolder, application: Path, out: Path, log: Say) -> None:
    number = str(flwr_cli.start_run(hub, application, out).run()["run-id"])
    status = Status("starting")
    said, looked = "", time.monotonic()
    try:
        while True:
            status = read_status(out) or Status("starting")
            words = _in_words(status)
            if words and words != said:
                said = words
                log(words)
            if status.over:
                break
            if time.monotonic() - looked > LOOK_SECONDS:
                looked = time.monotonic()
                _check_going_on(hub, number, out)
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        flwr_cli.stop_run(hub, number).run()
        write_status(out, replace(status, state="stopped", words="ended with Ctrl-C; goes on with --resume"))
        raise
    except RunError as error:
        with suppress(RunError):  # it may be gone with the hub
            flwr_cli.stop_run(hub, number).run()
        write_status(out, replace(status, state="failed", words=error.problem, remedy=error.remedy))
        raise
    if status.state == "failed":
        raise RunError(status.words, status.remedy)


def _in_words(status: Status) -> str:
    if status.state not in ("waiting", "training") or not status.words:
        return ""
    return f"{status.arm}: {status.words}" if status.arm else status.words


def _check_going_on(hub: HubFolder, number: str, out: Path) -> None:
    """Raise RunError if Flower no longer runs what the status says is going on: the hub was ended in between."""
    remedy = "Start the hub again and go on with --resume; finished rounds are kept."
    if not is_up(hub):
        raise RunError("The hub ended during the run.", remedy)
    age = time.time() - (out / STATUS_FILE).stat().st_mtime
    if age < QUIET_SECONDS:
        return
    try:
        runs = {str(run["run-id"]): str(run["status"]) for run in flwr_cli.list_runs(hub).run()["runs"]}
    except RunError as error:
        if is_up(hub):
            raise
        raise RunError("The hub ended during the run.", remedy) from error  # while it was asked
    state, status = runs.get(number, "gone"), read_status(out)
    if state.startswith(("finished", "gone")) and not (status and status.over):
        raise RunError(f"Flower ended the run ({state}).", remedy)
