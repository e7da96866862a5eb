"""A comparison on a Ray cluster of two nodes ends with the weights of a single machine, and needs the token."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from fedbus.system.processes import end_child, log_tail, start_child
from fedbus.system.third_party import SETTINGS
from simulations.flower_simulation import WORKER
from simulations.local_federation import free_port
from tests.archives import make_class_folders, make_labels_csv

pytestmark = pytest.mark.timeout(1800)

COMPARISON = {
    "arms": "fedavg", "image-size": 32, "model": "test_resnet", "weights": "none", "batch-size": 4, "rounds": 2,
    "folds": 3, "bootstrap": 20, "learning-rate": 0.01, "device": "cpu", "workers": 2,
}  # fmt: skip

ENVIRONMENT = SETTINGS | {"OMP_NUM_THREADS": "1"}
"""One thread everywhere: several threads add in another order."""

NODE = (
    "--num-cpus=1", "--num-gpus=0", "--object-store-memory=100000000", "--min-worker-port=0", "--max-worker-port=0",
    "--dashboard-agent-listen-port=0", "--disable-usage-stats", "--block",
)  # fmt: skip
"""Any free ports: other tests run their own Ray at the same time."""

WAIT_FOR_BOTH = """
import ray, sys, time
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="error")
while sum(node["Alive"] for node in ray.nodes()) < 2:
    time.sleep(0.2)
"""

JOIN = """
import sys
from simulations.ray_session import join_cluster
join_cluster(sys.argv[1])
"""

Node = subprocess.Popen[bytes]


def children(process: Node) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(process.pid).children(recursive=True)
    return []


def end_with_children(node: Node) -> None:
    """End a node of Ray and its remaining processes, which may be in other process groups."""
    family = children(node)
    end_child(node)
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=10)


def wait_for_port(port: int, node: Node, log: Path) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and node.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise AssertionError(log_tail(log, 20))


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The token of all nodes and comparisons, set as docs/security.md describes."""
    file = tmp_path_factory.mktemp("token") / "token"
    file.touch(0o600)
    file.write_text("c" * 64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
        yield file


@pytest.fixture(scope="module")
def cluster(token: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[Node]]]:
    """The address of a cluster on this machine, and its two nodes."""
    logs, port, nodes = tmp_path_factory.mktemp("cluster"), free_port(), []
    address = f"127.0.0.1:{port}"
    head = ("--head", f"--port={port}", "--include-dashboard=false", f"--ray-client-server-port={free_port()}")
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:  # sockets want a short path
        try:
            for options in ((*head, f"--temp-dir={folder}"), (f"--address={address}",)):
                log = logs / f"{len(nodes)}.log"
                nodes.append(start_child(["ray", "start", *options, *NODE], log, ENVIRONMENT))
                wait_for_port(port, nodes[-1], log)
            words = [sys.executable, "-c", WAIT_FOR_BOTH, address]
            subprocess.run(words, timeout=300, check=True, env=os.environ | ENVIRONMENT)
            yield address, nodes
        finally:
            for node in reversed(nodes):
                end_with_children(node)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("datasets")
    north = make_class_folders(root / "north", {"benign": 12, "malignant": 9, "normal": 9}, seed=1)
    south = make_labels_csv(root / "south", {"benign": 24, "malignant": 20}, seed=2)
    return [f"--site=north=class-folders:{north}", f"--site=south=labels-csv:{south}"]


def run(sites: list[str], out: Path, nodes: list[Node], **more: str) -> set[int]:
    """Run the comparison, and return the nodes (0, 1) on which a site was seen training."""
    settings = (
        COMPARISON | {"cache": out.parent / "cache"} | {key.replace("_", "-"): value for key, value in more.items()}
    )
    sets = [f"--set={key}={value}" for key, value in settings.items()]
    words, log = [sys.executable, "-m", "fedbus", "compare", *sites, "--out", str(out), *sets], out.with_suffix(".log")
    child, seen = start_child(words, log, ENVIRONMENT), set[int]()
    try:
        deadline = time.monotonic() + 800
        while child.poll() is None and time.monotonic() < deadline:
            seen |= {number for number, node in enumerate(nodes) if any(works(p) for p in children(node))}
            time.sleep(0.25)  # the first answer of each node takes seconds
        assert child.poll() == 0, log.read_text()
    finally:
        end_with_children(child)
    return seen


def works(process: psutil.Process) -> bool:
    """Whether a site trains or registers in the process, by Ray's title for it."""
    with suppress(psutil.Error):
        return process.cmdline()[:1] == [f"{WORKER}.run"]
    return False


def test_two_nodes_end_with_the_weights_of_one_machine(cluster, sites, tmp_path):
    address, nodes = cluster
    assert run(sites, tmp_path / "alone", nodes) == set()
    assert run(sites, tmp_path / "together", nodes, ray_address=address) == {0, 1}
    for which in ("best", "final"):
        alone, together = (
            load_file(tmp_path / name / "arms" / "fedavg" / f"{which}.safetensors") for name in ("alone", "together")
        )
        assert alone.keys() == together.keys()
        assert all(torch.equal(alone[key], together[key]) for key in alone)
    assert not (tmp_path / "together" / "exchange").exists()
    figures = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("alone", "together")]
    assert figures[0]["arms"] == figures[1]["arms"]


def test_the_cluster_outlives_the_comparison(cluster):
    address, nodes = cluster
    assert [node.poll() for node in nodes] == [None, None]
    subprocess.run([sys.executable, "-c", WAIT_FOR_BOTH, address], timeout=60, check=True, env=os.environ | ENVIRONMENT)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"RAY_AUTH_MODE": "disabled"}, "There is no token for the Ray cluster at"),
        ({"RAY_AUTH_TOKEN": "d" * 64}, "can't be joined"),
    ],
)
def test_without_its_token_the_cluster_is_not_joined(cluster, settings, said):
    words = [sys.executable, "-c", JOIN, cluster[0]]
    once = {"RAY_NUM_REDIS_GET_RETRIES": "1"}  # otherwise Ray tries twenty times
    environment = os.environ | ENVIRONMENT | once | settings
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert "RunError" in done.stderr
    assert said in done.stderr
