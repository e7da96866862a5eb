"""Print the figures of the benchmark as a table."""

from rich import box
from rich.table import Table
from rich.text import Text

from fedbus.system.terminal import BAD, GOOD
from simulations.benchmarks.other_work import QUIET_SHARE
from simulations.benchmarks.results import Results
from simulations.benchmarks.summary import figures_of


def table(results: Results, device: str) -> Table:
    """Make the table of the measured parts' figures and aims; one that failed is n/a, with the reason below the table.

    A quick run's images and rounds are too small for the aims: the costs of a round besides its steps weigh more.
    """
    notes = [f"{name}: {why}" for name, why in results.missing.items()]
    if results.quick:
        notes.append("The aims apply to a full run, whose images and rounds are larger.")
    busy = {name: facts["other_share"] for name, facts in results.runs.items() if facts["other_share"] > QUIET_SHARE}
    if busy:
        notes.append(f"Other programs used up to {max(busy.values()):.0%} of the processors: {', '.join(busy)}.")
    made = Table(title="FedBUS on this machine (phantoms)", caption="\n".join(notes) or None, box=box.SIMPLE)
    for heading in ("", "figure", "aim", ""):
        made.add_column(heading, justify="right" if heading == "figure" else "left")
    values = results.figures
    tried = results.parts.keys() | results.missing.keys()
    for figure in figures_of(device):
        if figure.part not in tried:
            continue
        value = values[figure.key]
        verdict = Text()
        if value is not None and figure.aim and not results.quick:
            verdict = Text("reached", GOOD) if figure.reached(value) else Text("missed", BAD)
        made.add_row(figure.words, "n/a" if value is None else f"{value:.3g}", figure.aim, verdict)
    return made
