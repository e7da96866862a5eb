"""systemd units for hub and site: started at boot, restarted after a failure, able to write to their folder alone."""

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

# Nothing on this machine can be written but the folder.
ProtectSystem=strict
ReadWritePaths={folder}
PrivateTmp=yes

# Rights that training does not need. Left out: PrivateDevices, ProtectClock (which closes /dev,
# too) and MemoryDenyWriteExecute, under which no GPU works.
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
    """Write a service unit for the whole machine, run by the user to whom the folder belongs.

    Args:
        description: one line for people.
        command: a program's absolute path and its arguments, as the program shall receive them.
        folder: existing; the only place that may be written to, and the home of caches (cache/).

    Raises:
        RunError: systemd has no way to write the program's path, an argument or the folder, or the folder is not there.
    """
    folder = folder.expanduser().resolve()
    for text in (description, str(folder)):
        if re.search(r"[\x00-\x1f\x7f]|[\s\\]$", text):
            raise RunError(
                f"{text!r} has control characters, or a blank or a backslash at its end: no unit can hold that.",
                "Choose a plain name.",
            )
    return _TEMPLATE.format(
        description=description.replace("%", "%%"),
        user=_owner(folder),
        directory=str(folder).replace(
            "%", "%%"
        ),  # taken as it is up to the end of the line: quotes would be part of it
        cache=_quoted(f"XDG_CACHE_HOME={folder}/cache"),
        command=_command_line(command),
        folder=_quoted(str(folder)),
    )


def program() -> str:
    """The absolute path of the `fedbus` command that is installed beside this Python."""
    return str(Path(sys.executable).with_name("fedbus"))


def write_unit(path: Path, description: str, command: Sequence[str], folder: Path) -> None:
    """Write such a unit whole.

    Raises:
        RunError: as `unit`, or the file can't be written.
    """
    write_text(path, unit(description, command, folder))


def _command_line(command: Sequence[str]) -> str:
    """ExecStart by the rules of systemd.service(5), "Command lines", and systemd.syntax(7), "Quoting"."""
    program, *arguments = command
    if not Path(program).is_absolute() or re.search(r"""[\x00-\x1f\x7f'"\\]""", program):
        raise RunError(
            f"systemd can't start {program!r}: it takes an absolute path without quotes and backslashes.",
            "Install FedBUS in a folder with a plain name.",
        )
    # a dollar sign is doubled in arguments only: no variable is looked for in the program's path
    return " ".join([_quoted(program), *(_quoted(argument.replace("$", "$$")) for argument in arguments)])


def _quoted(text: str) -> str:
    """Quote a word if it needs it, with specifiers (%) escaped."""
    text = text.replace("%", "%%")
    if re.fullmatch(r"[A-Za-z0-9_%@+=:,./$-]+", text):
        return text
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x01-\x1f\x7f]", lambda found: f"\\x{ord(found[0]):02x}", text) + '"'


def _owner(folder: Path) -> str:
    try:
        number = folder.stat().st_uid
    except OSError as error:
        raise RunError(f"{folder} can't be looked at ({os.strerror(error.errno or 0)}).", "Make it first.") from error
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # a user of another machine, as on a network disk
        return str(number)
