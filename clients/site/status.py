"""`fedbus site status`: whether this site is joined, and which models it has received."""

import shlex

from rich.console import Console
from rich.text import Text

from clients.next_step import next_step
from clients.site.folder import SiteFolder
from clients.site.hub_contact import ask_hub
from clients.site.lock import is_held
from clients.site.studies import describe_briefly, read_pending, read_request
from fedbus.reports import wording
from fedbus.system.files import read_json
from fedbus.system.terminal import BAD, GOOD, QUIET, plain_table


def print_status(site: SiteFolder, console: Console) -> None:
    """Print the site's settings, whether it is joined, and the received models with their metrics at this site.

    Raises:
        RunError, SettingsError: If the folder is damaged.
    """
    own = site.settings
    console.print(Text.assemble((own.name, "bold"), f"  (hub: {own.hub})"))
    console.print(_connection(site), soft_wrap=True)
    images = f"{own.data} (reader: {own.reader})" if own.data else "not set; run: fedbus site check --data"
    console.print(Text(f"Images: {images}"), soft_wrap=True)
    print_studies(site, console)
    received = sorted(site.models.glob("*/metrics.json"), key=lambda path: path.stat().st_mtime)
    if not received:
        console.print("No model received yet.")
        return
    table = plain_table("Received model", "accuracy", "macro F1", "AUC")
    for path in received:
        metrics = read_json(path)
        figures = [wording.with_interval(metrics[name]) for name in ("accuracy", "macro_f1", "auc")]
        table.add_row(Text(str(path.parent)), *figures)
    console.print(table)
    if usable := next_step(received[-1].parent, own.name):
        console.print(Text(usable), soft_wrap=True)


def print_studies(site: SiteFolder, console: Console) -> None:
    """Print which studies may run here, and which wait for an approval.

    Raises:
        RunError: If a file is damaged.
    """
    approvals = site.approvals()
    pending = read_pending(site.studies, approvals.digests)
    for application in approvals.applications:
        _print_digest(console, "Approved for ANY study, application", application)
    for each in approvals.studies:
        stored = (site.studies / f"{each.study}.json").is_file()
        words = describe_briefly(read_request(site.studies, each.study)) if stored else ""
        _print_digest(console, f"Study approved on {each.approved[:10]}", each.study, words)
    if not approvals.digests:
        console.print("Approved studies: none")
    for request in pending:
        _print_digest(console, "Study that waits for approval", request.study.digest, describe_briefly(request))
    if pending:
        where = shlex.quote(str(site.path))
        console.print(Text(f"To see it and to allow it: fedbus site approve {where} DIGEST"), soft_wrap=True)


def _print_digest(console: Console, what: str, digest: str, words: str = "") -> None:
    console.print(Text(f"{what}:"), soft_wrap=True)
    console.print(Text(f"  {digest}"), soft_wrap=True)  # a line of its own, so that it can be copied at 80 columns
    if words:
        console.print(Text(f"  {words}", style=QUIET), soft_wrap=True)


def _connection(site: SiteFolder) -> Text:
    # A joined site does not ask the hub: its key can be used by one process at a time.
    if is_held(site):
        return Text("joined: a process on this machine is connected to the hub", style=GOOD)
    contact = ask_hub(site)
    if contact.problem:
        return Text(f"not joined; {contact.problem}", style=BAD)
    return Text(f"not joined; the hub accepts this site: fedbus site join {site.path}", style=GOOD)
