"""The sites that a hub has approved, in approved_sites.json of its folder."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from fedbus.deployment.private_folder import read_validated_json
from fedbus.deployment.site_name import SiteName
from fedbus.errors import RunError
from fedbus.settings.explain import explain
from fedbus.system.files import write_json
from fedbus.system.locks import hold
from server.hub.renamed_files import existing_file, remove_old_file

APPROVED_SITES = "approved_sites.json"

_OLD_NAME = "sites.json"

SMALLEST_NODE, LARGEST_NODE = 2, 2**64 - 1
"""Numbers that a hub may give to a site; 1 is Flower's own."""


def _check_utc(text: str) -> str:
    if datetime.fromisoformat(text).utcoffset() != timedelta(0):
        raise ValueError(f"{text!r} is not a time in UTC, such as 2026-01-31T12:00:00+00:00")
    return text


@dataclass(frozen=True)
class ApprovedSite:
    """A site that may take part.

    Attributes:
        name: The site's name.
        node: The number by which Flower knows its key, 1 to 2^64 - 1; the same at every start of the hub.
        key: SHA-256 fingerprint of its public key, as `ssh-keygen -lf` prints it.
        approved: Time of the approval, ISO 8601 in UTC.
        public_key: The key itself, `TYPE KEY`; empty for a site that was approved by version 0.1, until the
            hub is started again.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: SiteName
    node: Annotated[int, Field(strict=True, ge=1, lt=2**64)]
    key: Annotated[str, Field(pattern=r"^SHA256:[A-Za-z0-9+/]{43}$")]
    approved: Annotated[str, AfterValidator(_check_utc)]
    public_key: str = ""


def _check_distinct(sites: list[ApprovedSite]) -> list[ApprovedSite]:
    for key in ("name", "node", "key"):
        values = [getattr(site, key) for site in sites]
        for value in values:
            if values.count(value) > 1:
                raise ValueError(f"two sites have the {key} {value}")
    return sites


_LAYOUT: TypeAdapter[list[ApprovedSite]] = TypeAdapter(Annotated[list[ApprovedSite], AfterValidator(_check_distinct)])


def approved_sites_file(hub: Path) -> Path:
    """The file of approved sites in a hub's folder; under its old name until it is next written."""
    return existing_file(hub / APPROVED_SITES, _OLD_NAME)


def read_approved_sites(hub: Path) -> dict[str, ApprovedSite]:
    """Read the approved sites of a hub's folder, sorted by name.

    Raises:
        RunError: If the file is missing or damaged.
    """
    sites = read_validated_json(approved_sites_file(hub), _LAYOUT)
    return {site.name: site for site in sorted(sites, key=lambda site: site.name)}


def write_approved_sites(hub: Path, sites: Iterable[ApprovedSite]) -> None:
    """Write the approved sites, sorted by name.

    Raises:
        RunError: If a site is malformed, two share a name, node or key, or the file can't be written.
    """
    path = hub / APPROVED_SITES
    content = [asdict(site) for site in sorted(sites, key=lambda site: site.name)]
    try:
        _LAYOUT.validate_python(content)
    except ValidationError as error:
        raise RunError(
            f"{path} would not be valid: {explain(error)}.",
            "Check `fedbus hub status`. If a site has a new key, first run `fedbus hub revoke` for the old one.",
        ) from error
    write_json(path, content)
    remove_old_file(path, _OLD_NAME)


def lock_sites(hub: Path) -> AbstractContextManager[None]:
    """Let one process at a time change the approved sites of a hub's folder, or register them with Flower.

    Raises:
        RunError: If another process does, when the block is entered.
    """
    return hold(hub / ".sites", f"The sites of {hub} are being changed", "Try again when that has finished.")
