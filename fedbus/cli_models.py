"""The commands that use what a run has made: one short function per command, no logic."""

from pathlib import Path
from typing import Annotated

import typer


def card(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the pages. Default: RUN/card.")] = None,
) -> None:
    """Write the model card of a finished run, and the reporting checklists TRIPOD+AI and CLAIM, as far as it goes."""
    from rich.console import Console

    from fedbus.cards.card import write_card

    write_card(run, out, Console())
