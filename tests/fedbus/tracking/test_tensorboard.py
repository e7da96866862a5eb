"""Event files, read with TensorBoard's own reader: complete, without duplicates, and whole again after a failure."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fedbus.tracking.tensorboard import TensorBoardFiles
from fedbus.tracking.values import Point


def scalars(folder) -> dict[str, list[tuple[int, float]]]:
    """Every figure in the event files of a folder; nothing is dropped as outdated."""
    read = EventAccumulator(str(folder), {"scalars": 0, "tensors": 0}, purge_orphaned_data=False).Reload()
    return {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def points(*steps, tag="train/loss"):
    return [Point("fedavg", tag, step, step / 4) for step in steps]


def test_a_later_process_adds_what_is_missing_and_repeats_nothing(tmp_path):
    files = TensorBoardFiles(tmp_path, {"model": "resnet"})
    files.send(points(1, 2))
    files.send(points(2, 3))
    (event_file,) = (tmp_path / "fedavg").iterdir()
    files.close(finished=False)
    event_file.write_bytes(event_file.read_bytes()[:-7])  # killed while it wrote the last figure
    again = TensorBoardFiles(tmp_path, {"model": "resnet"})
    again.send(points(1, 2, 3, 4))
    again.close(finished=True)
    assert scalars(tmp_path / "fedavg") == {"train/loss": [(1, 0.25), (2, 0.5), (3, 0.75), (4, 1.0)]}


def test_a_folder_that_cannot_be_written_is_tried_again(tmp_path):
    (tmp_path / "fedavg").write_text("in the way")
    files = TensorBoardFiles(tmp_path, {})
    with pytest.raises(OSError, match="fedavg"):
        files.send(points(1))
    (tmp_path / "fedavg").unlink()
    files.send(points(1, 2))
    files.close(finished=True)
    assert scalars(tmp_path / "fedavg") == {"train/loss": [(1, 0.25), (2, 0.5)]}


def test_the_settings_are_shown_as_text(tmp_path):
    files = TensorBoardFiles(tmp_path, {"model": "resnet", "rounds": "3"})
    files.send(points(1))
    files.close(finished=True)
    read = EventAccumulator(str(tmp_path / "fedavg")).Reload()
    (event,) = read.Tensors("settings/text_summary")
    assert b"| model | resnet |\n| rounds | 3 |" in event.tensor_proto.string_val[0]
