"""Threads that wait without spinning: what processes see, and that the user's own choice wins."""

import os
import subprocess
import sys

import pytest

from fedbus.system.threads import VARIABLES, waiting_policy

SHOW = """
import os, sys
print("torch" in sys.modules, os.environ.get("OMP_WAIT_POLICY"), os.environ.get("GOMP_SPINCOUNT"))
"""

COMMAND_LINE = f"import fedbus.cli, typer; typer.Typer.__call__ = lambda app: exec({SHOW!r}); fedbus.cli.main()"
CLIENT_APP = f"import clients.app{SHOW}"


@pytest.mark.parametrize(("code", "loaded"), [(COMMAND_LINE, "False"), (CLIENT_APP, "True")], ids=["cli", "flwr-run"])
@pytest.mark.parametrize(
    ("own", "expected"),
    [({}, "PASSIVE None"), ({"GOMP_SPINCOUNT": "7"}, "None 7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE None")],
)
def test_a_process_that_computes_waits_passively_unless_the_user_chose(code, loaded, own, expected):
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES} | own
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == [loaded, *expected.split()]


def test_the_policy_is_the_users_or_ours(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert waiting_policy() == {"OMP_WAIT_POLICY": "PASSIVE"}
    monkeypatch.setenv("KMP_BLOCKTIME", "0")
    assert waiting_policy() == {"KMP_BLOCKTIME": "0"}
