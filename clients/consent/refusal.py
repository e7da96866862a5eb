"""Whether a site works for a message: only for studies that its operator has approved, with the installed application.

The study is computed from the message itself. A digest that the hub states plays no part.
"""

from collections.abc import Callable

from flwr.app import Error, Message

from clients.flower_internals import ErrorCode, Fab
from clients.site.folder import SiteFolder
from clients.site.keys import fingerprint
from clients.site.studies import MOST_PENDING, StudyRequest, check_size, record_request
from fedbus.deployment.application import NOT_ALLOWED, OTHER_VERSION, differing_files, digest_of
from fedbus.errors import RunError
from fedbus.text import plain_text
from fedbus.transport.messages import CONFIG, Instruction
from fedbus.transport.study import Study

Log = Callable[[str], object]

OTHER_VERSION_REASON = "another version of FedBUS is installed there"


class Consent:
    """Decides for every message whether the site works for it.

    Args:
        site: The site's folder.
        installed: The installed application, as returned by `installed_files`.
        log: Called with the reason for a refusal and what the operator can do.
    """

    def __init__(self, site: SiteFolder, installed: dict[str, str], log: Log) -> None:
        self.site, self.installed, self.log = site, installed, log
        self.announced: set[str] = set()

    def refusal_of(self, bundle: Fab, message: Message) -> Error | None:
        """Return the error that is sent to the hub, or None if the site works for the message.

        Args:
            bundle: The application that the hub runs.
            message: What it asks for.
        """
        application = digest_of(bundle.content)
        if application not in self.site.approvals().applications:
            refusal = self._refusal_of_study(application, bundle, message)
            if refusal is not None:
                return refusal
        differing = differing_files(bundle.content, self.installed)
        if differing:
            name = plain_text(differing[0])
            self.log(f"application {application} is approved, but {len(differing)} files differ here, such as {name}")
            self.log("install the hub's version of FedBUS here")
            return Error(OTHER_VERSION, OTHER_VERSION_REASON)
        return None

    def _refusal_of_study(self, application: str, bundle: Fab, message: Message) -> Error | None:
        try:
            study = Study.of_instruction(application, Instruction.from_config(message.content[CONFIG]))
            check_size(study)
        except Exception as error:  # what another version or a hostile hub sends raises anything
            return self._unreadable(application, bundle, error)
        own = self.site.settings.name
        if study.sites.get(own) != fingerprint(self.site.key):
            self.log(f"the hub sent a study whose list of sites does not have {own} with this key")
            return Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "is not listed with its key among the study's sites")
        approvals = self.site.approvals()
        if approvals.allow(application, study.digest):
            return None
        installed = not differing_files(bundle.content, self.installed)
        approved = {each.study for each in approvals.studies}
        try:
            record_request(self.site.studies, StudyRequest(study, installed), approved)
            self._announce(study.digest)
        except RunError as error:  # the disk is full; the hub asks again
            self.log(str(error))
        return Error(NOT_ALLOWED, f"its operator has not approved study {study.digest[:16]} yet")

    def _unreadable(self, application: str, bundle: Fab, error: Exception) -> Error:
        self.log(f"the hub sent a study of application {application} that can't be read: {plain_text(error)}")
        if differing_files(bundle.content, self.installed):
            self.log("install the hub's version of FedBUS here")
            return Error(OTHER_VERSION, OTHER_VERSION_REASON)
        return Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, f"{type(error).__name__}; see the site's own log")

    def _announce(self, digest: str) -> None:
        """Log a new study once; a hub that sends very many can't fill the operator's terminal."""
        if digest in self.announced or len(self.announced) > MOST_PENDING:
            return
        self.announced.add(digest)
        if len(self.announced) > MOST_PENDING:
            self.log(
                f"the hub sent more than {MOST_PENDING} studies that are not approved here; more are not announced"
            )
            self.log(f"the last {MOST_PENDING} are stored: fedbus site status {self.site.path}")
            return
        self.log(f"the hub wants to run study {digest}, which is not approved here")
        self.log(f"to see and to allow it: fedbus site approve {self.site.path} {digest}")
