"""A slow hub ends no healthy run; a hub that is gone, or a run that Flower has ended, is noticed."""

from types import SimpleNamespace

import pytest

from fedbus.errors import RunError
from fedbus.runs.lock import RUNNING
from fedbus.system.locks import hold
from server.hub import control, run_watch
from server.hub.folder import init_hub
from server.hub.run_status import Status, write_status
from server.hub.run_watch import CHECK_SECONDS, REFUSALS, SILENCE_SECONDS, RunWatch, gateway_accepts
from simulations.local_federation import free_port
from tests.superlink import SuperLink


class Scene:
    """A hub as the watch sees it, and a clock that a test moves."""

    def __init__(self, folder, monkeypatch) -> None:
        self.out, self.log, self.asked, self.now = folder / "run", [], 0, 1000.0
        self.up = self.gateway = True
        self.answer: str | None = "running"
        self.out.mkdir()
        write_status(self.out, Status("training"))
        # Not the clock of the whole process: other threads wait by it. Nor has this one `time`, which can be set.
        monkeypatch.setattr(run_watch, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(run_watch, "is_up", lambda hub: self.up)
        monkeypatch.setattr(run_watch, "gateway_accepts", lambda hub: self.gateway)
        monkeypatch.setattr(run_watch, "run_state", self.ask)
        self.watch = RunWatch(None, "7", self.out, self.log.append)

    def ask(self, hub, run: str) -> str | None:
        assert run == "7"
        self.asked += 1
        return self.answer

    def pass_seconds(self, seconds: float) -> None:
        for _ in range(int(seconds / CHECK_SECONDS) + 1):
            self.now += CHECK_SECONDS + 0.01
            self.watch.check()


@pytest.fixture
def scene(tmp_path, monkeypatch) -> Scene:
    return Scene(tmp_path, monkeypatch)


def test_a_hub_that_does_not_answer_for_an_hour_is_asked_again_and_the_run_continues(scene):
    scene.answer = None
    scene.pass_seconds(3600)
    assert scene.asked > 10
    assert set(scene.log) == {"the hub is slow to answer; asking again"}
    scene.answer = "running"
    scene.pass_seconds(60)


def test_a_run_whose_process_lives_is_not_asked_about(scene):
    with hold(scene.out / RUNNING, "taken", "wait"):
        scene.pass_seconds(SILENCE_SECONDS + CHECK_SECONDS)
    assert scene.asked == 0


def test_a_killed_run_is_noticed_as_soon_as_its_process_is_gone(scene):
    with hold(scene.out / RUNNING, "taken", "wait"):
        scene.pass_seconds(CHECK_SECONDS)
    scene.answer = "finished:failed"
    with pytest.raises(RunError, match=r"Flower ended the run \(finished:failed\)") as caught:
        scene.pass_seconds(CHECK_SECONDS)
    assert "--resume" in caught.value.remedy


@pytest.mark.parametrize("answer", ["finished:failed", "finished:stopped", control.GONE])
def test_a_run_that_never_trained_is_noticed_after_a_silence(scene, answer):
    scene.answer = answer
    scene.pass_seconds(SILENCE_SECONDS - 4 * CHECK_SECONDS)
    assert scene.asked == 0
    with pytest.raises(RunError, match="Flower ended the run"):
        scene.pass_seconds(6 * CHECK_SECONDS)


def test_a_run_that_wrote_its_end_while_flower_answered_has_not_died(scene):
    scene.answer = "finished:completed"
    write_status(scene.out, Status("finished"))
    scene.pass_seconds(2 * SILENCE_SECONDS)
    assert scene.asked


@pytest.mark.parametrize("part", ["up", "gateway"])
def test_only_a_hub_that_refuses_connections_again_and_again_is_gone(scene, part):
    for _ in range(4):  # now and then a refusal, as of an overloaded hub
        setattr(scene, part, False)
        for _ in range(REFUSALS - 1):
            scene.pass_seconds(0)
        setattr(scene, part, True)
        scene.pass_seconds(0)
    setattr(scene, part, False)
    with pytest.raises(RunError, match="The hub ended during the run"):
        scene.pass_seconds(REFUSALS * CHECK_SECONDS)


def test_the_clock_of_the_system_does_not_matter(scene):
    assert not hasattr(run_watch.time, "time")
    scene.pass_seconds(2 * SILENCE_SECONDS)
    assert scene.asked


def test_the_port_of_the_gateway_shows_whether_it_runs(tmp_path):
    with SuperLink(tmp_path / "ca.crt", tmp_path) as server:
        hub = init_hub(tmp_path / "hub", "localhost", port=server.server_address[1])
        assert gateway_accepts(hub)
    assert not gateway_accepts(init_hub(tmp_path / "other", "localhost", port=free_port()))


def test_a_superlink_that_refuses_or_does_not_understand_gives_no_state(tmp_path):
    hub = init_hub(tmp_path / "hub", "localhost", superlink_port=free_port())
    assert control.run_state(hub, "7") is None
    assert not control.stop_run(hub, "7")
