"""The commands `fedbus compare` and `fedbus study`: one short function per command, no logic."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from fedbus.system.terminal import resumable

SiteOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--site",
        metavar="READER=FOLDER",
        help="A site's dataset; NAME=READER:FOLDER also chooses the site's name. Repeat for each site.",
    ),
]
SetOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a setting (see: fedbus settings). Repeat for each setting."
    ),
]


def compare(
    settings_file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[SETTINGS.toml]",
            help="A settings file. Default: a preset; hospitals.toml with --site, phantoms.toml without.",
        ),
    ] = None,
    site: SiteOptions = None,
    out: Annotated[Path | None, typer.Option(help="Run folder. Default: runs/compare-DATE-TIME.")] = None,
    set_: SetOptions = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
) -> None:
    """Compare local, centralised and federated training: train all, print the results, write a report."""
    from rich.console import Console

    from fedbus.settings.load import HOSPITALS_PRESET, PHANTOMS_PRESET, load_settings
    from simulations.compare import compare as run
    from simulations.compare import default_out

    settings = load_settings(settings_file or (HOSPITALS_PRESET if site else PHANTOMS_PRESET), set_ or (), site or ())
    folder = out or default_out()
    with resumable("Finished rounds", f"--out {shlex.quote(str(folder))} --resume"):
        run(settings, folder, resume=resume, console=Console())


def study(
    name: Annotated[
        str,
        typer.Argument(
            metavar="STUDY",
            help="sampling, backbones, leakage, federation, shortcuts, or the path of a study file (TOML).",
        ),
    ],
    site: SiteOptions = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the study. Default: runs/STUDY-DATE-TIME.")] = None,
    set_: SetOptions = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the study in --out.")] = False,
    folds: Annotated[
        str, typer.Option(metavar="0,1,...", help="Use each of these folds as the test set in turn.")
    ] = "",
    all_folds: Annotated[
        bool, typer.Option("--all-folds", help="Use every fold as the test set in turn, so that every image is tested.")
    ] = False,
) -> None:
    """Run a grid of comparisons, print one table with paired differences and write a report."""
    from rich.console import Console

    from simulations.studies.folds import choose_folds
    from simulations.studies.grid import load_grid
    from simulations.studies.study import default_study_out, run_study

    grid = load_grid(name, set_ or (), site or ())
    tested = choose_folds(folds, all_folds, grid.shared.folds)
    folder = out or default_study_out(grid.name)
    with resumable("Finished cells and rounds", f"--out {shlex.quote(str(folder))} --resume"):
        finished = run_study(grid, folder, resume=resume, folds=tested, console=Console())
    if not finished:
        raise typer.Exit(1)
