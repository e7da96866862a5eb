"""`fedbus hub status`: which sites are connected, and the progress of the latest run."""

import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from fedbus.deployment.addresses import join_address
from fedbus.runs.lock import RUNNING
from fedbus.system.locks import is_held
from fedbus.system.terminal import BAD, GOOD, plain_table
from server.hub import flwr_cli
from server.hub.certificates import read_expiry
from server.hub.folder import HubFolder
from server.hub.renewal import WARN_DAYS, days_left
from server.hub.run_status import STATUS_FILE, read_status
from server.hub.superlink import is_up

REFRESH_SECONDS = 5.0


def print_status(hub: HubFolder, console: Console) -> None:
    """Print the status of a hub, its sites and its latest run.

    Raises:
        RunError: As `render_status`.
    """
    console.print(render_status(hub))


def watch_status(hub: HubFolder, console: Console) -> None:
    """Print the status and update it every few seconds until Ctrl-C.

    Raises:
        RunError: As `render_status`.
    """
    try:
        with Live(render_status(hub), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(REFRESH_SECONDS)
                live.update(render_status(hub), refresh=True)
    except KeyboardInterrupt:
        return


def render_status(hub: HubFolder) -> RenderableType:
    """Lay out the status of a hub, its sites and its latest run.

    Raises:
        RunError: If a file of the hub is damaged, or Flower reports an error.
    """
    settings = hub.settings
    up = is_up(hub)
    head = Text.assemble(
        f"Hub {join_address(settings.host, settings.port)}  ",
        ("running", GOOD) if up else ("not running", BAD),
        "" if up else f"  (start it: fedbus hub start {hub.path})",
    )
    states = _node_states(hub) if up else {}
    table = plain_table("Site", "Connection", "Approved", "Key")
    sites = hub.sites()
    for site in sites.values():
        state = states.get(site.node, "unknown")
        style = GOOD if state == "online" else BAD
        table.add_row(site.name, Text(state, style=style), site.approved[:10], site.key)
    body: RenderableType = table if sites else Text("No site is approved yet.")
    return Group(head, _certificate(hub), Text(), body, Text(), _latest_run(hub))


def _certificate(hub: HubFolder) -> Text:
    days, until = days_left(hub.certificate), read_expiry(hub.certificate)
    soon = f"  (renew it: fedbus hub renew {hub.path})" if days <= WARN_DAYS else ""
    text = f"ends in {days} days, on {until:%Y-%m-%d}" if days > 0 else f"ended on {until:%Y-%m-%d}"
    return Text.assemble("Certificate ", (text, BAD if soon else GOOD), soon)


def _node_states(hub: HubFolder) -> dict[int, str]:
    nodes = flwr_cli.list_nodes(hub).run()["nodes"]
    return {int(node["node-id"]): str(node["status"]) for node in nodes}


def _latest_run(hub: HubFolder) -> Text:
    files = sorted(hub.runs.glob(f"*/{STATUS_FILE}"), key=lambda path: path.stat().st_mtime)
    status = read_status(files[-1].parent) if files else None
    if status is None:
        return Text("No run yet.")
    folder, state = files[-1].parent, status.state
    # A run that was killed could not write its last status, but the system has released its lock.
    if state in ("waiting", "training", "evaluating") and not is_held(folder / RUNNING):
        return Text.assemble(
            f"Run {folder.name}: ",
            ("interrupted", BAD),
            f"{f' after round {status.round}' if status.round else ''}; rerun with --resume",
        )
    progress = f" {status.arm}, round {status.round} of {status.rounds}:" if status.arm else ""
    words = f" {status.words}" if status.words else ""
    style = BAD if state in ("failed", "stopped") else GOOD
    return Text.assemble(f"Run {folder.name}: ", (state, style), f"{progress}{words} ({status.updated})")
