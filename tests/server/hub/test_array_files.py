"""Files of sites and runs at the gateway: only what a run expects is written, and only what it has written is read."""

from pathlib import Path

import pytest

from fedbus.transport.stored_arrays import PIECE_BYTES
from server.hub.array_files import ArrayFiles, NotExpectedError
from server.rounds.exchange import Exchange

RUN, DIGEST, OTHER = "fedbus-1-run", "a" * 64, "b" * 64


@pytest.fixture
def run(tmp_path) -> Exchange:
    (tmp_path / RUN).mkdir()
    exchange = Exchange(tmp_path / RUN)
    exchange.open(10)
    return exchange


@pytest.fixture
def files(run, tmp_path) -> ArrayFiles:
    return ArrayFiles(tmp_path)


def stored(tmp_path: Path) -> dict[str, bytes]:
    """The files that sites have sent, by digest."""
    return {path.name: path.read_bytes() for path in tmp_path.glob(f"{RUN}/in/*/*")}


def test_a_file_is_read_in_pieces(files, run):
    content = bytes(range(256)) * (PIECE_BYTES // 256) + b"end"
    (run.folder / "out" / DIGEST).write_bytes(content)
    assert files.read(RUN, DIGEST, 0) == content[:PIECE_BYTES]
    assert files.read(RUN, DIGEST, PIECE_BYTES) == b"end"
    assert files.read(RUN, DIGEST, PIECE_BYTES + 3) == b""


def test_pieces_follow_one_another_and_can_be_repeated(files, tmp_path):
    for offset, piece in [(0, b"abc"), (3, b"def"), (3, b"def"), (6, b"g")]:
        files.write("north", RUN, DIGEST, offset, piece)
    assert stored(tmp_path) == {DIGEST: b"abcdefg"}
    with pytest.raises(NotExpectedError):
        files.write("north", RUN, DIGEST, 8, b"x")
    assert stored(tmp_path) == {DIGEST: b"abcdefg"}


def test_a_site_has_one_file_and_does_not_touch_another_site_s(files, tmp_path):
    files.write("north", RUN, DIGEST, 0, b"first")
    files.write("south", RUN, DIGEST, 0, b"south")
    files.write("north", RUN, OTHER, 0, b"second")
    assert sorted(path.read_bytes() for path in tmp_path.glob(f"{RUN}/in/*/*")) == [b"second", b"south"]


def test_more_than_a_reply_may_have_is_refused(files, run, tmp_path):
    files.write("north", RUN, DIGEST, 0, b"x" * 10)
    for offset in (1, 10):
        with pytest.raises(NotExpectedError):
            files.write("north", RUN, DIGEST, offset, b"x" * 10)
    assert stored(tmp_path) == {DIGEST: b"x" * 10}
    run.open(0)
    with pytest.raises(NotExpectedError):
        files.write("north", RUN, DIGEST, 0, b"x")


def test_what_a_site_has_sent_can_not_be_read(files):
    files.write("north", RUN, DIGEST, 0, b"update")
    with pytest.raises(NotExpectedError):
        files.read(RUN, DIGEST, 0)


@pytest.mark.parametrize(
    ("run_name", "digest"),
    [
        (RUN, "limit"), (RUN, "../limit"), (RUN, "A" * 64), (RUN, ""), ("..", DIGEST), (".", DIGEST), ("", DIGEST),
        ("fedbus-2-ended", DIGEST), (f"{RUN}/out", DIGEST),
    ],
)  # fmt: skip
def test_other_names_reach_no_file(files, run, run_name, digest):
    (run.folder / "out" / OTHER).write_bytes(b"model")
    with pytest.raises(NotExpectedError):
        files.read(run_name, digest, 0)
    with pytest.raises(NotExpectedError):
        files.write("north", run_name, digest, 0, b"x")


def test_a_run_that_has_just_ended_is_not_begun_again(files, run, tmp_path, monkeypatch):
    monkeypatch.setattr(ArrayFiles, "_run", lambda self, exchange: tmp_path / "gone")
    monkeypatch.setattr(ArrayFiles, "_limit", lambda self, exchange: 10)
    with pytest.raises(FileNotFoundError):
        files.write("north", RUN, DIGEST, 0, b"x")
    assert not (tmp_path / "gone").exists()


def test_files_are_private(files, tmp_path):
    files.write("north", RUN, DIGEST, 0, b"update")
    (path,) = tmp_path.glob(f"{RUN}/in/*/*")
    assert path.stat().st_mode & 0o077 == 0
