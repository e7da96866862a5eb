"""Install a peer, which is not among our dependencies, into a folder of its own; this environment does not change."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import platformdirs

from fedbus.system.processes import environment_with

REQUIREMENTS = Path(__file__).parents[2] / "requirements"
"""`peer-NAME.txt`: a peer and what it needs in addition to our own dependencies, with hashes."""

PEER_FOLDERS = Path(platformdirs.user_cache_dir("fedbus")) / "peers"
"""Where peers stay installed between runs, one folder for each."""

INSTALL_SECONDS = 300.0


def wanted_packages(peer: str) -> set[str]:
    """Return `NAME==VERSION` of every package of a peer."""
    lines = (REQUIREMENTS / f"peer-{peer}.txt").read_text(encoding="utf-8").splitlines()
    return {line.split()[0] for line in lines if "==" in line}


def find_peer(peer: str, folder: Path) -> bool:
    """Return whether a folder contains all packages of a peer."""
    found = metadata.distributions(path=[str(folder)])
    return wanted_packages(peer) <= {f"{each.name.lower().replace('_', '-')}=={each.version}" for each in found}


def install_peer(peer: str, folder: Path | None = None) -> Path | str:
    """Install a peer into a separate folder, unless it is installed there.

    Its packages are installed without their dependencies, since those are in this environment.

    Args:
        peer: `pfl`, `nvflare` or `fluke`.
        folder: The folder; None: a subfolder of `PEER_FOLDERS`.

    Returns:
        The folder, for PYTHONPATH, or why the peer can't be installed.
    """
    folder = folder or PEER_FOLDERS / peer
    if find_peer(peer, folder):
        return folder
    target = ["--python", sys.executable, "--target", str(folder), "-r", str(REQUIREMENTS / f"peer-{peer}.txt")]
    command = ["uv", "pip", "install", "--quiet", "--no-deps", "--require-hashes", *target]
    try:
        done = subprocess.run(
            command, env=environment_with({}), capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"uv could not install it ({error})"
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it printed nothing"]
        return f"uv could not install it ({lines[-1].strip()[:200]})"
    return folder
