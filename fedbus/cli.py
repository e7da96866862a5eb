"""The command line `fedbus`: one short function per command, no logic."""

import fedbus.system.threads  # noqa: F401 -- decides how threads wait, before PyTorch is imported

# isort: split
import sys
import warnings
from pathlib import Path
from typing import Annotated, TextIO

import typer

from clients.cli import app as site_app
from fedbus.cli_models import card, evaluate, explain, export, predict
from fedbus.errors import FedbusError, FedbusWarning
from fedbus.system.encoding import show_any_text
from fedbus.system.signals import handle_signals
from fedbus.system.terminal import print_line
from fedbus.system.third_party import show_argument_help, silence_third_party
from fedbus.text import MOST_OF_A_LINE, plain_text
from server.cli import app as hub_app
from server.cli import watch
from simulations.cli import compare, study

_PRINTED_AS_ASKED = {"--help", "--print-command"}
"""Options whose output is all that is printed."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train a breast-ultrasound classifier across hospitals without sharing images, and compare it with local and "
    "centralised training.",
)
app.command()(compare)
app.command()(study)
app.command()(evaluate)
app.command()(predict)
app.command()(explain)
app.command()(export)
app.command()(card)
app.command()(watch)


@app.command()
def check(
    sites: Annotated[
        list[str],
        typer.Argument(metavar="READER=FOLDER...", help="Datasets; NAME=READER:FOLDER also chooses a name."),
    ],
    out: Annotated[Path, typer.Option(help="File for all findings, as JSON.")] = Path("check.json"),
) -> None:
    """Check datasets: their classes, duplicates and unreadable images. The exit code is 1 if one is unusable."""
    from rich.console import Console

    from fedbus.reports.archive_check import check_sites
    from fedbus.settings.load import parse_sites

    specs = [(name, source["reader"], Path(source["path"])) for name, source in parse_sites(sites).items()]
    raise typer.Exit(check_sites(specs, out, Console()))


@app.command()
def settings() -> None:
    """List all settings with their defaults."""
    from rich.console import Console

    from fedbus.reports.settings_table import settings_table

    Console().print(settings_table())


@app.command()
def clean() -> None:
    """Delete what killed runs of yours left in shared memory and in the folder for temporary files."""
    from fedbus.system.scratch import delete_all_abandoned

    deleted = delete_all_abandoned()
    for folder, size in deleted.items():
        print_line(f"Deleted {folder} ({size / 1e6:.1f} MB).")
    if not deleted:
        print_line("Killed runs have left nothing behind.")


app.add_typer(hub_app, name="hub")
app.add_typer(site_app, name="site")


def main() -> None:
    """Run the command line; print an expected error as two lines, without a traceback."""
    show_any_text()
    handle_signals()
    _announce(sys.argv[1:])
    silence_third_party()
    show_argument_help()
    warnings.showwarning = _show_warning
    try:
        app()
    except FedbusError as error:
        from rich.console import Console
        from rich.text import Text

        text = Text.assemble(("Error: ", "bold red"), error.problem, ("\nWhat to do: ", "bold"), error.remedy)
        Console(stderr=True).print(text)
        raise SystemExit(1) from None


def _announce(words: list[str]) -> None:
    """Print a sign of life: what a command imports can take long on a busy machine, or over a network.

    Standard error stays empty unless something is wrong. `settings` and `clean` import little.
    """
    commands = {command.callback.__name__ for command in app.registered_commands if command.callback}
    groups = {str(group.name) for group in app.registered_groups}
    if words and words[0] in (commands | groups) - {"settings", "clean"} and not _PRINTED_AS_ASKED & set(words):
        print(f"Starting fedbus {' '.join(words[: 2 if words[0] in groups else 1])} ...", flush=True)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print our own warnings as one line for the user, all others as Python does."""
    if issubclass(category, FedbusWarning):
        print(f"Note: {plain_text(message, MOST_OF_A_LINE)}", file=sys.stderr)
    else:
        print(warnings.formatwarning(message, category, filename, lineno, line), file=file or sys.stderr, end="")
