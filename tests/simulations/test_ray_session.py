"""How a failed start of Ray is reported."""

import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from fedbus.errors import RunError
from simulations import ray_session


def test_a_ray_that_can_not_start_is_an_error_with_a_remedy(monkeypatch):
    def fail(**_: object) -> None:
        raise Exception("The current node timed out during startup.")  # as Ray itself raises it

    monkeypatch.setattr(ray_session, "protect_own_ray", lambda: None)
    monkeypatch.setattr(ray_session, "_without_helpers", nullcontext)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=fail))  # imported unprotected, it would stay so
    with pytest.raises(RunError, match=r"could not be started .*timed out.*") as caught:
        ray_session.start_ray("")
    assert "--resume" in caught.value.remedy
