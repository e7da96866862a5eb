"""systemd units for hub and site: started at boot, restarted after a failure, able to write only to their folder."""

import os
import pwd
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from fedbus.errors import RunError
from fedbus.system.files import write_text

_TEMPLATE = """\
[Unit]
Description={description}
Wants=network-online.target
After=network-online.target

[Service]
Type=exec
User={user}
WorkingDirectory={directory}
Environment={cache}
ExecStart={command}
Restart=on-failure
RestartSec=10
KillMode=control-group
UMask=0077
# Each connection takes a file; the usual 1024 are for programs that use select().
LimitNOFILE=65536

# Only the folder can be written.
ProtectSystem=strict
ReadWritePaths={folder}
PrivateTmp=yes

# Restrictions that training does not notice. PrivateDevices, ProtectClock (which also closes /dev)
# and MemoryDenyWriteExecute are left out, because no GPU works with them.
NoNewPrivileges=yes
RestrictSUIDSGID=yes
LockPersonality=yes
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes

[Install]
WantedBy=multi-user.target
"""


def unit(description: str, command: Sequence[str], folder: Path) -> str:
    """Return the text of a system-wide service unit that runs as the owner of the folder.

    Args:
        description: One line for people.
        command: A program's absolute path and its arguments, unquoted.
        folder: An existing folder, the only one that the service can write to; caches are in its cache/.

    Raises:
        RunError: If the folder is missing, or a unit can't express the program's path, an argument or the folder.
    """
    folder = folder.expanduser().resolve()
    for text in (description, str(folder)):
        if re.search(r"[\x00-\x1f\x7f]|[\s\\]$", text):
            raise RunError(
                f"A systemd unit can't express {text!r}: it has control characters, or ends in a space or backslash.",
                "Choose a simpler name.",
            )
    return _TEMPLATE.format(
        description=description.replace("%", "%%"),
        user=_owner(folder),
        directory=str(folder).replace("%", "%%"),  # read verbatim to the end of the line, quotes included
        cache=_quoted(f"XDG_CACHE_HOME={folder}/cache"),
        command=_command_line(command),
        folder=_quoted(str(folder)),
    )


def program() -> str:
    """Return the absolute path of the `fedbus` command installed beside this Python."""
    return str(Path(sys.executable).with_name("fedbus"))


def write_unit(path: Path, description: str, command: Sequence[str], folder: Path) -> None:
    """Write the unit that `unit` returns to a file.

    Raises:
        RunError: If `unit` raises it, or the file can't be written.
    """
    write_text(path, unit(description, command, folder))


def _command_line(command: Sequence[str]) -> str:
    """Return ExecStart by the rules of systemd.service(5), "Command lines", and systemd.syntax(7), "Quoting"."""
    program, *arguments = command
    if not Path(program).is_absolute() or re.search(r"""[\x00-\x1f\x7f'"\\]""", program):
        raise RunError(
            f"systemd can't start {program!r}: the path must be absolute, without quotes and backslashes.",
            "Install FedBUS in a folder with a simpler name.",
        )
    # only in arguments is a dollar sign doubled: systemd does not expand variables in the program's path
    return " ".join([_quoted(program), *(_quoted(argument.replace("$", "$$")) for argument in arguments)])


def _quoted(text: str) -> str:
    """Quote a word if necessary, with specifiers (%) escaped."""
    text = text.replace("%", "%%")
    if re.fullmatch(r"[A-Za-z0-9_%@+=:,./$-]+", text):
        return text
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x01-\x1f\x7f]", lambda found: f"\\x{ord(found[0]):02x}", text) + '"'


def _owner(folder: Path) -> str:
    try:
        number = folder.stat().st_uid
    except OSError as error:
        raise RunError(f"{folder} can't be read ({os.strerror(error.errno or 0)}).", "Create it first.") from error
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # the user of another machine, for example on a network disk
        return str(number)
