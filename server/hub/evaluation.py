"""`fedbus hub evaluate`: a given model at every site of the hub, from its folder to the report."""

import re
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fedbus.errors import RunError, WeightsError
from fedbus.evaluation.kept import kept_round
from fedbus.model_folder.apply import state_for_elsewhere, which_arrays
from fedbus.model_folder.read import ModelFolder, read_model
from fedbus.models.build import model_shapes
from fedbus.runs.arm_files import MODEL_FILE
from fedbus.runs.checkpoint import arm_folder
from fedbus.runs.folder import ENVIRONMENT_FILE, check_run, is_run, open_run, read_settings, run_id
from fedbus.runs.lock import FOLLOWING
from fedbus.settings.load import build_settings
from fedbus.settings.schema import Settings
from fedbus.system.files import read_json, write_json, write_whole
from fedbus.training.federation import add_rows
from fedbus.transport.messages import EVALUATION, MOST_SEEN, RUN, TITLE
from fedbus.transport.packing import layout_of
from fedbus.transport.study import Study
from server.hub.audit import recorded_run
from server.hub.bundle import stage_application
from server.hub.deployed_run import PLAN_FILE, model_title, prepare_deployment
from server.hub.evaluation_results import write_evaluation
from server.hub.evaluation_run import GIVEN, REQUEST_FILE, Request, read_answers, read_request
from server.hub.folder import HubFolder
from server.hub.registrations import read_registrations
from server.hub.roster import roster_of
from server.hub.run import Log, announce_study, check_run_folder, start_and_follow
from server.hub.superlink import is_up


def evaluate_model(hub: HubFolder, model: Path, out: Path | None, *, resume: bool, log: Log) -> dict[str, Any]:
    """Have the approved sites that are connected test a model, and write the report.

    Args:
        hub: A running hub (`fedbus hub start`).
        model: A model folder.
        out: The run folder, directly in the hub's `runs`; None: one that is named after the model.
        resume: Ask the sites that have not answered yet, and keep the answers of the others.
        log: Called with a line of text about each step.

    Returns:
        The content of `evaluation.json`, with the path of the page as "page".

    Raises:
        FedbusError: If the input is not valid, and nothing was started; or if no site could answer.
        KeyboardInterrupt: If the evaluation was ended.
    """
    folder = read_model(model)
    settings, request = _describe(hub, folder)
    _check_model(folder)
    target = out or hub.runs / f"evaluation-{request.title}"
    check_run_folder(hub, target, [target.name])
    check_run(target, settings, resume=resume)
    if resume and read_request(target).digest != request.digest:
        raise RunError(
            f"{target} was started with another model: {read_request(target).model}.",
            "Resume with the same model, or choose another --out.",
        )
    sites = hub.sites()
    if not sites:
        raise RunError(f"No site is approved at {hub.path}.", f"Run: fedbus hub approve {hub.path} SITE.pub")
    if not is_up(hub):
        raise RunError(f"The hub at {hub.path} is not running.", f"Start it: fedbus hub start {hub.path}")
    with open_run(target, settings, resume=resume, lock=FOLLOWING):
        if sites.keys() - read_answers(target)["sites"].keys():
            write_json(target / REQUEST_FILE, vars(request))  # first: --resume reads it
            _copy_model(folder, target / GIVEN)
            application, digest = stage_application(hub)
            roster = roster_of(hub)
            announce_study(target, Study.of(digest, EVALUATION, settings, roster), log)
            nodes = {name: site.node for name, site in sites.items()}
            prepare_deployment(target, target.name, nodes, roster)
            with recorded_run(hub, target, resume=resume, model=request.digest):
                start_and_follow(hub, application, target, log)
        return write_evaluation(target)


def _describe(hub: HubFolder, folder: ModelFolder) -> tuple[Settings, Request]:
    """Return the settings of the evaluation, and what is asked besides the model."""
    facts = folder.facts
    arrays = which_arrays(folder, None)  # raises an error for a model that has no shared arrays
    assert arrays != "own", "no site was named"
    digest = folder.digest
    if not re.fullmatch(TITLE, facts.arm):
        raise RunError(f"{folder.path / MODEL_FILE} has the arm {facts.arm!r}.", "Copy the model folder again.")
    settings = build_settings(facts.settings, str(folder.path / MODEL_FILE))
    path = str(folder.path)
    run = _run_of(hub, facts.run)
    if run is not None:
        trained = read_settings(run)
        best = arm_folder(run, trained, facts.arm, facts.seed).read_facts()["best_round"]
        title = model_title(read_json(run / PLAN_FILE)["title"], facts.arm, facts.seed)
        registrations = read_registrations(run)
        sites = registrations.values()
        rows = add_rows(
            [site["splits"]["train"] for site in sites],
            [sum(site["balanced"]) for site in sites],
            trained.balance,
        )
        return settings, Request(
            path, digest, title, facts.run, kept_round(trained, best), True, rows.class_counts, rows.balanced,
            {name: site["splits"] for name, site in registrations.items()},
        )  # fmt: skip
    # Statistics of training images, and leaks on purpose, belong to the sites where the model was trained.
    # The network is the one that the facts describe: a centralised arm shares its BatchNorm whatever the setting says.
    of_model = {"model": facts.architecture, "image_size": facts.image_size, "batch_norm": facts.batch_norm}
    settings = settings.model_copy(update={"recalibrate": False, "split": "groups"} | of_model)
    code = facts.run if re.fullmatch(RUN, facts.run) else ""
    return settings, Request(path, digest, f"{facts.arm}-{facts.seed}-{digest[:8]}", code, 0, own=False)


def _run_of(hub: HubFolder, identity: str) -> Path | None:
    """Return the folder of this hub's run that made a model; None if there is none."""
    for path in sorted(hub.runs.glob("*")):
        finished = is_run(path) and (path / ENVIRONMENT_FILE).is_file() and not (path / GIVEN).exists()
        if finished and run_id(path) == identity:
            return path
    return None


def _check_model(folder: ModelFolder) -> None:
    """Check what would otherwise fail at the sites.

    Raises:
        RunError: If a file is damaged, or there are too many fingerprints.
        WeightsError: If the arrays are not those of the architecture.
        SettingsError: If there is no such architecture.
    """
    state = state_for_elsewhere(folder)
    shapes: Mapping[str, tuple[int, ...]] = model_shapes(folder.facts.architecture)
    if layout_of(state) != dict(sorted(shapes.items())):
        raise WeightsError(
            f"The arrays of {folder.path} are not those of {folder.facts.architecture}.",
            "Copy the whole model folder again from where it was made.",
        )
    seen = folder.seen()
    if seen is not None and len(seen.hashes) > MOST_SEEN:
        raise RunError(
            f"{folder.path} has the fingerprints of {len(seen.hashes)} images; sites accept {MOST_SEEN}.",
            "Evaluate a model that was trained on fewer images.",
        )


def _copy_model(folder: ModelFolder, target: Path) -> None:
    """Copy a model folder into the run folder, `model.json` last: the run must not depend on other folders."""
    for name in [*(part.file for part in folder.facts.parts), MODEL_FILE]:
        write_whole(target / name, partial(shutil.copyfile, folder.path / name))
