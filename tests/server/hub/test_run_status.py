"""The status of a run: read back as written, and a damaged file is named."""

from datetime import UTC, datetime, timedelta

import pytest

from fedbus.errors import RunError
from server.hub.run_status import STATUS_FILE, Status, read_status, write_status


def test_a_status_is_stored_with_the_time_of_writing(tmp_path):
    before = datetime.now(UTC) - timedelta(seconds=1)
    status = Status("failed", "Das Netz ist wég", "fedavg", seed=3, round=2, rounds=5, remedy="Rerun.", updated="old")
    write_status(tmp_path / "run", status)
    back = read_status(tmp_path / "run")
    assert back is not None
    when = datetime.fromisoformat(back.updated)
    assert before <= when <= datetime.now(UTC)
    assert when.utcoffset() == timedelta(0)
    expected = ("failed", "Das Netz ist wég", "fedavg", 3, 2, 5, "Rerun.")
    assert (back.state, back.words, back.arm, back.seed, back.round, back.rounds, back.remedy) == expected
    assert [path.name for path in (tmp_path / "run").iterdir()] == [STATUS_FILE]


def test_without_a_status_file_there_is_no_status(tmp_path):
    assert read_status(tmp_path) is None
    assert read_status(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("state", "over"),
    [("starting", False), ("waiting", False), ("training", False), ("finished", True), ("failed", True)],
)
def test_a_run_is_over_when_it_finished_or_failed(state, over):
    assert Status(state).over is over


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"state": "waiting", "mood": "good"}'], ids=repr)
def test_a_damaged_status_is_named(content, tmp_path):
    (tmp_path / STATUS_FILE).write_text(content)
    with pytest.raises(RunError, match=STATUS_FILE):
        read_status(tmp_path)
