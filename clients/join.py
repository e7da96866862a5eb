"""`fedbus site join`: run Flower's SuperNode and the site's worker until they are stopped."""

import secrets
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from flwr.app import Context

from clients.array_exchange import ArrayExchange
from clients.audit import AnswerLog
from clients.next_step import next_step
from clients.site.folder import SiteFolder
from clients.site.hub_contact import ask_hub
from clients.site.lock import hold
from clients.site.supernode import HOST, supernode_command
from clients.worker import Worker
from fedbus.audit.check import check_at_start
from fedbus.deployment.application import installed_files
from fedbus.errors import RunError
from fedbus.system.files import write_text
from fedbus.system.processes import end_child, start_child
from fedbus.system.scratch import scratch_folder
from fedbus.system.signals import stops_on_signals
from fedbus.system.third_party import silence_third_party

Log = Callable[[str], object]

RETRY_SECONDS = 5.0


def join(site: SiteFolder, log: Log) -> None:
    """Take part in a hub's runs until Ctrl-C or SIGTERM; the SuperNode ends with this process.

    While the hub does not respond, this waits without a time limit.

    Args:
        site: The site's folder.
        log: Called with what happens; the text never names an image or a patient.

    Raises:
        SettingsError: If the site's data have not been set.
        RunError: If another process has joined as this site, or the hub refuses it and waiting can't help.
    """
    site.source()  # raises an error before the hub is contacted
    silence_third_party()  # again, because Flower sets its own log level when it is imported
    stop, log_once = threading.Event(), lru_cache(maxsize=16)(log)  # the hub repeats its requests
    with hold(site), stops_on_signals(stop), scratch_folder(Path(tempfile.gettempdir())) as folder:
        check_at_start(site.audit, log)
        _wait_for_hub(site, stop, log)
        secret_file, secret = folder / "secret", secrets.token_bytes(32)
        secret_file.write_bytes(secret)  # only this user can read the folder
        worker = _make_worker(site, secret, stop, log, log_once)
        log(f"{site.settings.name} joins {site.settings.hub}; Ctrl-C leaves")
        site.audit.note("joined", hub=site.settings.hub)
        try:
            _work_until(stop, site, worker, secret_file, log)
        finally:
            site.audit.note("left", hub=site.settings.hub)


def _work_until(stop: threading.Event, site: SiteFolder, worker: Worker, secret_file: Path, log: Log) -> None:
    while not stop.is_set():
        node = start_child(supernode_command(site, secret_file), site.log)
        try:
            worker.run(stop, lambda node=node: node.poll() is None)  # type: ignore[misc]
        finally:
            end_child(node)
        if not stop.is_set():
            _wait_for_hub(site, stop, log)
            log("connecting again")


def _make_worker(site: SiteFolder, secret: bytes, stop: threading.Event, log: Log, log_once: Log) -> Worker:
    # Imported here because PyTorch takes seconds, and a site that the hub refuses should learn it at once.
    from clients import work
    from clients.app import make_client_app
    from clients.consent.refusal import Consent
    from clients.limits.notice import describe_study
    from clients.workspace import Workspace, workspace_of_site
    from fedbus.model_folder.read import read_model
    from fedbus.settings.schema import Settings
    from fedbus.transport.messages import Instruction

    installed = installed_files()  # read now: files that change later are not what this process has loaded

    def tell_received(model: Path) -> None:
        site.audit.note("model received", model=model.name, sha256=read_model(model).digest)
        log_once(f"received the model {model}")
        log_once(next_step(model, site.settings.name))

    last: list[tuple[Settings, int, str]] = []

    def find_workspace(context: Context, instruction: Instruction) -> Workspace:
        _save_node_number(site, context.node_id, log_once)
        run = instruction.settings, instruction.seed, instruction.task
        if last != [run]:
            work.forget()
            last[:] = [run]
            log(shown := describe_study(instruction))
            _append_to_log(site, shown)
        return workspace_of_site(site, instruction, tell_received)

    runtime = f"{HOST}:{site.settings.runtime_port}"
    application = make_client_app(find_workspace)
    check = Consent(site, installed, log_once).refusal_of
    return Worker(runtime, secret, application, check, AnswerLog(site.audit), ArrayExchange(site, stop), log)


def _save_node_number(site: SiteFolder, node: int, log: Log) -> None:
    """Save the number by which the hub knows this site; if the disk is full, the site continues without it."""
    try:
        if not site.node.is_file() or site.node.read_text(encoding="utf-8") != str(node):
            write_text(site.node, str(node))
    except RunError as error:
        log(str(error))


def _append_to_log(site: SiteFolder, text: str) -> None:
    """Keep what the operator was shown beside the output of the site's processes, as far as the disk allows."""
    with suppress(OSError), site.log.open("a", encoding="utf-8") as file:
        file.write(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {text}\n")


def _wait_for_hub(site: SiteFolder, stop: threading.Event, log: Log) -> None:
    """Wait until the hub accepts this site.

    Raises:
        RunError: If waiting can't help.
    """
    logged = ""
    while not stop.is_set():
        contact = ask_hub(site)
        if contact.permanent:
            raise RunError(
                f"{site.settings.name} can't join: {contact.problem}.",
                f"Fix this, then join again; for details: fedbus site check {site.path}",
            )
        if not contact.problem:
            return
        if contact.problem != logged:
            logged = contact.problem
            log(f"{logged}; trying again every {RETRY_SECONDS:.0f} s")
        stop.wait(RETRY_SECONDS)
