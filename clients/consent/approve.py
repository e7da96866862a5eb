"""`fedbus site approve`: show a study, then ask for consent."""

from collections.abc import Callable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from clients.check.split import try_rows
from clients.consent.description import NOT_INSTALLED, PROBLEM, Work, describe_request
from clients.limits.study import check_study
from clients.site.approvals import check_digest
from clients.site.folder import SiteFolder
from clients.site.studies import StudyRequest, read_pending, read_request
from fedbus.errors import FedbusError, RunError
from fedbus.privacy.plan import make_plan
from fedbus.system.progress import Advance
from fedbus.system.terminal import BAD, QUIET, advance_task, progress_bar
from fedbus.transport.messages import TRAINING


def approve_study(site: SiteFolder, digest: str, console: Console, ask: Callable[[], bool]) -> bool:
    """Show a study that the hub has asked about, and approve it if the operator agrees.

    Args:
        site: The site.
        digest: The study's digest.
        console: Where to print.
        ask: Asks the operator, and returns whether the answer is yes.

    Returns:
        Whether the study is approved.

    Raises:
        RunError: If it is not a digest, the hub has not asked about such a study, or a file can't be read or written.
    """
    request = find_request(site, digest)
    print_request(site, request, console)
    if digest in site.approvals().digests:
        console.print(Text("This study is already approved."))
        return True
    if not ask():
        return False
    site.approve_study(digest, request.study.application)
    return True


def find_request(site: SiteFolder, digest: str) -> StudyRequest:
    """Return the study that the hub has asked about.

    Raises:
        RunError: If it is not a digest, there is no such study, or its file is damaged.
    """
    check_digest(digest)
    if (site.studies / f"{digest}.json").is_file():
        return read_request(site.studies, digest)
    pending = read_pending(site.studies, site.approvals().digests)
    waiting = [request.study.digest for request in pending]
    if any(request.study.application == digest for request in pending):
        raise RunError(
            f"{digest} is the digest of an application, not of a study.",
            f"Approve a study of it: {', '.join(waiting)}; or the application for any study: --any-study.",
        )
    raise RunError(
        f"The hub has not asked this site about study {digest}.",
        f"Studies that wait: {', '.join(waiting)}."
        if waiting
        else f"Run `fedbus site join {site.path}`: the study is shown once the hub asks. "
        "An application is approved for any study with --any-study.",
    )


def print_request(site: SiteFolder, request: StudyRequest, console: Console) -> None:
    """Print what a study would do at this site."""
    work = count_work(site, request, console)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for topic, text in describe_request(request, work, site.settings.name):
        alarming = topic == PROBLEM or text == NOT_INSTALLED
        table.add_row(topic, Text(text, style=BAD if alarming else ""))
    console.print(Text.assemble(("Study ", "bold"), request.study.digest), soft_wrap=True)
    console.print(table)
    console.print(Text("Compare digest and fingerprints with the coordinator by telephone.", style=QUIET))


def count_work(site: SiteFolder, request: StudyRequest, console: Console) -> Work:
    """Count this site's training rows for a study; images that the site's cache lacks are decoded into it."""
    settings, limits = request.study.full_settings(), site.settings.limits
    training = request.study.task == TRAINING
    try:
        check_study(settings, limits, training=training)
        if not training:
            return Work()
        reader, root = site.source()
        with progress_bar(console) as bar:

            def progress(name: str, total: int) -> Advance:
                return advance_task(bar, "Reading", total)

            rows = try_rows(site, reader, root, settings, progress)
        alone = settings.batches == "equal" or settings.steps_per_round
        if settings.dp_epsilon and alone:
            make_plan(rows, settings)  # raises an error if the budget can't be kept here
    except FedbusError as error:
        return Work(problem=error.problem)
    return Work(rows.distinct, len(rows.index), rows.steps_per_round(settings) if alone else None)
