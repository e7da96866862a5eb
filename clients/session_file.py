"""What a site remembers of secure sums: the session that it takes part in, and which sums it has unmasked.

    WORK/secure-sums/SITE.json   the session, with its secrets; a new session replaces it
    unmasked.json                by purpose and round, the sites of the sum; in the folder of `clients.released`

They are files and not in Flower's context: the worker fetches messages in parallel threads, each with the context of
that moment, so two requests that arrive together would both find that the site has not answered yet. Here each is
answered after the state of the one before has been written.
"""

from collections.abc import Sequence
from pathlib import Path

from clients.released import released_folder
from clients.workspace import Workspace
from fedbus.errors import RunError
from fedbus.secure_aggregation.site_session import SiteSession
from fedbus.secure_aggregation.terms import SessionTerms
from fedbus.secure_aggregation.unmasked_sums import remember_sum
from fedbus.system.files import make_private_folder, write_whole
from fedbus.transport.messages import Instruction


def load_session(workspace: Workspace, session: str) -> SiteSession:
    """Read the session that the site takes part in.

    Raises:
        RunError: If it takes part in no such session, or the file is damaged.
    """
    path = _session_file(workspace)
    found = SiteSession.from_bytes(path.read_bytes()) if path.is_file() else None
    if found is None or found.terms.session != session:
        raise RunError(
            "This site does not take part in that secure sum.", "Rerun with --resume: the round is repeated."
        )
    return found


def is_known(workspace: Workspace, session: str) -> bool:
    """Whether the site takes part in a session."""
    try:
        load_session(workspace, session)
    except RunError:  # it is another one, or damaged: a new session replaces it, with fresh keys
        return False
    return True


def save_session(workspace: Workspace, session: SiteSession) -> None:
    """Write the state of a session; call it before the reply leaves the site.

    Raises:
        RunError: If the file can't be written.
    """
    path = _session_file(workspace)
    make_private_folder(path.parent)
    write_whole(path, lambda temporary: temporary.write_bytes(session.to_bytes()))


def record_unmasked(
    workspace: Workspace, instruction: Instruction, terms: SessionTerms, survivors: Sequence[str]
) -> None:
    """Record which sites' sum of a round is unmasked; call it before the reply leaves the site.

    Raises:
        RunError: If the site has unmasked the sum of other sites in this round, in whatever session or run; or the
            file is damaged or can't be written.
    """
    path = released_folder(workspace, instruction) / "unmasked.json"
    record = remember_sum(path.read_bytes() if path.is_file() else b"", terms, survivors)
    write_whole(path, lambda temporary: temporary.write_bytes(record))


def _session_file(workspace: Workspace) -> Path:
    return workspace.folder / "secure-sums" / f"{workspace.name}.json"
