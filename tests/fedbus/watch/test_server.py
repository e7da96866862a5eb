"""The page over HTTP: what it answers, and what it refuses."""

import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

import httpx
import psutil
import pytest

from fedbus.errors import RunError
from fedbus.runs.lock import RUNNING
from fedbus.system.files import write_text
from fedbus.system.locks import hold
from fedbus.watch.server import make_app, make_server, watch
from fedbus.watch.snapshot import RunReader
from tests.html_reader import HtmlReader
from tests.watched_run import add_rounds, history_line, start_watched_run

PATIENCE_SECONDS = 120
KEY = "secret-of-the-test"


@contextmanager
def served(out):
    """Serve the page of a run; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = make_server(make_app(out.name, RunReader(out), KEY))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/{KEY}/"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that is training, with a refusal whose text tries to be markup."""
    out = tmp_path_factory.mktemp("runs") / "first"
    settings = start_watched_run(out)
    add_rounds(out, settings, "local-north", [history_line(number) for number in (1, 2, 3, 4)])
    refused = {"south": "<script>alert(1)</script>"}
    lines = [history_line(1, federated=True), history_line(2, federated=True, participants=["north"], refused=refused)]
    add_rounds(out, settings, "fedavg", lines)
    write_text(out / "splits/north.csv", "row,path,label,patient\n0,Mueller.png,benign,Mueller\n")
    with hold(out / RUNNING, "taken", "wait"):
        yield out


@pytest.fixture(scope="module")
def address(run):
    with served(run) as found:
        yield found


def get(address, **words):
    return httpx.get(address, timeout=PATIENCE_SECONDS, trust_env=False, **words)


def test_the_page_shows_arms_rounds_curves_participants_refusals_and_time_left(address):
    text = get(address).text
    for words in ("north alone", "4 of 4", "FedAvg", "2 of 4", "training loss", "validation macro F1", "Time left"):
        assert words in text
    assert "Round 1: north, south" in text
    assert 'Round 2: north; <span class="hole">refused south: &lt;script&gt;' in text
    assert "about 20 s" in text, "4 rounds of 2 s of south and of centralised training, 2 of fedavg"


def test_the_page_is_well_formed_and_loads_nothing(address):
    found = HtmlReader(get(address).text)
    assert found.open == []
    assert len(found.ids) == len(set(found.ids))
    assert all(each.startswith("#") for each in found.loaded), "only figures refer to their own parts"


def test_the_part_that_changes_is_in_the_page(address):
    part = get(address + "live").text
    assert part.strip() in get(address).text
    assert HtmlReader(part).tags.count("section") == 3


def test_no_file_of_the_run_is_served(address, run):
    root = address.removesuffix(f"{KEY}/")
    names = ("settings.json", "splits/north.csv", "arms/fedavg/history.jsonl", "../first/settings.json", "%2e%2e/x")
    for base in (address, address + "live/", root):
        for name in (*names, "static/x", "docs", "openapi.json"):
            assert get(base + name).status_code == 404
    text = get(address).text
    assert "Mueller" not in text
    assert "/data/north" not in text
    assert str(run.parent) not in text


@pytest.mark.parametrize("path", ["", "live", "wrong/", "wrong/live", "secret-of-the-tes/", "%C3%BC/"])
def test_without_the_secret_there_is_nothing(address, path):
    assert get(address.removesuffix(f"{KEY}/") + path).status_code == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.1", "[::1]"])
def test_another_host_name_is_refused(address, host):
    """A web site whose name points to 127.0.0.1 can't read the page: DNS rebinding."""
    answer = get(address, headers={"Host": host})
    assert answer.status_code == 400
    assert "FedAvg" not in answer.text
    assert get(address, headers={"Host": "localhost:1234"}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
def test_only_get_is_answered(address, method):
    for path in ("", "live"):
        assert httpx.request(method, address + path, trust_env=False).status_code == 405


def test_every_answer_forbids_foreign_content_frames_and_storage(address):
    for path in ("", "live", "nothing"):
        headers = get(address + path).headers
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert policy["frame-ancestors"] == "'none'"
        assert policy["script-src"].startswith("'sha256-")
        assert policy["connect-src"] == "'self'"
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda out: (out / "thesis.doc").write_text("x"), "fedbus watch {out}/runs/NAME"),
        (lambda out: start_watched_run(out / "cells" / "base"), "fedbus watch {out}/cells/base"),
        (lambda out: start_watched_run(out / "runs" / "first"), "fedbus watch {out}/runs/first"),
    ],
)
def test_a_folder_that_is_no_run_is_refused_with_what_to_name(tmp_path, prepare, said):
    prepare(tmp_path)
    with pytest.raises(RunError) as caught:
        watch(tmp_path, 0, lambda: RunReader(tmp_path), print)
    assert said.format(out=tmp_path) in caught.value.remedy


def test_a_run_that_does_not_exist_yet_is_announced(tmp_path):
    """A wrong path looks the same as a run that has not started."""

    def end():
        raise KeyboardInterrupt

    printed = []
    with pytest.raises(KeyboardInterrupt):
        watch(tmp_path / "later", 0, end, printed.append)
    assert printed[1] == f"{tmp_path / 'later'} does not exist yet: the page fills when a run starts there."


def test_a_port_in_use_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(RunError, match=f"127.0.0.1:{number} can't be used") as caught:
            watch(tmp_path, number, lambda: RunReader(tmp_path), print)
    assert "--port" in caught.value.remedy


def test_the_command_prints_its_address_first_listens_on_loopback_only_and_ends_with_ctrl_c(run):
    command = [sys.executable, "-m", "fedbus", "watch", str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        lines = [process.stdout.readline() for _ in range(4)]
        assert lines[0] == "Starting fedbus watch ...\n"
        address = lines[1].split()[-1]
        assert "browser" in lines[2]
        try:
            assert "4 of 4" in get(address).text
            (listening,) = [c for c in psutil.Process(process.pid).net_connections() if c.status == "LISTEN"]
            assert listening.laddr == ("127.0.0.1", int(address.split(":")[2].split("/")[0]))
            os.kill(process.pid, signal.SIGINT)
            rest, errors = process.communicate(timeout=PATIENCE_SECONDS)
        finally:
            process.kill()
    assert (process.returncode, rest, errors) == (0, "The page has ended.\n", "")


def test_the_command_loads_no_pytorch(run):
    code = (
        "import sys; from server.hub.watched_run import open_watched_run; from fedbus.watch.page import Page\n"
        "from pathlib import Path; Page('x').page(open_watched_run(Path(sys.argv[1])).read())\n"
        "print([name for name in ('torch', 'flwr', 'ray', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
