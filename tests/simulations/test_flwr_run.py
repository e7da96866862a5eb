"""`flwr run .`: the same applications, started the way Flower's users start one."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from fedbus.settings.schema import Settings
from simulations.local_federation import free_port

pytestmark = pytest.mark.timeout(1500)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def flower(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment with a separate Flower home and ports; the SuperLink that Flower leaves running is ended."""
    home = tmp_path / "flower"
    environment = os.environ | {
        "FLWR_HOME": str(home),
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(free_port()),
        "FLWR_LOCAL_CONTROL_API_PORT": str(free_port()),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    yield environment
    for process in processes_in(home):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def processes_in(home: Path) -> Iterator[psutil.Process]:
    """Yield all processes that have this Flower home."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # gone already, or not ours to look at
            if process.environ().get("FLWR_HOME") == str(home):
                yield process


@contextmanager
def watched(home: Path) -> Iterator[set[tuple[str, str, str | None]]]:
    """Collect what listens meanwhile: the process's name, its address, and Ray's mode of authentication."""
    seen, over = set[tuple[str, str, str | None]](), threading.Event()

    def look() -> None:
        while not over.wait(0.3):
            for process in processes_in(home):
                with suppress(psutil.Error):
                    name, mode = process.name(), process.environ().get("RAY_AUTH_MODE")
                    listening = (c for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN)
                    seen.update((name, each.laddr.ip.removeprefix("::ffff:"), mode) for each in listening)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def test_flwr_run_trains_the_same_application(flower: dict[str, str], two_site_settings: Settings, tmp_path: Path):
    settings, out = tmp_path / "study.toml", tmp_path / "out"
    keys = ("image-size", "folds", "rounds", "batch-size")
    values = two_site_settings.as_dict()
    lines = [f"{key} = {values[key]}" for key in keys]
    lines += [f'{key} = "{values[key]}"' for key in ("model", "weights", "device", "cache")]
    lines += [
        f'[sites.{name}]\nreader = "{s.reader}"\npath = "{s.path}"' for name, s in two_site_settings.sites.items()
    ]
    settings.write_text("\n".join(lines))
    words = [
        "flwr", "run", ".", "--stream",
        "--federation-config", "num-supernodes=2 client-resources-num-cpus=2 init-args-num-cpus=2",
        "--run-config", f"settings='{settings}' out='{out}' arm='fedprox'",
    ]  # fmt: skip
    with watched(Path(flower["FLWR_HOME"])) as seen:
        done = subprocess.run(words, cwd=ROOT, env=flower, capture_output=True, text=True, timeout=900, check=False)
    facts = out / "arms" / "fedprox" / "done.json"
    assert facts.is_file(), done.stdout[-3000:] + done.stderr[-3000:]
    assert [line["participants"] for line in json.loads(facts.read_text())["rounds"]] == [["north", "south"]] * 3
    listed = subprocess.run(
        ["flwr", "ls", "--format", "json"],
        cwd=ROOT,
        env=flower,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "finished:completed" in listed.stdout
    assert {address for _, address, _ in seen} <= {"127.0.0.1", "::1"}
    assert {mode for name, _, mode in seen if name in ("gcs_server", "raylet")} == {"token"}
