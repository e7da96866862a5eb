"""Checks of a site's hub: whether it answers, the clocks agree, the key is approved, and which studies may run here."""

from clients.check.results import CheckResult
from clients.flower_internals import MAX_TIMESTAMP_DIFF_SECONDS, MIN_TIMESTAMP_DIFF_SECONDS
from clients.site.folder import SiteFolder
from clients.site.hub_contact import Contact, ask_hub
from clients.site.lock import is_held
from fedbus.errors import RunError

MAX_AHEAD, MAX_BEHIND = -MIN_TIMESTAMP_DIFF_SECONDS, MAX_TIMESTAMP_DIFF_SECONDS
"""Seconds: Flower refuses a request from a clock that is further ahead of the hub's, or further behind."""

WARN_AHEAD = 2.0
"""Seconds; the hub's answer gives its time in whole seconds, so up to one second of this may be rounding."""

WARN_BEHIND = 60.0
"""Seconds, of the 305 that Flower accepts: a clock this far behind is drifting and will soon be too far."""

_SET_CLOCK = "Set this machine's clock, preferably with a time service (NTP)."


def check_hub(site: SiteFolder) -> list[CheckResult]:
    """Check the hub, unless the site is joined: two processes can't use its key at the same time."""
    studies = _studies(site)
    if is_held(site):
        found = "not asked: the site is joined and its key is in use"
        return [CheckResult("Hub", "warn", found, "End `fedbus site join` to check this."), studies]
    try:
        contact = ask_hub(site)
    except RunError as error:  # ca.crt is damaged or has expired
        return [CheckResult("Hub", "fail", _without_folder(error.problem, site), error.remedy), studies]
    clock = _clock(contact)
    return [_connection(contact, site), clock, _key(contact, clock, site), studies]


def _connection(contact: Contact, site: SiteFolder) -> CheckResult:
    if contact.answers:
        return CheckResult("Hub", "pass", f"{site.settings.hub} answers, with a certificate of its CA")
    if contact.wrong_ca:
        remedy = (
            "Do not join. Get ca.crt from the coordinator again, in a way that you trust, and check hub in site.toml."
        )
    else:
        remedy = "Ask whether the hub is running, check hub in site.toml, and allow the connection in the firewall."
    return CheckResult("Hub", "fail", _without_folder(contact.problem, site), remedy)


def _clock(contact: Contact) -> CheckResult:
    skew = contact.skew
    if skew is None:
        return CheckResult(
            "Clock", "warn", "not compared, because the hub's time is unknown", "Fix the connection to the hub first."
        )
    found = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the hub's"
    limits = f"; the hub refuses more than {MAX_AHEAD} s ahead or {MAX_BEHIND} s behind"
    if skew > MAX_AHEAD or skew < -MAX_BEHIND:
        return CheckResult("Clock", "fail", found + limits, _SET_CLOCK)
    if skew > WARN_AHEAD or skew < -WARN_BEHIND:
        return CheckResult("Clock", "warn", found + limits, _SET_CLOCK)
    return CheckResult("Clock", "pass", found if abs(skew) >= 1 else "agrees with the hub's")


def _key(contact: Contact, clock: CheckResult, site: SiteFolder) -> CheckResult:
    """Check the key. With a wrong clock, Flower refuses even an approved key, so a refusal tells nothing about it."""
    if contact.approved and contact.problem:
        return CheckResult("Key", "warn", contact.problem, "Check again in a minute.")
    if contact.approved:
        return CheckResult("Key", "pass", f"approved as {site.settings.name}")
    if not contact.answers:
        return CheckResult(
            "Key", "warn", "not asked, because the hub does not answer", "Fix the connection to the hub first."
        )
    if clock.verdict == "fail" or contact.approved is None:
        why = "because of the clock" if clock.verdict != "pass" else _without_folder(contact.problem, site)
        return CheckResult("Key", "warn", f"unknown: {why}", "Fix that, or wait a minute, then check again.")
    remedy = f"Send {site.public_key.name} (never site.key) to the coordinator, who approves it at the hub."
    return CheckResult("Key", "fail", "the hub does not know this site's key", remedy)


def _studies(site: SiteFolder) -> CheckResult:
    try:
        approvals = site.approvals()
    except RunError as error:
        return CheckResult("Studies", "fail", _without_folder(error.problem, site), error.remedy)
    if not approvals.digests:
        remedy = "Join, wait until the hub asks, then approve the study: fedbus site approve DIR DIGEST."
        return CheckResult("Studies", "warn", "none is approved, so nothing can run here", remedy)
    studies = [f"study {each.study[:12]}…" for each in approvals.studies]
    unseen = [f"any study of application {digest[:12]}…" for digest in approvals.applications]
    return CheckResult("Studies", "pass", f"approved: {', '.join([*unseen, *studies])}")


def _without_folder(text: str, site: SiteFolder) -> str:
    """Remove the site's folder from a text that may leave the site."""
    return text.replace(f"{site.path}/", "")
