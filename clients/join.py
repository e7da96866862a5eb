"""`fedbus site join`: Flower's SuperNode and the worker beside it, until somebody ends them."""

import secrets
import tempfile
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from flwr.app import Context, Error

from clients.flower_internals import Fab
from clients.site.folder import SiteFolder
from clients.site.hub_contact import ask_hub
from clients.site.lock import hold
from clients.site.supernode import HOST, supernode_command
from clients.worker import Worker
from fedbus.deployment.application import NOT_ALLOWED, OTHER_VERSION, differing_files, digest_of, installed_files
from fedbus.errors import RunError
from fedbus.system.files import write_text
from fedbus.system.processes import end_child, start_child, stops_on_signals
from fedbus.system.third_party import silence_third_party

Say = Callable[[str], object]

RETRY_SECONDS = 5.0


def join(site: SiteFolder, log: Say) -> None:
    """Take part in a hub's runs until Ctrl-C or SIGTERM; the SuperNode ends with this process.

    A hub that is away is waited for, however long.

    Args:
        site: its folder.
        log: told in words what is going on; nothing that it is told names an image or a patient.

    Raises:
        SettingsError: nobody has said where the images are.
        RunError: another process is joined as this site; or the hub does not let it in, and waiting can't help.
    """
    site.source()  # or an error, before anybody is asked
    silence_third_party()  # once more: Flower sets its own level when it is imported
    stop, once = threading.Event(), lru_cache(maxsize=16)(log)  # the hub asks again and again
    with hold(site), stops_on_signals(stop), tempfile.TemporaryDirectory() as folder:
        _wait_for_hub(site, stop, log)
        secret_file, secret = Path(folder) / "secret", secrets.token_bytes(32)
        secret_file.write_bytes(secret)  # the folder is this user's alone
        worker = _make_worker(site, secret, log, once)
        log(f"{site.settings.name} joins {site.settings.hub}; Ctrl-C leaves")
        while not stop.is_set():
            node = start_child(supernode_command(site, secret_file), site.log)
            try:
                worker.run(stop, lambda node=node: node.poll() is None)  # type: ignore[misc]
            finally:
                end_child(node)
            if not stop.is_set():
                _wait_for_hub(site, stop, log)
                log("connecting again")


def _make_worker(site: SiteFolder, secret: bytes, log: Say, once: Say) -> Worker:
    # Imported here: PyTorch takes seconds, and a site that is not let in should hear it first.
    from clients.app import make_client_app
    from clients.workspace import Workspace, workspace_in
    from fedbus.transport.messages import Instruction

    installed = installed_files()  # now: later ones are not what this process has loaded

    def locate(context: Context, instruction: Instruction) -> Workspace:
        _remember(site, context.node_id, once)
        settings = instruction.settings
        once(
            f"study: {settings.model} at {settings.image_size} px, {settings.rounds} rounds of "
            f"{settings.local_epochs:g} epochs in batches of {settings.batch_size}, balanced by {settings.sampler}"
        )
        return workspace_in(site, instruction)

    runtime = f"{HOST}:{site.settings.runtime_port}"
    application = make_client_app(locate)
    return Worker(runtime, secret, application, lambda bundle: refusal_of(bundle, site, installed, once), log)


def _remember(site: SiteFolder, node: int, log: Say) -> None:
    """Keep the number that the hub knows this site by; work goes on without, if the disk is full."""
    try:
        if not site.node.is_file() or site.node.read_text(encoding="utf-8") != str(node):
            write_text(site.node, str(node))
    except RunError as error:
        log(str(error))


def _wait_for_hub(site: SiteFolder, stop: threading.Event, log: Say) -> None:
    """Wait until the hub lets this site in.

    Raises:
        RunError: it will not, before somebody mends something.
    """
    said = ""
    while not stop.is_set():
        contact = ask_hub(site)
        if contact.permanent:
            raise RunError(
                f"{site.settings.name} can't join: {contact.problem}.",
                f"Mend that, then join again; to see more: fedbus site check {site.path}",
            )
        if not contact.problem:
            return
        if contact.problem != said:
            said = contact.problem
            log(f"{said}; trying again every {RETRY_SECONDS:.0f} s")
        stop.wait(RETRY_SECONDS)


def refusal_of(bundle: Fab, site: SiteFolder, installed: dict[str, str], log: Say) -> Error | None:
    """Decide whether this site works for a bundle: its operator has approved it, and it is what is installed here.

    Args:
        bundle: what the hub runs.
        site: whose operator decides.
        installed: the application here, as `installed_files` gives it.
        log: told why not, and what the operator can do.

    Returns:
        None if it does, else what the hub is told.
    """
    digest = digest_of(bundle.content)
    if digest not in site.approved():
        log(f"the hub wants to run application {digest}, which is not approved here")
        log(f"to allow it: fedbus site approve {site.path} {digest}")
        return Error(NOT_ALLOWED, f"its operator has not approved application {digest[:16]} yet")
    differing = differing_files(bundle.content, installed)
    if differing:
        log(f"application {digest} is approved, but {len(differing)} files differ here, {differing[0]} among them")
        log("install the hub's version of FedBUS here")
        return Error(OTHER_VERSION, "another version of FedBUS is installed there")
    return None
