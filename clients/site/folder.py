"""The folder of a site: settings, key pair, the hub's authority, approved applications, prepared data.

site.toml  site.key NAME.pub  ca.crt  approved.json
work/  cache/  models/  site.log                                    (made when the site checks and joins)
"""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from clients.site.approved_apps import approve, read_approved, withdraw
from clients.site.ca import read_authority
from clients.site.keys import make_key_pair, read_private_key
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
from fedbus.errors import RunError, SettingsError
from fedbus.settings.schema import check_site_name
from fedbus.system.files import write_json, write_text

SETTINGS, APPROVED = "site.toml", "approved.json"

_REMEDY = "Restore it from a backup, or make a new site with `fedbus site init` and have its key approved."
_TITLE = "A site of FedBUS. Join the hub again after a change."


class SiteSettings(FileSettings):
    """What site.toml says."""

    name: str = Field(
        description="This site's name at the hub, in logs and in reports. The hub approved it with the key."
    )
    hub: str = Field(description="HOST:PORT of the hub.")
    reader: str = Field("", description="Which reader understands the data; written by `fedbus site check --data`.")
    data: str = Field("", description="Folder of the data, absolute; written by `fedbus site check --data`.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where training runs: cpu, cuda, or auto, which takes a GPU if there is one."
    )
    runtime_port: Port = Field(
        9094, description="Port of Flower's SuperNode, on 127.0.0.1 only; each site on one machine needs its own."
    )

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        try:
            check_site_name(value)
        except ValueError as error:
            raise ValueError(str(error).removeprefix("sites: ")) from error
        return value

    @field_validator("hub")
    @classmethod
    def _hub(cls, value: str) -> str:
        split_address(value)
        return value

    @field_validator("reader")
    @classmethod
    def _reader(cls, value: str) -> str:
        if value and value not in READERS:
            raise ValueError(f"there is no reader {value!r}; readers are {', '.join(READERS)}")
        return value

    @field_validator("data")
    @classmethod
    def _data(cls, value: str) -> str:
        if value and not Path(value).is_absolute():
            raise ValueError(f"{value!r} is not an absolute path")
        return value

    @model_validator(mode="after")
    def _reader_with_data(self) -> Self:
        if bool(self.reader) != bool(self.data):
            raise ValueError("reader and data: both or neither must be named")
        return self


@dataclass(frozen=True)
class SiteFolder:
    """A site on disk.

    Attributes:
        path: the folder, absolute.
        settings: what site.toml says.
    """

    path: Path
    settings: SiteSettings

    @property
    def key(self) -> Path:
        """The private key; it never leaves this folder."""
        return self.path / "site.key"

    @property
    def public_key(self) -> Path:
        """The public key, which goes to the hub."""
        return self.path / f"{self.settings.name}.pub"

    @property
    def ca_certificate(self) -> Path:
        """The certificate of the hub's authority."""
        return self.path / "ca.crt"

    @property
    def settings_file(self) -> Path:
        """The settings."""
        return self.path / SETTINGS

    @property
    def work(self) -> Path:
        """Prepared data."""
        return self.path / "work"

    @property
    def cache(self) -> Path:
        """Decoded pictures."""
        return self.path / "cache"

    @property
    def models(self) -> Path:
        """Models received from the hub."""
        return self.path / "models"

    @property
    def node(self) -> Path:
        """The number that the hub knows this site by, once it has been told."""
        return self.path / "node"

    @property
    def log(self) -> Path:
        """What the site's processes print."""
        return self.path / "site.log"

    def source(self) -> tuple[str, Path]:
        """Reader and folder of the images.

        Raises:
            SettingsError: nobody has said yet where they are.
        """
        own = self.settings
        if not own.data:
            raise SettingsError(
                f"{self.path} does not say where {own.name}'s images are.",
                f"Run: fedbus site check {shlex.quote(str(self.path))} --data READER=FOLDER",
            )
        return own.reader, Path(own.data)

    def approved(self) -> tuple[str, ...]:
        """Digests (SHA-256, 64 hexadecimal digits) of the applications that may run here, in order of approval.

        Raises:
            RunError: as `clients.site.approved_apps.read_approved`.
        """
        return read_approved(self.path / APPROVED)

    def approve(self, digest: str) -> None:
        """Let an application run here.

        Raises:
            RunError: as `clients.site.approved_apps.approve`.
        """
        approve(self.path / APPROVED, digest)

    def withdraw(self, digest: str) -> None:
        """Let an application run here no longer.

        Raises:
            RunError: as `clients.site.approved_apps.withdraw`.
        """
        withdraw(self.path / APPROVED, digest)

    def with_data(self, reader: str, data: Path) -> "SiteFolder":
        """Write reader and data folder (made absolute) into site.toml; comments and other settings there stay.

        Raises:
            SettingsError: there is no such reader, or site.toml is malformed.
            RunError: there is no such folder, or site.toml can't be written.
        """
        data = data.expanduser().resolve()
        if not data.is_dir():
            raise RunError(f"{data} is no folder.", "Name the folder in which the archive lies.")
        text = read_settings_file_text(self.settings_file)
        changes = {"reader": reader, "data": str(data)}
        wanted = parse_settings_file(text, SiteSettings, self.settings_file).model_dump(by_alias=True) | changes
        settings = build_file_settings(SiteSettings, wanted, str(self.settings_file))
        write_text(self.settings_file, replace_values(text, changes))
        return SiteFolder(self.path, settings)


def init_site(path: Path, name: str, hub: str, ca: Path, *, runtime_port: int = 9094) -> SiteFolder:
    """Make a site's folder, for its owner alone: key pair, the hub's authority, settings.

    Args:
        path: a new or an empty folder.
        name: the site's.
        hub: HOST:PORT.
        ca: the hub's ca.crt.
        runtime_port: where Flower's SuperNode listens on this machine.

    Raises:
        SettingsError: name, hub or port can't be used.
        RunError: as `clients.site.ca.read_authority`; or the folder holds something or can't be written, and nothing
            half-made is left.
    """
    settings = build_file_settings(
        SiteSettings, {"name": name, "hub": hub, "runtime-port": runtime_port}, "The new site"
    )
    site = SiteFolder(path.expanduser().resolve(), settings)
    authority = read_authority(ca.expanduser())
    with new_folder(site.path) as folder:
        make_key_pair(folder / site.key.name, folder / site.public_key.name, name)
        (folder / site.ca_certificate.name).write_bytes(authority)
        write_json(folder / APPROVED, [])
        (folder / SETTINGS).write_text(settings_file_text(settings, _TITLE), encoding="utf-8")
    return site


def open_site_folder(path: Path) -> SiteFolder:
    """Open a site's folder and check it.

    Raises:
        RunError: it holds no site, a file is missing, others can read the private key, or the public key is not of this
            private key and this name.
        SettingsError: site.toml is malformed.
    """
    folder = path.expanduser().resolve()
    need_file(folder / SETTINGS, "Make a site with `fedbus site init`, or name the folder of one.")
    site = SiteFolder(folder, read_settings_file(folder / SETTINGS, SiteSettings))
    for file in (site.ca_certificate, folder / APPROVED):
        need_file(file, _REMEDY)
    need_private_file(site.key, _REMEDY)
    expected = public_line(read_private_key(site.key).public_key(), site.settings.name)
    need_file(
        site.public_key, f"If `name` was changed in {SETTINGS}, put the former name back: the hub approved that one."
    )
    if read_bytes(site.public_key).strip() != expected.strip().encode():
        raise RunError(f"{site.public_key} is not the public half of {site.key} under this site's name.", _REMEDY)
    return site
