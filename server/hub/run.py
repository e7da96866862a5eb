"""`fedbus hub run`: a run with the approved sites, from its settings to its report."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from fedbus.errors import RunError, SettingsError
from fedbus.models.input_size import check_input_size
from fedbus.models.start import start_state
from fedbus.privacy.model_check import check_private_model
from fedbus.reports.comparison.results import read_results
from fedbus.runs.arm_files import MODEL_FILE
from fedbus.runs.checkpoint import arm_folder
from fedbus.runs.folder import check_run, check_same_start, open_run, read_settings
from fedbus.runs.lock import FOLLOWING
from fedbus.seeds import derive_seed
from fedbus.settings.arms import STRATEGIES
from fedbus.settings.load import load_settings
from fedbus.settings.privacy_rules import SECURE, check_secure_sites
from fedbus.settings.schema import Settings
from fedbus.system.files import write_json
from fedbus.tracking.tracker import check_tracking, open_tracker
from fedbus.transport.messages import TITLE, TRAINING
from fedbus.transport.study import STUDY_FILE, Study
from server.hub import flwr_cli
from server.hub.approved_sites import ApprovedSite
from server.hub.audit import recorded_run
from server.hub.bundle import stage_application
from server.hub.control import stop_run
from server.hub.deployed_run import model_title, prepare_deployment
from server.hub.evaluation_run import GIVEN
from server.hub.folder import HubFolder
from server.hub.model_folder import write_hub_model
from server.hub.registrations import read_registrations
from server.hub.report import write_hub_report
from server.hub.roster import roster_of
from server.hub.run_status import Status, read_status, write_status
from server.hub.run_watch import RunWatch
from server.hub.superlink import is_up
from server.rounds.robust import check_robust_arms
from server.rounds.secure_loop import describe_losses

Log = Callable[[str], object]

POLL_SECONDS = 0.5


def load_deployed_settings(path: Path, overrides: Sequence[str], log: Log) -> Settings:
    """Read the settings of a deployed run: sites have their own images, and only federated arms can be trained.

    Raises:
        SettingsError: As `load_settings`; or there is no federated arm, or the split leaks.
    """
    settings = load_settings(path, overrides)
    arms = tuple(arm for arm in settings.arms if arm in STRATEGIES)
    if not arms:
        raise SettingsError(
            f"{path} names no federated arm.", f"Set arms to some of {', '.join(STRATEGIES)}, e.g. --set arms=fedavg."
        )
    if settings.split != "groups":
        raise SettingsError(
            f"{path} has split = {settings.split}, which leaks on purpose and is only for simulations.",
            "Remove split from it, or use --set split=groups.",
        )
    left_out = [arm for arm in settings.arms if arm not in arms]
    if left_out:
        log(f"left out: {', '.join(left_out)} (a hub has no images to train on)")
    return settings.model_copy(update={"arms": arms, "sites": {}})


def run_deployed(hub: HubFolder, settings: Settings, out: Path, *, resume: bool, log: Log) -> Path:
    """Train with the approved sites and write the report.

    Args:
        hub: A running hub (`fedbus hub start`).
        settings: As `load_deployed_settings` returns them.
        out: The run folder.
        resume: Continue the run in that folder.
        log: Called with a line of text about each step.

    Returns:
        The path of the report.

    Raises:
        FedbusError: If the input is not valid, and nothing was started; or if the run failed, and what it finished is
            kept.
        KeyboardInterrupt: If the run was ended; its finished rounds are kept.
    """
    check_run_folder(hub, out, [model_title(out.name, arm, seed) for arm in settings.arms for seed in settings.seeds])
    if (out / GIVEN).exists():
        raise RunError(f"{out} is an evaluation, not a training.", "Choose another --out.")
    check_run(out, settings, resume=resume)
    if resume and (before := read_settings(out).threshold) != settings.threshold:
        raise SettingsError(
            f"threshold was {before} and is now {settings.threshold}, but sites have answered with the former.",
            f"Resume with --set threshold={before}, or start a new run.",
        )
    check_input_size(settings.model, settings.image_size)
    check_private_model(settings)
    check_tracking(settings)
    sites = _ready_sites(hub, settings, log)
    # The ServerApp makes the start weights again; here they show problems before anything is written or started.
    starts = {seed: start_state(settings.model, settings.weights, derive_seed(seed, "init")) for seed in settings.seeds}
    with open_run(out, settings, resume=resume, lock=FOLLOWING):
        check_same_start(starts, out)
        # If everything is trained, only the report is left to write, as after a full disk.
        if any(not arm_folder(out, settings, arm, seed).finished for arm in settings.arms for seed in settings.seeds):
            application, digest = stage_application(hub)
            roster = roster_of(hub)
            announce_study(out, Study.of(digest, TRAINING, settings, roster), log)
            nodes = {name: site.node for name, site in sites.items()}
            prepare_deployment(out, out.name, nodes, roster)
            with recorded_run(hub, out, resume=resume):
                start_and_follow(hub, application, out, log)
        for arm in settings.arms:
            for seed in settings.seeds:  # an arm of an earlier version, or one whose hub died at this point, lacks it
                if not (arm_folder(out, settings, arm, seed).path / MODEL_FILE).is_file():
                    write_hub_model(out, settings, arm, seed)
        phantoms = any(registration["phantoms"] for registration in read_registrations(out).values())
        report = write_hub_report(out, settings, phantoms=phantoms)
        track_end(settings, out, phantoms, log)
        return report


def _ready_sites(hub: HubFolder, settings: Settings, log: Log) -> dict[str, ApprovedSite]:
    """Return the approved sites of a running hub, after checking that the settings suit their number.

    Raises:
        SettingsError: If there are too few for the settings.
        RunError: If there is none, or the hub is not running.
    """
    sites = hub.sites()
    if not sites:
        raise RunError(f"No site is approved at {hub.path}.", f"Run: fedbus hub approve {hub.path} SITE.pub")
    if settings.quorum > len(sites):
        raise SettingsError(
            f"quorum = {settings.quorum}, but only {len(sites)} site(s) are approved.",
            "Approve more sites, or lower the quorum.",
        )
    check_robust_arms(settings, len(sites))
    check_secure_sites(settings.privacy, len(sites))
    if settings.privacy == SECURE:
        log(describe_losses(len(sites), settings.quorum or len(sites)))
    if not is_up(hub):
        raise RunError(f"The hub at {hub.path} is not running.", f"Start it: fedbus hub start {hub.path}")
    return sites


def track_end(settings: Settings, out: Path, phantoms: bool, log: Log) -> None:
    """Send the test figures, and what the process that trained could not send."""
    with open_tracker(settings, out, log, phantoms) as tracker:
        for arm in settings.arms:
            for seed in settings.seeds:
                tracker.catch_up(arm, seed, arm_folder(out, settings, arm, seed).read_history)
        if settings.track:
            tracker.results(read_results(out))


def check_run_folder(hub: HubFolder, out: Path, titles: Sequence[str]) -> None:
    """Check that a run folder is one that the hub's processes may write, with a name that sites accept.

    Args:
        hub: The hub.
        out: The run folder.
        titles: The names of its trainings, as sites receive them.

    Raises:
        SettingsError: If it is not.
    """
    if out.parent.resolve() != hub.runs.resolve():
        raise SettingsError(f"{out} is not a folder directly in {hub.runs}.", f"Choose --out {hub.runs / out.name}")
    if not all(re.fullmatch(TITLE, title) for title in titles):
        raise SettingsError(
            f"{out.name!r} can't be the name of a run: sites name the folders of its models after it.",
            "Use at most 70 letters, digits, '.', '_' and '-'; set another name with --out.",
        )


def announce_study(out: Path, study: Study, log: Log) -> None:
    """Write the study into the run folder and log its digest, by which each site's operator approves it."""
    write_json(out / STUDY_FILE, {"digest": study.digest, "study": study.to_json()})
    log(f"application {study.application}")
    log(f"study {study.digest}")
    log("each site approves the study once: fedbus site approve DIR DIGEST")


def start_and_follow(hub: HubFolder, application: Path, out: Path, log: Log) -> None:
    """Start the run at Flower, log its status until it ends, and stop it if this command is ended."""
    number, status, logged = "", Status("starting"), ""
    try:
        number = str(flwr_cli.start_run(hub, application, out).run()["run-id"])
        watch = RunWatch(hub, number, out, log)
        while True:
            status = read_status(out) or Status("starting")
            line = _describe(status)
            if line and line != logged:
                logged = line
                log(line)
            if status.over:
                break
            watch.check()
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        # Flower ends the run's process, which therefore can't write its own end into the status.
        if not (number and stop_run(hub, number)):
            log("the hub does not answer; the run may go on, see: fedbus hub status")
        write_status(out, replace(status, state="stopped", words="ended with Ctrl-C; rerun with --resume"))
        raise
    except RunError as error:
        if number:
            stop_run(hub, number)  # the hub may have ended, and the run with it
        write_status(out, replace(status, state="failed", words=error.problem, remedy=error.remedy))
        raise
    if status.state == "failed":
        raise RunError(status.words, status.remedy)


def _describe(status: Status) -> str:
    if status.state not in ("waiting", "training", "evaluating") or not status.words:
        return ""
    return f"{status.arm}: {status.words}" if status.arm else status.words
