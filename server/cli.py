"""The commands `fedbus hub` and `fedbus watch`: one short function per command, no logic."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedbus.system.terminal import print_line, print_log_line, resumable

if TYPE_CHECKING:
    from fedbus.watch.snapshot import RunReader

app = typer.Typer(no_args_is_help=True, help="Run a hub: approve sites, train with them, follow the progress.")

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the hub.")]
PrintCommand = Annotated[bool, typer.Option("--print-command", help="Print the Flower command instead of running it.")]


@app.command()
def init(
    folder: Folder,
    host: Annotated[str, typer.Option(help="DNS name or IP address by which sites reach this machine.")],
    name: Annotated[
        list[str] | None,
        typer.Option(help="Another name or address of this machine, for its certificate. Repeat for each."),
    ] = None,
    port: Annotated[int, typer.Option(help="Port to which sites connect.")] = 9092,
    superlink_port: Annotated[
        int, typer.Option(help="Port of Flower's SuperLink, reachable only from this machine.")
    ] = 9093,
    systemd: Annotated[bool, typer.Option("--systemd", help="Also write a systemd unit.")] = False,
) -> None:
    """Create a hub: certificates, settings and a folder for its runs."""
    from fedbus.deployment.addresses import join_address
    from fedbus.deployment.systemd import program, write_unit
    from server.hub.folder import init_hub

    hub = init_hub(folder, host, names=name or (), port=port, superlink_port=superlink_port)
    print_line(f"Created {hub.path}. Send every site {hub.ca_certificate} and: --hub {join_address(host, port)}")
    if systemd:
        unit = hub.path / "fedbus-hub.service"
        write_unit(unit, f"FedBUS hub {host}", [program(), "hub", "start", str(hub.path)], hub.path)
        print_line(f"Install it with: sudo systemctl enable --now {unit}")
    print_line(f"Next: fedbus hub start {folder}")


@app.command()
def start(folder: Folder, print_command: PrintCommand = False) -> None:
    """Run the hub until Ctrl-C."""
    from fedbus.audit.check import check_at_start
    from server.hub.folder import open_hub
    from server.hub.old_database import unused_database_note
    from server.hub.renewal import expiry_warnings
    from server.hub.start import serve
    from server.hub.superlink import shell_command, superlink_command

    hub = open_hub(folder)
    if print_command:
        print_line(shell_command(hub, superlink_command(hub, Path("SECRET-FILE"))))
        return
    settings = hub.settings

    def ready() -> None:
        print_line(f"Sites can connect to {settings.host}:{settings.port}. Press Ctrl-C to stop the hub.")
        print_line(f"Next, in another terminal: fedbus hub approve {folder} SITE.pub")

    for warning in expiry_warnings(hub):
        print_line(f"WARNING: {warning}")
    if note := unused_database_note(hub):
        print_line(note)
    check_at_start(hub.audit, print_line)
    serve(hub, ready)
    print_line("The hub has stopped.")


@app.command()
def approve(
    folder: Folder,
    public_key: Annotated[Path, typer.Argument(metavar="SITE.pub", help="Public key file that the site sent.")],
    print_command: PrintCommand = False,
) -> None:
    """Approve a site, so that it can join."""
    from server.hub.admission import approve_site
    from server.hub.flwr_cli import register
    from server.hub.folder import open_hub
    from server.hub.site_keys import read_public_key

    hub, (name, *_) = open_hub(folder), read_public_key(public_key)
    if print_command:
        print_line(register(hub, public_key, name).shell_command)
        return
    site = approve_site(hub, public_key)
    print_line(f"Approved {site.name} (key {site.key}).")
    print_line(f"Next: tell {site.name} to run `fedbus site join DIR`, then: fedbus hub run {folder} SETTINGS.toml")


@app.command()
def revoke(
    folder: Folder,
    name: Annotated[str, typer.Argument(metavar="SITE", help="Name of the site.")],
    print_command: PrintCommand = False,
) -> None:
    """Revoke a site's key for good; it is refused at once."""
    from server.hub.admission import revoke_site
    from server.hub.flwr_cli import unregister
    from server.hub.folder import open_hub

    hub = open_hub(folder)
    if print_command:
        print_line(unregister(hub, hub.site(name).node).shell_command)
        return
    revoke_site(hub, name)
    print_line(f"Revoked {name}: its key is no longer accepted.")


@app.command()
def run(
    folder: Folder,
    settings_file: Annotated[Path, typer.Argument(metavar="SETTINGS.toml", help="Settings of the training.")],
    out: Annotated[Path | None, typer.Option(help="Run folder. Default: DIR/runs/SETTINGS.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override a setting (see: fedbus settings). Repeat for each setting."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in its folder.")] = False,
    print_command: PrintCommand = False,
) -> None:
    """Train with the approved sites and write a report."""
    from server.hub.bundle import application_folder
    from server.hub.flwr_cli import start_run
    from server.hub.folder import open_hub
    from server.hub.run import load_deployed_settings, run_deployed

    hub = open_hub(folder)
    target = (out or hub.runs / settings_file.stem).resolve()
    if print_command:
        print_line(start_run(hub, application_folder(hub), target).shell_command)
        return
    settings = load_deployed_settings(settings_file, set_ or (), print_log_line)
    with resumable("Finished rounds", "--resume"):
        report = run_deployed(hub, settings, target, resume=resume, log=print_log_line)
    print_line(f"Report: {report}")


@app.command()
def evaluate(
    folder: Folder,
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="Model folder: an arm of a run, one that a site received, a bundle.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Run folder. Default: DIR/runs/evaluation-..., by the model.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Ask the sites that have not answered yet.")] = False,
) -> None:
    """Have every connected site test a model on its own test images.

    They are the test images of the split in the model's settings. A run of this hub never trained on them. A model from
    elsewhere may have been trained with a site's other images, so these are not scored, nor test images near to those
    that it was trained on.
    """
    from rich.console import Console

    from fedbus.reports.hub_evaluation.tables import evaluation_table
    from server.hub.evaluation import evaluate_model
    from server.hub.folder import open_hub

    hub = open_hub(folder)
    with resumable("Earlier answers", "--resume"):
        results = evaluate_model(hub, model, out and out.resolve(), resume=resume, log=print_log_line)
    Console().print(evaluation_table(results))
    for name, reason in results["failures"].items():
        print_line(f"No answer of {name}: {reason}")
    print_line(f"Report: {results['page']}")


@app.command()
def renew(
    folder: Folder,
    ca_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The hub's ca.key, if it is kept elsewhere. Default: DIR/ca.key."),
    ] = None,
) -> None:
    """Renew the hub's server certificate before it ends; sites need no new file."""
    from server.hub.folder import open_hub
    from server.hub.renewal import renew_certificate

    hub = open_hub(folder)
    until = renew_certificate(hub, ca_key)
    print_line(f"Renewed: {hub.certificate} is valid until {until:%Y-%m-%d}.")
    print_line("A running hub uses it from the next connection on. Sites need nothing: they trust the same ca.crt.")


@app.command()
def audit(folder: Folder) -> None:
    """Show what happened here: approvals, runs, models. The exit code is 1 if the log was changed."""
    from rich.console import Console

    from fedbus.audit.check import print_log
    from server.hub.folder import open_hub

    raise typer.Exit(print_log(open_hub(folder).audit, Console()))


@app.command()
def status(
    folder: Folder,
    watch: Annotated[bool, typer.Option("--watch", help="Update the display every few seconds until Ctrl-C.")] = False,
) -> None:
    """Show which sites are connected and how far the latest run is."""
    from rich.console import Console

    from server.hub.folder import open_hub
    from server.hub.status import print_status, watch_status

    hub = open_hub(folder)
    if watch:
        watch_status(hub, Console())
    else:
        print_status(hub, Console())


def watch(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, of a simulation or of a hub.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1. 0: any free port.")] = 0,
) -> None:
    """Show a run in the browser while it goes: rounds, curves, participants, time left. Ctrl-C ends the page only."""
    from fedbus.watch.server import watch as serve_page

    serve_page(run, port, lambda: _open_watched_run(run), print_line)


def _open_watched_run(run: Path) -> "RunReader":
    from server.hub.watched_run import open_watched_run  # loads much; the address of the page is printed before

    return open_watched_run(run)
