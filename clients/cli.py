"""The commands `fedbus site`: one short function per command, no logic."""

from pathlib import Path
from typing import Annotated

import typer

from fedbus.system.terminal import print_line, print_log_line

app = typer.Typer(
    no_args_is_help=True, help="Take part as a site: images stay here; weights, counts and metrics are sent."
)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of this site.")]


@app.command()
def init(
    folder: Folder,
    hub: Annotated[str, typer.Option(metavar="HOST:PORT", help="Address of the hub.")],
    ca: Annotated[Path, typer.Option(metavar="CA.crt", help="Certificate file that the coordinator sent.")],
    name: Annotated[str, typer.Option(help="Name of this site in tables and logs.")],
    runtime_port: Annotated[
        int, typer.Option(help="Port of Flower's SuperNode, reachable only from this machine.")
    ] = 9094,
    systemd: Annotated[bool, typer.Option("--systemd", help="Also write a systemd unit.")] = False,
) -> None:
    """Create a site: a key pair and settings."""
    from clients.site.folder import init_site
    from clients.site.keys import fingerprint
    from fedbus.deployment.systemd import program, write_unit

    site = init_site(folder, name, hub, ca, runtime_port=runtime_port)
    print_line(f"Created {site.path}. Send the coordinator {site.public_key} (and no other file).")
    print_line(f"Its fingerprint, to compare by telephone: {fingerprint(site.key)}")
    if systemd:
        unit = site.path / "fedbus-site.service"
        write_unit(unit, f"FedBUS site {name}", [program(), "site", "join", str(site.path)], site.path)
        print_line(f"Install it with: sudo systemctl enable --now {unit}")
    print_line(f"Next: fedbus site check {folder} --data READER=FOLDER")


@app.command()
def check(
    folder: Folder,
    data: Annotated[
        str | None, typer.Option(metavar="READER=FOLDER", help="The images, for example labels-csv=/data/bus.")
    ] = None,
    settings_file: Annotated[
        Path | None,
        typer.Option(
            "--settings", "--study", metavar="SETTINGS.toml", help="Settings file of the coordinator, if you have it."
        ),
    ] = None,
) -> None:
    """Check images, machine and hub before joining. The exit code is 1 if something must be fixed."""
    from rich.console import Console

    from clients.check.site import check_site
    from clients.site.folder import open_site_folder
    from fedbus.settings.load import load_settings, parse_sites

    found = next(iter(parse_sites([data]).values())) if data else None
    source = (found["reader"], Path(found["path"])) if found else None
    raise typer.Exit(check_site(open_site_folder(folder), source, load_settings(settings_file), Console()))


@app.command()
def join(
    folder: Folder,
    print_command: Annotated[
        bool, typer.Option("--print-command", help="Print the Flower command instead of running it.")
    ] = False,
) -> None:
    """Take part in the hub's training until Ctrl-C."""
    from clients.site.folder import open_site_folder
    from clients.site.supernode import shell_command

    site = open_site_folder(folder)
    if print_command:
        print_line(shell_command(site))
        return
    from clients.join import join as run  # imports PyTorch, which is slow and not needed for printing

    run(site, print_log_line)
    print_line(f"{site.settings.name} has left the federation.")


@app.command()
def approve(
    folder: Folder,
    digest: Annotated[str, typer.Argument(help="The digest of the study that `fedbus hub run` printed.")],
    any_study: Annotated[
        bool,
        typer.Option(
            "--any-study", help="DIGEST is an application's: allow it to run whatever study the hub sends, unseen."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Approve without a question, for scripts.")] = False,
) -> None:
    """Show what a study would do here, and allow it to run after a question."""
    from rich.console import Console

    from clients.site.folder import open_site_folder

    site = open_site_folder(folder)
    name = site.settings.name
    if any_study:
        site.approve_any_study(digest)
        print_line(f"{name} now runs ANY study of application {digest}: nobody here is asked about its settings and")
        print_line("sites. Only the limits in site.toml apply. To be asked about each study: fedbus site withdraw.")
    else:
        from clients.consent.approve import approve_study

        if not approve_study(site, digest, Console(), lambda: yes or typer.confirm("Approve this study?")):
            print_line("Not approved; nothing was changed.")
            raise typer.Exit(1)
        print_line(f"{name} now runs study {digest}.")
    print_line(f"Next, unless it is joined: fedbus site join {folder}")


@app.command()
def withdraw(
    folder: Folder, digest: Annotated[str, typer.Argument(help="A digest that `fedbus site status` prints.")]
) -> None:
    """Withdraw the approval of a study, or of an application for any study."""
    from clients.site.folder import open_site_folder

    site = open_site_folder(folder)
    site.withdraw(digest)
    print_line(f"{site.settings.name} no longer runs {digest}.")


@app.command()
def audit(folder: Folder) -> None:
    """Show what happened here: approvals, refusals, all that was sent. The exit code is 1 if the log was changed."""
    from rich.console import Console

    from clients.site.folder import open_site_folder
    from fedbus.audit.check import print_log

    raise typer.Exit(print_log(open_site_folder(folder).audit, Console()))


@app.command()
def status(folder: Folder) -> None:
    """Show whether this site has joined, whether the hub knows it, and which models it has received."""
    from rich.console import Console

    from clients.site.folder import open_site_folder
    from clients.site.status import print_status

    print_status(open_site_folder(folder), Console())
