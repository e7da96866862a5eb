"""Findings on a site's hub: does it answer, do the clocks agree, is the key approved, what may run here."""

from clients.check.findings import Finding, count
from clients.flower_internals import MAX_TIMESTAMP_DIFF_SECONDS, MIN_TIMESTAMP_DIFF_SECONDS
from clients.site.ca import read_authority
from clients.site.folder import SiteFolder
from clients.site.hub_contact import MOST_SKEW_SECONDS, Contact, ask_hub
from clients.site.lock import is_held
from fedbus.errors import RunError

MOST_AHEAD, MOST_BEHIND = -MIN_TIMESTAMP_DIFF_SECONDS, MAX_TIMESTAMP_DIFF_SECONDS
"""Seconds: Flower refuses a request from a clock that is further ahead of the hub's, or behind it."""

WARN_AHEAD = 2.0
"""The hub's answer gives its time in whole seconds, so up to one of these may be rounding."""

_SET_CLOCK = "Set this machine's clock, best by a time service (NTP)."


def hub_findings(site: SiteFolder) -> list[Finding]:
    """Ask the hub, unless the site has joined: its key must not be used twice at a time."""
    if is_held(site):
        words = "not asked: the site is joined and its key is in use"
        return [Finding("Hub", "warn", words, "Leave the hub first to check this."), _applications(site)]
    try:
        read_authority(site.ca_certificate)
    except RunError as error:
        return [Finding("Hub", "fail", _without_folder(error.problem, site), error.remedy), _applications(site)]
    contact = ask_hub(site)
    clock = _clock(contact)
    return [_answers(contact, site), clock, _key(contact, clock, site), _applications(site)]


def _answers(contact: Contact, site: SiteFolder) -> Finding:
    hub = site.settings.hub
    if contact.answers:
        return Finding("Hub", "pass", f"{hub} answers, with a certificate of its authority")
    problem = _without_folder(contact.problem, site)
    if contact.wrong_authority:
        remedy = (
            "Do not join. Ask the coordinator for ca.crt again, by a way that you trust, and check hub in site.toml."
        )
    else:
        remedy = "Ask whether the hub runs, check hub in site.toml, and have the firewall let this machine reach it."
    return Finding("Hub", "fail", problem, remedy)


def _clock(contact: Contact) -> Finding:
    skew = contact.skew
    if skew is None:
        return Finding("Clock", "warn", "not compared, because the hub told no time", "Mend the hub's line first.")
    found = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the hub's"
    limits = f"; the hub refuses over {MOST_AHEAD} s ahead or {MOST_BEHIND} s behind"
    if skew > MOST_AHEAD or skew < -MOST_BEHIND:
        return Finding("Clock", "fail", found + limits, _SET_CLOCK)
    if skew > WARN_AHEAD or skew < -MOST_SKEW_SECONDS:
        return Finding("Clock", "warn", found + limits, _SET_CLOCK)
    return Finding("Clock", "pass", found if abs(skew) >= 1 else "agrees with the hub's")


def _key(contact: Contact, clock: Finding, site: SiteFolder) -> Finding:
    """A clock that is off makes Flower refuse an approved key, too: then a refusal says nothing about the key."""
    if contact.approved and contact.problem:
        return Finding("Key", "warn", contact.problem, "Check again in a minute.")
    if contact.approved:
        return Finding("Key", "pass", f"approved as {site.settings.name}")
    if not contact.answers:
        return Finding("Key", "warn", "not asked, because the hub does not answer", "Mend the hub's line first.")
    if clock.verdict == "fail" or contact.approved is None:
        why = "because of the clock" if clock.verdict != "pass" else _without_folder(contact.problem, site)
        return Finding("Key", "warn", f"not known: {why}", "Mend that, or wait a minute, and check again.")
    remedy = f"Send {site.public_key.name} (never site.key) to the coordinator, who approves it at the hub."
    return Finding("Key", "fail", "the hub does not know this site's key", remedy)


def _applications(site: SiteFolder) -> Finding:
    try:
        approved = site.approved()
    except RunError as error:
        return Finding("Application", "fail", _without_folder(error.problem, site), error.remedy)
    if not approved:
        remedy = "Approve what `fedbus hub run` shows the coordinator: fedbus site approve DIR DIGEST."
        return Finding("Application", "warn", "none is approved, so nothing can run here", remedy)
    digests = ", ".join(f"{digest[:12]}…" for digest in approved)
    return Finding("Application", "pass", f"{count(len(approved), 'digest')} approved: {digests}")


def _without_folder(text: str, site: SiteFolder) -> str:
    return text.replace(f"{site.path}/", "")
