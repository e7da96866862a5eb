"""Ray can be reached only from this machine, and a process without the run's token can't run code in it."""

import json
import os
import signal
import stat
import subprocess
import sys
from concurrent import futures
from pathlib import Path

import grpc
import psutil
import pytest

from clients.ray_security import LOOPBACK, OTHER_SECRETS, OWN_RAY, require_token
from fedbus.errors import RunError

pytestmark = pytest.mark.timeout(900)

SIMULATION = """
import fedbus.system.threads
from fedbus.system.third_party import silence_third_party
silence_third_party()
from simulations.benchmarks.growth_federation import SETTINGS, run
from simulations.benchmarks.case import make_case
from tests.simulations.test_ray_security import look
run(make_case(folder, SETTINGS | {"model": "test_resnet", "rounds": 1}), lambda line: look(folder))
"""

CELLS = """
import fedbus.system.threads
from fedbus.system.third_party import silence_third_party
silence_third_party()
from simulations.ray_session import start_ray
from tests.simulations.test_ray_security import look
start_ray("")
import ray
ray.get(ray.remote(lambda: 1).options(num_cpus=0).remote())
look(folder)
"""

STRANGER = """
import pathlib, ray, sys
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="error")
ray.get(ray.remote(lambda path: pathlib.Path(path).touch()).options(num_cpus=0).remote(sys.argv[2]))
"""
"""A process that knows only the address of Ray's GCS; it leaves a file if it could run code."""


def without_token() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}


def runs_code(address: str, mark: Path, settings: dict[str, str]) -> bool:
    """Whether a process with only these settings of Ray can run its own function there."""
    # Without the first, Ray tries this machine's network address; without the second, it tries twenty times.
    knows_the_way = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_NUM_REDIS_GET_RETRIES": "1"}
    environment = without_token() | knows_the_way | settings
    words = [sys.executable, "-c", STRANGER, address, str(mark)]
    done = subprocess.run(words, env=environment, capture_output=True, timeout=240, check=False)
    assert mark.exists() == (done.returncode == 0), done.stderr[-2000:]
    return mark.exists()


def look(folder: Path) -> None:
    """Record, in a process that runs a Ray: what listens, where the token appears, and who can run code."""
    import ray

    file, address = Path(os.environ["RAY_AUTH_TOKEN_PATH"]), ray.get_runtime_context().gcs_address
    token, me = file.read_text(), psutil.Process()
    family = [me, *me.children(recursive=True)]
    wrong = folder / "wrong"
    wrong.write_text("0" * len(token))
    modes = {"none": {}, "wrong": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(wrong)}}
    modes["right"] = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(file)}
    facts = {
        "listening": [
            [process.name(), each.laddr.ip.removeprefix("::ffff:")]
            for process in family
            for each in process.net_connections("inet")
            if each.status == psutil.CONN_LISTEN
        ],
        "programs": sorted({program(process) for process in family[1:]}),
        "modes": [stat.S_IMODE(path.stat().st_mode) for path in (file.parent, file)],
        "policy": ray.get(ray.remote(lambda: os.environ.get("OMP_WAIT_POLICY")).options(num_cpus=0).remote()),
        "exposed": [p.name() for p in family if token in " ".join(p.cmdline()) + " ".join(p.environ().values())],
        "logged": [str(p) for p in file.parent.rglob("*") if p.is_file() and p != file and token in p.read_text()],
        "session": str(next(file.parent.rglob("gcs_server.out"))),
        "file": str(file),
        "ran": {name: runs_code(address, folder / f"ran-{name}", settings) for name, settings in modes.items()},
    }
    (folder / "facts.json").write_text(json.dumps(facts))


def program(process: psutil.Process) -> str:
    """The title that a process of Ray's gave itself, or its file."""
    words = process.cmdline()
    script = next((word for word in words if word.endswith(".py")), words[0])
    return Path(script.strip()).name.split()[0]


def start(code: str, folder: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", f"from pathlib import Path\nfolder = Path({str(folder)!r})\n{code}"]
    return subprocess.Popen(words, env=without_token(), stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("code", [SIMULATION, CELLS], ids=["simulation", "cells"])
def test_ray_listens_on_loopback_only_and_requires_the_token(code, tmp_path):
    child = start(code, tmp_path)
    said = child.communicate(timeout=800)[1]
    assert child.returncode == 0, said[-3000:]
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert {"gcs_server", "raylet"} <= {name for name, _ in facts["listening"]}
    assert {address for _, address in facts["listening"]} <= set(LOOPBACK)
    assert facts["ran"] == {"none": False, "wrong": False, "right": True}
    ours = {"ray::ClientAppActor", "ray::IDLE"}
    agents = {"ray::DashboardAgent", "ray::RuntimeEnvAgent"}
    assert set(facts["programs"]) - ours == {"gcs_server", "raylet"} | agents  # no helpers, see ray_session
    assert facts["modes"] == [0o700, 0o600]
    assert facts["policy"] == os.environ.get("OMP_WAIT_POLICY", "PASSIVE")
    assert facts["exposed"] == facts["logged"] == []
    assert not Path(facts["file"]).parent.exists()


PROTECTED = """
import os
from clients.ray_security import protect_own_ray
protect_own_ray()
(folder / "place").write_text(os.environ["RAY_TMPDIR"])
(folder / "token").write_text((Path(os.environ["RAY_TMPDIR"]) / "token").read_text())
"""


def protect(end: str, folder: Path) -> tuple[int, Path, str]:
    """Return the exit status of a protected process, the folder of its token, and the token."""
    child = start(PROTECTED + end, folder)
    child.communicate(timeout=240)
    return child.returncode, Path((folder / "place").read_text()), (folder / "token").read_text()


def test_the_token_is_removed_however_the_run_ends_and_the_next_is_another(tmp_path):
    code, stopped, first = protect("raise KeyboardInterrupt", tmp_path)
    assert code
    assert not stopped.exists()
    code, killed, second = protect("os.kill(os.getpid(), 9)", tmp_path)
    assert code == -signal.SIGKILL
    assert (killed / "token").is_file()
    code, ended, third = protect("", tmp_path)
    assert code == 0
    assert not killed.exists()
    assert not ended.exists()
    assert len({first, second, third}) == 3
    assert len(third) == 64


def test_a_ray_that_was_imported_unprotected_is_not_started(tmp_path):
    child = start(f"import ray\n{PROTECTED}", tmp_path)
    said = child.communicate(timeout=240)[1]
    assert child.returncode == 1
    assert "RunError" in said
    assert "Ray would listen on the network" in said


def test_a_site_does_not_work_in_a_ray_that_requires_no_token(tmp_path):
    code = "import ray\nfrom clients.workspace import workspace_from_context\nworkspace_from_context(None, None)"
    child = start(code, tmp_path)
    said = child.communicate(timeout=240)[1]
    assert child.returncode == 1
    assert "This Ray requires no token" in said


def test_flwr_run_on_a_cluster_needs_a_token_too(tmp_path):
    flower = "import os, sys\nsys.argv[0] = '/bin/flwr-simulation'\nos.environ['RAY_ADDRESS'] = '127.0.0.1:1'\n"
    child = start(flower + "import clients.app", tmp_path)
    said = child.communicate(timeout=240)[1]
    assert child.returncode == 1
    assert "There is no token for the Ray cluster at 127.0.0.1:1" in said


@pytest.fixture
def token(tmp_path, monkeypatch) -> Path:
    """The token of a cluster, as a user sets it."""
    for name in (*OWN_RAY, *OTHER_SECRETS):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "token"
    file.write_text("a" * 64)
    file.chmod(0o600)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    return file


def test_no_cluster_is_joined_without_a_token(token, monkeypatch):
    with pytest.raises(RunError, match="No Ray cluster answers"):
        require_token("127.0.0.1:1")
    token.write_text("\n")
    with pytest.raises(RunError, match="There is no token"):
        require_token("127.0.0.1:1")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a" * 64)
    with pytest.raises(RunError, match="No Ray cluster answers"):
        require_token("127.0.0.1:1")
    monkeypatch.delenv("RAY_AUTH_MODE")
    with pytest.raises(RunError, match="There is no token") as caught:
        require_token("127.0.0.1:1")
    assert "RAY_AUTH_MODE=token" in caught.value.remedy


def test_a_token_that_others_can_read_is_refused(token):
    token.chmod(0o644)
    with pytest.raises(RunError, match=r"others can read it \(mode 644\)"):
        require_token("127.0.0.1:1")


@pytest.mark.parametrize("address", ["auto", "ray://127.0.0.1", "127.0.0.1", ":6379"])
def test_an_address_without_host_and_port_is_refused(token, address):
    with pytest.raises(RunError, match="is not the address of a Ray cluster"):
        require_token(address)


class AnyCall(grpc.GenericRpcHandler):
    """A server that answers or refuses every call."""

    def __init__(self, refuse: bool) -> None:
        self.refuse = refuse

    def service(self, handler_call_details):
        def answer(request, context):
            if self.refuse:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token")
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.mark.parametrize("refuse", [False, True])
def test_a_cluster_that_requires_no_token_is_not_joined(token, refuse):
    server = grpc.server(futures.ThreadPoolExecutor(1), handlers=[AnyCall(refuse)])
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        if refuse:
            require_token(address)
        else:
            with pytest.raises(RunError, match="requires no token"):
                require_token(address)
    finally:
        server.stop(None)
