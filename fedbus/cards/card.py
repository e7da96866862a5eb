"""`fedbus card`: write the model card and the reporting checklists of a finished run."""

from pathlib import Path

from rich.console import Console
from rich.text import Text

from fedbus.cards.answer import STATUSES
from fedbus.cards.checklist import Checklist, checklist_page, numbers_by_status
from fedbus.cards.claim import CLAIM
from fedbus.cards.elsewhere import well_formed
from fedbus.cards.model_card import FILE, model_card
from fedbus.cards.run import RESTORE, FinishedRun, read_run
from fedbus.cards.tripod_ai import TRIPOD_AI
from fedbus.reports.comparison.results import RESULTS_FILE
from fedbus.reports.terminal_table import add_figure_column, add_label_column, new_table
from fedbus.system.files import make_private_folder, write_text

CAPTION = "Filled: answered by the run folder, with evidence. TRIPOD+AI has 27 items, 52 with their sub-items."

CHECKLISTS: tuple[Checklist, ...] = (TRIPOD_AI, CLAIM)


def write_card(path: Path, out: Path | None, console: Console) -> Path:
    """Write `model_card.md`, `tripod_ai.md` and `claim.md`, and print how many items are answered.

    The pages name no folder, no patient and no image file.

    Args:
        path: The run folder.
        out: Folder of the pages; None: `RUN/card`. Pages there that differ are kept as `NAME.before`.
        console: Prints the summary.

    Returns:
        The folder of the pages.

    Raises:
        RunError: If the run is not finished or damaged, before anything is written; or if the disk is full.
    """
    run = read_run(path)
    folder = out or path / "card"
    with well_formed(path / RESULTS_FILE, RESTORE):
        pages = {FILE: model_card(run)} | {each.file: checklist_page(each, run) for each in CHECKLISTS}
    make_private_folder(folder)
    for name, text in pages.items():
        _keep_edited(folder / name, text)
        write_text(folder / name, text)
    _print_summary(run, folder, console)
    return folder


def _print_summary(run: FinishedRun, folder: Path, console: Console) -> None:
    table = new_table("Items of the checklists", CAPTION, phantoms=run.phantoms)
    add_label_column(table)
    for status in STATUSES:
        add_figure_column(table, status)
    for checklist in CHECKLISTS:
        found = numbers_by_status(checklist.answers(run))
        table.add_row(Text(checklist.title), *(Text(str(len(found[status]))) for status in STATUSES))
    console.print(table)
    console.print(f"Model card: {folder / FILE}", markup=False, highlight=False, soft_wrap=True)
    for checklist in CHECKLISTS:
        console.print(f"{checklist.title}: {folder / checklist.file}", markup=False, highlight=False, soft_wrap=True)
    console.print("Next: fill in the items marked “for you to fill”, and check what is filled before you publish it.")


def _keep_edited(page: Path, text: str) -> None:
    """Move a page aside that would change: somebody may have filled in its items."""
    if page.is_file() and page.read_text(encoding="utf-8") != text:
        page.replace(page.with_name(f"{page.name}.before"))
