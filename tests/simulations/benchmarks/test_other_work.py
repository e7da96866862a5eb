"""The share of the processors that others used: arithmetic, and which processes count as a part's own."""

import os
import subprocess
import sys

import psutil
import pytest

from simulations.benchmarks.other_work import MARK, OtherWork, other_share


def test_what_is_neither_idle_nor_our_own_is_other_work():
    before = {"user": 10.0, "system": 5.0, "idle": 100.0, "iowait": 1.0, "guest": 3.0}
    after = {"user": 40.0, "system": 10.0, "idle": 160.0, "iowait": 6.0, "guest": 9.0}
    assert other_share(before, after, own=25.0) == pytest.approx((35 - 25) / (35 + 60 + 5))
    assert other_share(before, after, own=36.0) == 0.0  # clocks of processes and processors differ a little
    assert other_share(before, before, own=0.0) == 0.0


WAIT = "import sys; sys.stdin.read()"
REPORT = f"import os; print(os.getpid(), flush=True); {WAIT}"  # by then, its environment can be read
START = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {REPORT!r}])"


def test_marked_processes_are_the_parts_own_also_when_their_parent_has_ended():
    marked, pipe = os.environ | {MARK: "mine"}, subprocess.PIPE
    with (
        OtherWork("mine") as other,
        subprocess.Popen([sys.executable, "-c", WAIT], stdin=pipe) as foreign,
        subprocess.Popen([sys.executable, "-c", START], stdin=pipe, stdout=pipe, env=marked) as parent,
    ):
        assert parent.stdout is not None
        orphan = int(parent.stdout.readline())
        assert parent.wait() == 0
        assert psutil.Process(orphan).ppid() != parent.pid
        other.look()
        own = {number for number, _ in other._own}
    assert orphan in own
    assert foreign.pid not in own
    assert 0 <= other.facts["other_share"] <= 1
    assert len(other.facts["load_average"]) == 2
