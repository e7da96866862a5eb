"""The folder of a hub: settings, certificates, the sites that are approved, and what Flower keeps.

hub.toml  ca.crt ca.key  server.crt server.key  approved_sites.json  flower/config.toml
state.db  hub.log  runs/                                            (made when the hub runs)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import Field, TypeAdapter, field_validator, model_validator

from fedbus.deployment.addresses import check_host
from fedbus.deployment.private_folder import need_file, need_private_file, new_folder, read_json, write_private
from fedbus.deployment.settings_file import (
    FileSettings,
    Port,
    build_file_settings,
    read_settings_file,
    settings_file_text,
    toml_value,
)
from fedbus.errors import RunError
from fedbus.system.files import write_json, write_text
from server.hub.approved_sites import ApprovedSite, approved_sites_file, read_approved_sites, write_approved_sites
from server.hub.certificates import certificate_end, check_server_certificate, make_authority, make_certificate

__all__ = ["ApprovedSite", "HubFolder", "HubSettings", "init_hub", "open_hub"]

SETTINGS, REVOKED, CONNECTIONS = "hub.toml", "revoked.json", "config.toml"

_REMEDY = "Restore it from a backup, or make a new hub with `fedbus hub init DIR --host NAME`."


class HubSettings(FileSettings):
    """What hub.toml says."""

    host: str = Field(
        description="Name or address under which sites reach this hub. It stands in server.crt: "
        "another one needs a new hub."
    )
    listen: str = Field("0.0.0.0", description="Address of this machine at which sites are awaited; 0.0.0.0: all.")
    port: Port = Field(9092, description="Port to which sites connect; let it through the firewall.")
    superlink_port: Port = Field(
        9093, description="Port of Flower's SuperLink, on 127.0.0.1 only; never let it through a firewall."
    )

    @field_validator("host")
    @classmethod
    def _host(cls, value: str) -> str:
        check_host(value)
        return value

    @field_validator("listen")
    @classmethod
    def _listen(cls, value: str) -> str:
        if value not in ("0.0.0.0", "::"):
            check_host(value)
        return value

    @model_validator(mode="after")
    def _two_ports(self) -> Self:
        if self.port == self.superlink_port:
            raise ValueError(f"superlink-port: {self.port} is the port of the sites; choose another")
        return self


@dataclass(frozen=True)
class HubFolder:
    """A hub on disk.

    Attributes:
        path: the folder, absolute.
        settings: what hub.toml says.
    """

    path: Path
    settings: HubSettings

    @property
    def ca_certificate(self) -> Path:
        """The authority's certificate, which every site needs: no secret."""
        return self.path / "ca.crt"

    @property
    def ca_key(self) -> Path:
        """The authority's private key; running needs it never, so it may be kept elsewhere."""
        return self.path / "ca.key"

    @property
    def certificate(self) -> Path:
        """The server's certificate."""
        return self.path / "server.crt"

    @property
    def key(self) -> Path:
        """The server's private key."""
        return self.path / "server.key"

    @property
    def database(self) -> Path:
        """Flower's database."""
        return self.path / "state.db"

    @property
    def flower(self) -> Path:
        """Flower's home (FLWR_HOME)."""
        return self.path / "flower"

    @property
    def runs(self) -> Path:
        """Run folders."""
        return self.path / "runs"

    @property
    def log(self) -> Path:
        """What the hub's processes print."""
        return self.path / "hub.log"

    def sites(self) -> dict[str, ApprovedSite]:
        """The approved sites by name, sorted.

        Raises:
            RunError: approved_sites.json is missing or damaged.
        """
        return read_approved_sites(self.path)

    def add_site(self, site: ApprovedSite) -> None:
        """Approve a site.

        Raises:
            RunError: its name, node or key is taken or malformed, or approved_sites.json can't be read or written.
        """
        write_approved_sites(self.path, [*self.sites().values(), site])

    def remove_site(self, name: str) -> None:
        """Withdraw a site's approval; its key goes into the list of those that Flower will not take again.

        Raises:
            RunError: no site of that name is approved, or approved_sites.json can't be read or written.
        """
        sites = self.sites()
        if name not in sites:
            raise RunError(
                f"No site called {name} is approved at {self.path}.", f"Name one of: {', '.join(sites) or 'none yet'}."
            )
        write_json(self.path / REVOKED, sorted({*self.revoked(), sites[name].key}))
        write_approved_sites(self.path, (site for site in sites.values() if site.name != name))

    def revoked(self) -> list[str]:
        """Fingerprints of the keys that were revoked.

        Raises:
            RunError: revoked.json is damaged.
        """
        path = self.path / REVOKED
        return read_json(path, TypeAdapter(list[str])) if path.is_file() else []


def init_hub(
    path: Path, host: str, *, names: Sequence[str] = (), port: int = 9092, superlink_port: int = 9093
) -> HubFolder:
    """Make a hub's folder, for its owner alone: authority, server certificate, settings, Flower's connection.

    Args:
        path: a new or an empty folder.
        host: name or address under which sites reach the hub.
        names: further ones, which the server certificate then holds, too.
        port: where sites connect.
        superlink_port: where Flower's SuperLink listens on this machine.

    Raises:
        SettingsError: a name or port can't be used.
        RunError: the folder holds something or can't be written; nothing half-made is left.
    """
    values = {"host": host, "port": port, "superlink-port": superlink_port}
    settings = build_file_settings(HubSettings, values, "The new hub")
    for name in names:
        build_file_settings(HubSettings, values | {"host": name}, "The new hub's further names")
    hub = HubFolder(path.expanduser().resolve(), settings)
    config = _flower_config(hub)
    with new_folder(hub.path) as folder:
        authority = make_authority(host)
        server = make_certificate(authority, (host, *names, "localhost", "127.0.0.1", "::1"))
        (folder / hub.ca_certificate.name).write_bytes(authority.certificate_pem)
        write_private(folder / hub.ca_key.name, authority.key_pem)
        (folder / hub.certificate.name).write_bytes(server.certificate_pem)
        write_private(folder / hub.key.name, server.key_pem)
        write_approved_sites(folder, ())
        (folder / hub.flower.name).mkdir()
        (folder / hub.flower.name / CONNECTIONS).write_text(config, encoding="utf-8")
        (folder / SETTINGS).write_text(settings_file_text(settings, _title(folder, hub)), encoding="utf-8")
    return hub


def open_hub(path: Path) -> HubFolder:
    """Open a hub's folder and check it; Flower's connection is brought up to date with folder and port.

    Raises:
        RunError: it holds no hub, a file is missing, others can read a private key, or the server certificate is not
            of its key, its authority and its host.
        SettingsError: hub.toml is malformed.
    """
    folder = path.expanduser().resolve()
    need_file(folder / SETTINGS, "Make a hub with `fedbus hub init DIR --host NAME`, or name the folder of one.")
    hub = HubFolder(folder, read_settings_file(folder / SETTINGS, HubSettings))
    for file in (hub.ca_certificate, hub.certificate, approved_sites_file(hub.path)):
        need_file(file, _REMEDY)
    need_private_file(hub.key, _REMEDY)
    if hub.ca_key.exists():
        need_private_file(hub.ca_key, _REMEDY)
    check_server_certificate(hub.certificate, hub.key, hub.ca_certificate, hub.settings.host)
    connections, config = hub.flower / CONNECTIONS, _flower_config(hub)
    if not connections.is_file() or connections.read_text(encoding="utf-8") != config:
        write_text(connections, config)
    return hub


def _flower_config(hub: HubFolder) -> str:
    """The connection `hub` of Flower's command line, whose home is `hub.flower`."""
    return (
        f"# Written by FedBUS from ../{SETTINGS}; changes here are lost.\n"
        '[superlink]\ndefault = "hub"\n\n'
        f'[superlink.hub]\naddress = "127.0.0.1:{hub.settings.superlink_port}"\n'
        f"root-certificates = {toml_value(str(hub.ca_certificate))}\n"
    )


def _title(draft: Path, hub: HubFolder) -> str:
    server, authority = (certificate_end(draft / file.name) for file in (hub.certificate, hub.ca_certificate))
    return (
        "A hub of FedBUS. Start it again after a change.\n"
        f"server.crt is valid until {server:%Y-%m-%d}.\n"
        f"ca.crt is valid until {authority:%Y-%m-%d}. After either day sites refuse this hub.\n"
        "ca.key can make certificates that sites trust. The hub runs without it: keep it off this machine if you can."
    )
