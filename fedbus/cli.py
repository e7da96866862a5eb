"""The command line: one short function a verb, no logic."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from clients.cli import app as site_app
from fedbus.errors import FedbusError
from fedbus.system.third_party import silence_third_party
from server.cli import app as hub_app

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(hub_app, name="hub")
app.add_typer(site_app, name="site")
console = Console()

SiteOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--site",
        metavar="NAME=PATH",
        help="A hospital: reader=folder, or name=reader:folder. May be repeated.",
    ),
]
SetOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Any setting of the study (see: fedbus settings). May be repeated."
    ),
]


@app.command()
def compare(
    study: Annotated[
        Path | None,
        typer.Argument(help="A study file (TOML); default: phantoms.toml or, with --site, hospitals.toml."),
    ] = None,
    site: SiteOptions = None,
    out: Annotated[Path | None, typer.Option(help="The run folder; default: runs/compare-DATE-TIME.")] = None,
    set_: SetOptions = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
) -> None:
    """Train hospitals alone, pooled and federated; print the table and write the report."""
    from fedbus.settings.load import HOSPITALS_PRESET, PHANTOMS_PRESET, load_settings
    from simulations.compare import compare as run
    from simulations.compare import default_out

    settings = load_settings(study or (HOSPITALS_PRESET if site else PHANTOMS_PRESET), set_ or (), site or ())
    folder = out or default_out()
    try:
        run(settings, folder, resume=resume, console=console)
    except KeyboardInterrupt:
        words = "Stopped. Finished rounds are kept; go on with the same command and: --out"
        console.print(f"{words} {folder} --resume", markup=False, soft_wrap=True)
        raise typer.Exit(130) from None


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="sampling, backbones, leakage, federation, or a grid of yours (TOML).")],
    site: SiteOptions = None,
    out: Annotated[Path | None, typer.Option(help="The study's folder; default: runs/NAME-DATE-TIME.")] = None,
    set_: SetOptions = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the study in --out.")] = False,
    all_folds: Annotated[
        bool, typer.Option("--all-folds", help="Test on every fold in turn: every image is tested once.")
    ] = False,
) -> None:
    """Vary settings cell by cell; print one table with paired differences and write the report."""
    from simulations.studies.grid import load_grid
    from simulations.studies.study import default_study_out, run_study

    grid = load_grid(name, set_ or (), site or ())
    folder = out or default_study_out(grid.name)
    try:
        finished = run_study(grid, folder, resume=resume, all_folds=all_folds, console=console)
    except KeyboardInterrupt:
        words = "Stopped. Finished cells and rounds are kept; go on with the same command and: --out"
        console.print(f"{words} {folder} --resume", markup=False, soft_wrap=True)
        raise typer.Exit(130) from None
    if not finished:
        raise typer.Exit(1)


@app.command()
def check(
    sites: Annotated[list[str], typer.Argument(metavar="NAME=PATH...", help="Archives to look at.")],
    out: Annotated[Path, typer.Option(help="Where the same goes as JSON.")] = Path("check.json"),
) -> None:
    """Say what is in an archive and what is wrong with it; exit 1 if one can't be used."""
    from fedbus.reports.archive_check import check_sites
    from fedbus.settings.load import parse_sites

    specs = [(name, source["reader"], Path(source["path"])) for name, source in parse_sites(sites).items()]
    raise typer.Exit(check_sites(specs, out, console))


@app.command()
def settings() -> None:
    """List every setting with its default."""
    from fedbus.reports.settings_table import settings_table

    console.print(settings_table())


def main() -> None:
    """Run the command line; an expected error is two lines, not a traceback."""
    silence_third_party()
    try:
        app()
    except FedbusError as error:
        text = Text.assemble(("Error: ", "bold red"), error.problem, ("\nWhat to do: ", "bold"), error.remedy)
        Console(stderr=True).print(text)
        raise SystemExit(1) from None
