"""`fedbus site`: one short function a verb, no logic."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(no_args_is_help=True, help="Take part as a hospital: images stay, weights travel.")
console = Console()

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The site's folder.")]


@app.command()
def init(
    folder: Folder,
    hub: Annotated[str, typer.Option(metavar="NAME:PORT", help="Where the hub awaits its sites.")],
    ca: Annotated[Path, typer.Option(metavar="CA.crt", help="The hub's certificate authority.")],
    name: Annotated[str, typer.Option(help="What this hospital is called in tables and logs.")],
    runtime_port: Annotated[int, typer.Option(help="Port of Flower's SuperNode, on this machine only.")] = 9094,
    systemd: Annotated[bool, typer.Option("--systemd", help="Write a systemd unit too.")] = False,
) -> None:
    """Make a site: its key pair and settings."""
    from clients.site.folder import init_site
    from clients.site.keys import fingerprint
    from fedbus.deployment.systemd import program, write_unit

    site = init_site(folder, name, hub, ca, runtime_port=runtime_port)
    _print(f"Made {site.path}. Send the coordinator {site.public_key} (and no other file).")
    _print(f"Its fingerprint, to compare by telephone: {fingerprint(site.key)}")
    if systemd:
        unit = site.path / "fedbus-site.service"
        write_unit(unit, f"FedBUS site {name}", [program(), "site", "join", str(site.path)], site.path)
        _print(f"Install it with: sudo systemctl enable --now {unit}")
    _print(f"Next: fedbus site check {folder} --data READER=FOLDER")


@app.command()
def check(
    folder: Folder,
    data: Annotated[
        str | None, typer.Option(metavar="READER=FOLDER", help="The images, e.g. labels-csv=/data/bus.")
    ] = None,
    study: Annotated[Path | None, typer.Option(metavar="STUDY.toml", help="The study, if you have it.")] = None,
) -> None:
    """Check images, machine and hub before joining; exit 1 if something must be mended."""
    from clients.check.site import check_site
    from clients.site.folder import open_site_folder
    from fedbus.settings.load import load_settings, parse_sites

    found = next(iter(parse_sites([data]).values())) if data else None
    source = (found["reader"], Path(found["path"])) if found else None
    raise typer.Exit(check_site(open_site_folder(folder), source, load_settings(study), console))


@app.command()
def join(
    folder: Folder,
    print_command: Annotated[
        bool, typer.Option("--print-command", help="Show the Flower command that this runs, and run nothing.")
    ] = False,
) -> None:
    """Take part in the hub's runs, until Ctrl-C."""
    from clients.site.folder import open_site_folder
    from clients.site.supernode import typed_command

    site = open_site_folder(folder)
    if print_command:
        _print(typed_command(site))
        return
    from clients.join import join as run  # PyTorch is slow to import, and printing needs none of it

    run(site, lambda words: _print(f"{datetime.now():%H:%M:%S}  {words}"))
    _print(f"{site.settings.name} has left.")


@app.command()
def approve(folder: Folder, digest: Annotated[str, typer.Argument(help="What `fedbus hub run` showed.")]) -> None:
    """Allow an application to run here."""
    from clients.site.folder import open_site_folder

    site = open_site_folder(folder)
    site.approve(digest)
    _print(f"{site.settings.name} works for application {digest}.")
    _print(f"Next: fedbus site join {folder}")


@app.command()
def withdraw(folder: Folder, digest: Annotated[str, typer.Argument(help="As `fedbus site status` shows it.")]) -> None:
    """Allow an application no longer."""
    from clients.site.folder import open_site_folder

    site = open_site_folder(folder)
    site.withdraw(digest)
    _print(f"{site.settings.name} no longer works for application {digest}.")


@app.command()
def status(folder: Folder) -> None:
    """Say whether this site is joined, whether the hub knows it, and which models it has received."""
    from clients.site.folder import open_site_folder
    from clients.site.status import show

    show(open_site_folder(folder), console)


def _print(words: str) -> None:
    console.print(words, markup=False, highlight=False, soft_wrap=True)
