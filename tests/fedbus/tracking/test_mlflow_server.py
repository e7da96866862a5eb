"""What an MLflow server is sent by MLflow's own client."""

import os
import subprocess
import sys

from fedbus.tracking.mlflow_server import MlflowServer
from fedbus.tracking.values import Point
from tests.mlflow_server import mlflow_server


def test_a_later_process_continues_the_same_training_and_repeats_nothing():
    first = [Point("fedavg", "train/loss", 1, 0.5), Point("fedavg", "train/loss", 2, 0.25)]
    with mlflow_server() as (address, received):
        sink = MlflowServer(address, "0123abcd", {"model": "resnet", "long": "x" * 9000})
        sink.send(first)
        sink.close(finished=False)
        assert received.named("fedavg")["info"]["status"] == "KILLED"
        again = MlflowServer(address, "0123abcd", {"model": "other"})
        again.send([*first, Point("fedavg", "train/loss", 3, 0.125), Point("local-a", "test/a/auc", 3, 0.75)])
        again.close(finished=True)
    found = received.named("fedavg")
    assert found["metrics"] == [("train/loss", 1, 0.5), ("train/loss", 2, 0.25), ("train/loss", 3, 0.125)]
    assert found["params"] == {"model": "resnet", "long": "x" * 6000}
    assert found["info"]["status"] == "FINISHED"
    assert received.named("local-a")["metrics"] == [("test/a/auc", 3, 0.75)]
    assert list(received.experiments) == ["fedbus"]


def test_another_run_is_another_training():
    with mlflow_server() as (address, received):
        for run in ("one", "two"):
            MlflowServer(address, run, {}).send([Point("fedavg", "train/loss", 1, 0.5)])
    assert [run["tags"]["fedbus.run"] for run in received.runs.values()] == ["one", "two"]


def test_mlflow_reports_nothing_to_its_makers():
    code = (
        "from fedbus.tracking.mlflow_server import MlflowServer; MlflowServer('http://127.0.0.1:1', 'a', {})\n"
        "from mlflow.telemetry.client import get_telemetry_client; print(get_telemetry_client())"
    )
    variables = {k: v for k, v in os.environ.items() if k not in ("CI", "DO_NOT_TRACK", "PYTEST_CURRENT_TEST")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=variables)
    assert done.stdout.strip() == "None"
