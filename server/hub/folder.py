"""The folder of a hub: settings, certificates, approved sites, and Flower's files.

hub.toml  ca.crt ca.key  server.crt server.key  approved_sites.json  flower/config.toml
audit.jsonl  audit.head
revoked.json  hub.log  application/  runs/  exchange/     (made when the hub runs)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import Field, TypeAdapter, field_validator, model_validator

from fedbus.audit.log import AuditLog
from fedbus.deployment.addresses import check_host
from fedbus.deployment.private_folder import (
    need_file,
    need_private_file,
    new_folder,
    read_validated_json,
    write_private,
)
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
from fedbus.transport.stored_arrays import FOLDER
from server.hub.approved_sites import ApprovedSite, approved_sites_file, read_approved_sites, write_approved_sites
from server.hub.certificate_files import install_renewed
from server.hub.certificates import (
    check_server_certificate,
    fingerprint_of_certificate,
    make_ca,
    make_server_certificate,
    read_expiry,
)

SETTINGS, REVOKED, CONNECTIONS = "hub.toml", "revoked.json", "config.toml"

_REMEDY = "Restore it from a backup, or make a new hub with `fedbus hub init DIR --host NAME`."


class HubSettings(FileSettings):
    """The settings in hub.toml."""

    host: str = Field(
        description="Name or address under which sites reach this hub. It is in server.crt: "
        "for another one, make a new hub."
    )
    listen: str = Field("0.0.0.0", description="Address of this machine to listen on; 0.0.0.0 means all.")
    port: Port = Field(9092, description="Port to which sites connect; open it in the firewall.")
    superlink_port: Port = Field(
        9093, description="Port of Flower's SuperLink, only on 127.0.0.1; never open it in a firewall."
    )

    @field_validator("host")
    @classmethod
    def _check_host(cls, value: str) -> str:
        check_host(value)
        return value

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, value: str) -> str:
        if value not in ("0.0.0.0", "::"):
            check_host(value)
        return value

    @model_validator(mode="after")
    def _check_ports(self) -> Self:
        if self.port == self.superlink_port:
            raise ValueError(f"superlink-port: {self.port} is also the port for sites; choose another")
        return self


@dataclass(frozen=True)
class HubFolder:
    """A hub on disk.

    Attributes:
        path: The folder, absolute.
        settings: The settings in hub.toml.
    """

    path: Path
    settings: HubSettings

    @property
    def ca_certificate(self) -> Path:
        """The certificate of the hub's CA, which every site needs; not secret."""
        return self.path / "ca.crt"

    @property
    def ca_key(self) -> Path:
        """The private key of the CA; a running hub does not need it, so it may be kept elsewhere."""
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
        """Flower's database of versions up to 0.2, which is no longer used."""
        return self.path / "state.db"

    @property
    def flower(self) -> Path:
        """Flower's home (FLWR_HOME)."""
        return self.path / "flower"

    @property
    def runs(self) -> Path:
        """Folder of the run folders."""
        return self.path / "runs"

    @property
    def exchange(self) -> Path:
        """Folder of the arrays that running runs and their sites exchange."""
        return self.path / FOLDER

    @property
    def log(self) -> Path:
        """Output of the hub's processes."""
        return self.path / "hub.log"

    @property
    def audit(self) -> AuditLog:
        """The audit log."""
        return AuditLog(self.path)

    def sites(self) -> dict[str, ApprovedSite]:
        """Read the approved sites, sorted by name.

        Raises:
            RunError: If their file is missing or damaged.
        """
        return read_approved_sites(self.path)

    def site(self, name: str) -> ApprovedSite:
        """Look up an approved site.

        Raises:
            RunError: If no site of that name is approved, or their file is missing or damaged.
        """
        sites = self.sites()
        if name not in sites:
            raise RunError(
                f"No site called {name} is approved at {self.path}.", f"Name one of: {', '.join(sites) or 'none yet'}."
            )
        return sites[name]

    def add_site(self, site: ApprovedSite) -> None:
        """Add an approved site.

        Raises:
            RunError: If its name, node or key is taken or malformed, or the file can't be read or written.
        """
        write_approved_sites(self.path, [*self.sites().values(), site])

    def remove_site(self, name: str) -> None:
        """Remove an approved site, and add its key to the revoked keys.

        Raises:
            RunError: If no site of that name is approved, or a file can't be read or written.
        """
        removed = self.site(name)
        # Revoked first: a crash in between must not leave a key that is neither approved nor revoked.
        write_json(self.path / REVOKED, sorted({*self.revoked(), removed.key}))
        write_approved_sites(self.path, (site for site in self.sites().values() if site.name != name))

    def revoked(self) -> list[str]:
        """Read the fingerprints of the revoked keys, which are never approved again.

        Raises:
            RunError: revoked.json is damaged.
        """
        path = self.path / REVOKED
        return read_validated_json(path, TypeAdapter(list[str])) if path.is_file() else []


def init_hub(
    path: Path, host: str, *, names: Sequence[str] = (), port: int = 9092, superlink_port: int = 9093
) -> HubFolder:
    """Make a hub's folder, readable only by its owner: CA, server certificate, settings, Flower's connection.

    Args:
        path: A new or an empty folder.
        host: Name or address under which sites reach the hub.
        names: Further names and addresses for the server certificate.
        port: Port to which sites connect.
        superlink_port: Port of Flower's SuperLink on this machine.

    Raises:
        SettingsError: If a name or port is not valid.
        RunError: If the folder is not empty or can't be written; nothing incomplete is left.
    """
    values = {"host": host, "port": port, "superlink-port": superlink_port}
    settings = build_file_settings(HubSettings, values, "The new hub")
    for name in names:
        build_file_settings(HubSettings, values | {"host": name}, "The new hub's further names")
    hub = HubFolder(path.expanduser().resolve(), settings)
    config = _flower_config(hub)
    with new_folder(hub.path) as folder:
        ca = make_ca(host)
        server = make_server_certificate(ca, (host, *names, "localhost", "127.0.0.1", "::1"))
        (folder / hub.ca_certificate.name).write_bytes(ca.certificate_pem)
        write_private(folder / hub.ca_key.name, ca.key_pem)
        (folder / hub.certificate.name).write_bytes(server.certificate_pem)
        write_private(folder / hub.key.name, server.key_pem)
        write_approved_sites(folder, ())
        AuditLog(folder).record("init", host=host, names=list(names), ca=fingerprint_of_certificate(ca.certificate))
        (folder / hub.flower.name).mkdir()
        (folder / hub.flower.name / CONNECTIONS).write_text(config, encoding="utf-8")
        (folder / SETTINGS).write_text(settings_file_text(settings, _title(folder, hub)), encoding="utf-8")
    return hub


def open_hub(path: Path) -> HubFolder:
    """Open a hub's folder and check it; Flower's connection is updated to the folder's path and port.

    Raises:
        RunError: If it is not a hub's folder, a file is missing, others can read a private key, or the server
            certificate does not match its key, the CA or the host.
        SettingsError: hub.toml is malformed.
    """
    folder = path.expanduser().resolve()
    need_file(folder / SETTINGS, "Make a hub with `fedbus hub init DIR --host NAME`, or name a hub's folder.")
    hub = HubFolder(folder, read_settings_file(folder / SETTINGS, HubSettings))
    install_renewed(hub.path, hub.certificate, hub.key)  # if `hub renew` was killed in between
    for file in (hub.ca_certificate, hub.certificate, approved_sites_file(hub.path)):
        need_file(file, _REMEDY)
    need_private_file(hub.key, _REMEDY)
    if hub.ca_key.exists():
        need_private_file(hub.ca_key, _REMEDY)
    check_server_certificate(hub.certificate, hub.key, hub.ca_certificate, hub.settings.host)
    # The connection has absolute paths, and the folder may have been moved.
    connections, config = hub.flower / CONNECTIONS, _flower_config(hub)
    if not connections.is_file() or connections.read_text(encoding="utf-8") != config:
        write_text(connections, config)
    return hub


def _flower_config(hub: HubFolder) -> str:
    """The connection `hub` for Flower's command line, whose home is `hub.flower`."""
    return (
        f"# Written by FedBUS from ../{SETTINGS}; changes here are lost.\n"
        '[superlink]\ndefault = "hub"\n\n'
        f'[superlink.hub]\naddress = "127.0.0.1:{hub.settings.superlink_port}"\n'
        f"root-certificates = {toml_value(str(hub.ca_certificate))}\n"
    )


def _title(draft: Path, hub: HubFolder) -> str:
    """The first lines of hub.toml; the certificates are read from the draft of the folder."""
    server, ca = (read_expiry(draft / file.name) for file in (hub.certificate, hub.ca_certificate))
    return (
        "A FedBUS hub. Restart it after a change.\n"
        f"server.crt is valid until {server:%Y-%m-%d}.\n"
        f"ca.crt is valid until {ca:%Y-%m-%d}. After either date, sites refuse this hub.\n"
        "ca.key can sign certificates that sites trust. The hub runs without it: keep it off this machine if you can."
    )
