"""The folder of a site: settings, key pair, the certificate of the hub's CA, approvals, prepared data.

site.toml  site.key NAME.pub  ca.crt  approved.json
audit.jsonl audit.head
check.json  work/  cache/  answered/  released/  studies/  models/  node  site.log
(the last line is made when the site checks and joins)
"""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from clients.limits.limits import Limits
from clients.site.approvals import Approvals, approve_application, approve_study, read_approvals, withdraw
from clients.site.ca import read_ca_certificate
from clients.site.keys import fingerprint, make_key_pair, read_private_key
from fedbus.audit.log import AuditLog
from fedbus.datasets.registry import READERS
from fedbus.deployment.addresses import split_address
from fedbus.deployment.keys import public_line
from fedbus.deployment.private_folder import need_file, need_private_file, new_folder, read_bytes
from fedbus.deployment.settings_file import (
    FileSettings,
    Port,
    build_file_settings,
    parse_settings_file,
    read_settings_file,
    read_settings_file_text,
    replace_values,
    settings_file_text,
)
from fedbus.deployment.site_name import SiteName
from fedbus.errors import RunError, SettingsError
from fedbus.system.files import write_json, write_text

SETTINGS, APPROVED = "site.toml", "approved.json"

_REMEDY = "Restore it from a backup, or make a new site with `fedbus site init` and have its key approved."
_TITLE = "A FedBUS site. Join the hub again after a change."


class SiteSettings(FileSettings):
    """The settings in site.toml."""

    name: SiteName = Field(
        description="This site's name at the hub, in logs and in reports. The hub approved it together with the key."
    )
    hub: str = Field(description="HOST:PORT of the hub.")
    reader: str = Field("", description="Reader of the images; written by `fedbus site check --data`.")
    data: str = Field("", description="Folder of the images, absolute; written by `fedbus site check --data`.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Device to train on: cpu, cuda, or auto, which means a GPU if there is one."
    )
    runtime_port: Port = Field(
        9094,
        description="Port of Flower's SuperNode, only on 127.0.0.1; sites on the same machine need different ports.",
    )
    limits: Limits = Field(
        default_factory=lambda: Limits.model_validate({}),
        description="What this site refuses, whatever the hub's settings are. The hub's operator is shown a refusal, "
        "and `fedbus site join` prints it.",
    )

    @field_validator("hub")
    @classmethod
    def _check_hub(cls, value: str) -> str:
        split_address(value)
        return value

    @field_validator("reader")
    @classmethod
    def _check_reader(cls, value: str) -> str:
        if value and value not in READERS:
            raise ValueError(f"there is no reader {value!r}; readers are {', '.join(READERS)}")
        return value

    @field_validator("data")
    @classmethod
    def _check_data(cls, value: str) -> str:
        if value and not Path(value).is_absolute():
            raise ValueError(f"{value!r} is not an absolute path")
        return value

    @model_validator(mode="after")
    def _check_reader_and_data(self) -> Self:
        if bool(self.reader) != bool(self.data):
            raise ValueError("reader and data: set both or neither")
        return self


@dataclass(frozen=True)
class SiteFolder:
    """A site on disk.

    Attributes:
        path: The folder, absolute.
        settings: The settings in site.toml.
    """

    path: Path
    settings: SiteSettings

    @property
    def key(self) -> Path:
        """The private key, which never leaves this folder."""
        return self.path / "site.key"

    @property
    def public_key(self) -> Path:
        """The public key, which is sent to the hub."""
        return self.path / f"{self.settings.name}.pub"

    @property
    def ca_certificate(self) -> Path:
        """The certificate of the hub's CA."""
        return self.path / "ca.crt"

    @property
    def settings_file(self) -> Path:
        """The file of the settings."""
        return self.path / SETTINGS

    @property
    def work(self) -> Path:
        """Prepared data."""
        return self.path / "work"

    @property
    def cache(self) -> Path:
        """Decoded images."""
        return self.path / "cache"

    @property
    def answered(self) -> Path:
        """The splits for which the site has answered."""
        return self.path / "answered"

    @property
    def released(self) -> Path:
        """What the site has released of each training: never removed, so that no hub can make the site forget it."""
        return self.path / "released"

    @property
    def studies(self) -> Path:
        """The studies that the hub has asked about."""
        return self.path / "studies"

    @property
    def models(self) -> Path:
        """Models received from the hub."""
        return self.path / "models"

    @property
    def node(self) -> Path:
        """File of the number that the hub gave to this site; exists once the site has worked for the hub."""
        return self.path / "node"

    @property
    def log(self) -> Path:
        """Output of the site's processes."""
        return self.path / "site.log"

    @property
    def audit(self) -> AuditLog:
        """The audit log."""
        return AuditLog(self.path)

    def source(self) -> tuple[str, Path]:
        """Reader and folder of the images.

        Raises:
            SettingsError: If site.toml does not name them yet.
        """
        own = self.settings
        if not own.data:
            raise SettingsError(
                f"{self.settings_file} does not name the folder of {own.name}'s images.",
                f"Run: fedbus site check {shlex.quote(str(self.path))} --data READER=FOLDER",
            )
        return own.reader, Path(own.data)

    def approvals(self) -> Approvals:
        """Read which studies, and which applications for any study, may run here.

        Raises:
            RunError: As `clients.site.approvals.read_approvals`.
        """
        return read_approvals(self.path / APPROVED)

    def approve_any_study(self, application: str) -> None:
        """Allow an application to run any study here.

        Raises:
            RunError: As `clients.site.approvals.approve_application`.
        """
        approve_application(self.path / APPROVED, application)

    def approve_study(self, study: str, application: str) -> None:
        """Allow one study to run here.

        Raises:
            RunError: As `clients.site.approvals.approve_study`.
        """
        approve_study(self.path / APPROVED, study, application)

    def withdraw(self, digest: str) -> None:
        """No longer allow a study, or an application for any study, to run here.

        Raises:
            RunError: As `clients.site.approvals.withdraw`.
        """
        withdraw(self.path / APPROVED, digest)
        (self.studies / f"{digest}.json").unlink(missing_ok=True)  # it is shown again when the hub asks again

    def with_data(self, reader: str, data: Path) -> "SiteFolder":
        """Write reader and data folder (made absolute) into site.toml, whose comments and other settings are kept.

        Raises:
            SettingsError: If there is no such reader, or site.toml is malformed.
            RunError: If there is no such folder, or site.toml can't be written.
        """
        data = data.expanduser().resolve()
        if not data.is_dir():
            raise RunError(f"{data} is not a folder.", "Name the folder of the images.")
        text = read_settings_file_text(self.settings_file)
        changes = {"reader": reader, "data": str(data)}
        wanted = parse_settings_file(text, SiteSettings, self.settings_file).model_dump(by_alias=True) | changes
        settings = build_file_settings(SiteSettings, wanted, str(self.settings_file))
        write_text(self.settings_file, replace_values(text, changes))
        return SiteFolder(self.path, settings)


def init_site(path: Path, name: str, hub: str, ca: Path, *, runtime_port: int = 9094) -> SiteFolder:
    """Make a site's folder, readable only by its owner: key pair, certificate of the hub's CA, settings.

    Args:
        path: A new or an empty folder.
        name: The site's name.
        hub: HOST:PORT of the hub.
        ca: The hub's ca.crt.
        runtime_port: Port of Flower's SuperNode on this machine.

    Raises:
        SettingsError: If the name, hub or port is not valid.
        RunError: As `clients.site.ca.read_ca_certificate`; or if the folder is not empty or can't be written, and
            nothing incomplete is left.
    """
    settings = build_file_settings(
        SiteSettings, {"name": name, "hub": hub, "runtime-port": runtime_port}, "The new site"
    )
    site = SiteFolder(path.expanduser().resolve(), settings)
    ca_certificate = read_ca_certificate(ca.expanduser())
    with new_folder(site.path) as folder:
        make_key_pair(folder / site.key.name, folder / site.public_key.name, name)
        (folder / site.ca_certificate.name).write_bytes(ca_certificate)
        write_json(folder / APPROVED, [])
        AuditLog(folder).record("init", site=name, hub=hub, key=fingerprint(folder / site.key.name))
        (folder / SETTINGS).write_text(settings_file_text(settings, _TITLE), encoding="utf-8")
    return site


def open_site_folder(path: Path) -> SiteFolder:
    """Open a site's folder and check it.

    Raises:
        RunError: If it is not a site's folder, a file is missing, others can read the private key, or the public key
            does not belong to the private key and the site's name.
        SettingsError: If site.toml is malformed.
    """
    folder = path.expanduser().resolve()
    need_file(folder / SETTINGS, "Make a site with `fedbus site init`, or name a site's folder.")
    site = SiteFolder(folder, read_settings_file(folder / SETTINGS, SiteSettings))
    for file in (site.ca_certificate, folder / APPROVED):
        need_file(file, _REMEDY)
    need_private_file(site.key, _REMEDY)
    expected = public_line(read_private_key(site.key).public_key(), site.settings.name)
    need_file(
        site.public_key, f"If `name` was changed in {SETTINGS}, put the former name back, which the hub approved."
    )
    if read_bytes(site.public_key).strip() != expected.strip().encode():
        raise RunError(f"{site.public_key} is not the public key of {site.key} with this site's name.", _REMEDY)
    return site
