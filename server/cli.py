"""`fedbus hub`: one short function a verb, no logic."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(no_args_is_help=True, help="Run a hub: sites join it, studies run on it.")
console = Console()

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The hub's folder.")]
PrintCommand = Annotated[
    bool, typer.Option("--print-command", help="Show the Flower command that this runs, and run nothing.")
]


@app.command()
def init(
    folder: Folder,
    host: Annotated[str, typer.Option(help="Name or address under which sites reach this machine.")],
    name: Annotated[list[str] | None, typer.Option(help="A further name or address. May be repeated.")] = None,
    port: Annotated[int, typer.Option(help="Port to which sites connect.")] = 9092,
    superlink_port: Annotated[int, typer.Option(help="Port of Flower's SuperLink, on this machine only.")] = 9093,
    systemd: Annotated[bool, typer.Option("--systemd", help="Write a systemd unit too.")] = False,
) -> None:
    """Make a hub: certificates, settings, a folder for its runs."""
    from fedbus.deployment.addresses import join_address
    from fedbus.deployment.systemd import program, write_unit
    from server.hub.folder import init_hub

    hub = init_hub(folder, host, names=name or (), port=port, superlink_port=superlink_port)
    _print(f"Made {hub.path}. Send every site {hub.ca_certificate} and: --hub {join_address(host, port)}")
    if systemd:
        unit = hub.path / "fedbus-hub.service"
        write_unit(unit, f"FedBUS hub {host}", [program(), "hub", "start", str(hub.path)], hub.path)
        _print(f"Install it with: sudo systemctl enable --now {unit}")
    _print(f"Next: fedbus hub start {folder}")


@app.command()
def start(folder: Folder, print_command: PrintCommand = False) -> None:
    """Open the hub to its sites, until Ctrl-C."""
    from server.hub.folder import open_hub
    from server.hub.start import serve
    from server.hub.superlink import shell_command

    hub = open_hub(folder)
    if print_command:
        _print(shell_command(hub))
        return
    settings = hub.settings
    serve(
        hub,
        lambda: _print(
            f"Sites can connect to {settings.host}:{settings.port}. Ctrl-C ends the hub.\n"
            f"Next, in another terminal: fedbus hub approve {folder} SITE.pub"
        ),
    )
    _print("The hub has ended.")


@app.command()
def approve(
    folder: Folder,
    public_key: Annotated[Path, typer.Argument(metavar="SITE.pub", help="The site's public key.")],
    print_command: PrintCommand = False,
) -> None:
    """Let a site in."""
    from server.hub.admission import approve_site
    from server.hub.flwr_cli import register
    from server.hub.folder import open_hub
    from server.hub.site_keys import read_public_key

    hub, (name, _) = open_hub(folder), read_public_key(public_key)
    if print_command:
        _print(register(hub, public_key, name).shell_command)
        return
    site = approve_site(hub, public_key)
    _print(f"Approved {site.name} (key {site.key}).")
    _print(f"Next: tell {site.name} to run `fedbus site join DIR`, then: fedbus hub run {folder} STUDY.toml")


@app.command()
def revoke(
    folder: Folder,
    name: Annotated[str, typer.Argument(help="The site.")],
    print_command: PrintCommand = False,
) -> None:
    """Shut a site out, at once."""
    from server.hub.admission import find_site, revoke_site
    from server.hub.flwr_cli import unregister
    from server.hub.folder import open_hub

    hub = open_hub(folder)
    if print_command:
        _print(unregister(hub, find_site(hub, name).node).shell_command)
        return
    revoke_site(hub, name)
    _print(f"Revoked {name}: its key is no longer accepted.")


@app.command()
def run(
    folder: Folder,
    study: Annotated[Path, typer.Argument(metavar="STUDY.toml", help="The study's settings.")],
    out: Annotated[Path | None, typer.Option(help="The run folder; default: DIR/runs/STUDY.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting of the study.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in its folder.")] = False,
    print_command: PrintCommand = False,
) -> None:
    """Train with the approved sites, and write the report."""
    from server.hub.bundle import application_folder
    from server.hub.flwr_cli import start_run
    from server.hub.folder import open_hub
    from server.hub.run import load_deployed_settings, run_deployed

    hub = open_hub(folder)
    target = (out or hub.runs / study.stem).resolve()
    if print_command:
        _print(start_run(hub, application_folder(hub), target).shell_command)
        return
    settings = load_deployed_settings(study, set_ or (), _log)
    try:
        report = run_deployed(hub, settings, target, resume=resume, log=_log)
    except KeyboardInterrupt:
        _print("Stopped. Finished rounds are kept; go on with the same command and: --resume")
        raise typer.Exit(130) from None
    _print(f"Report: {report}")


@app.command()
def status(
    folder: Folder,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew every few seconds, until Ctrl-C.")] = False,
) -> None:
    """Say which sites are connected and how the latest run goes."""
    from server.hub.folder import open_hub
    from server.hub.status import print_status, watch_status

    hub = open_hub(folder)
    if watch:
        watch_status(hub, console)
    else:
        print_status(hub, console)


def _log(words: str) -> None:
    _print(f"{datetime.now():%H:%M:%S}  {words}")


def _print(words: str) -> None:
    console.print(words, markup=False, highlight=False, soft_wrap=True)
