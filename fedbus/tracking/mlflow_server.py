"""Sends figures to an MLflow server: one MLflow run per training, in the experiment `fedbus`."""

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from fedbus.tracking.values import Point

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "fedbus"

ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds; MLflow's default is 120
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # MLflow's default is 7, with pauses that double
    "MLFLOW_DISABLE_TELEMETRY": "true",  # MLflow reports its usage to its makers
}
"""Variables that MLflow reads; those that the user has set are kept."""

MOST_METRICS, MOST_PARAMETERS, LONGEST_PARAMETER = 1000, 100, 6000
"""What one request to an MLflow server may contain."""


class MlflowServer:
    """The trainings of one FedBUS run on an MLflow server.

    A training is found again by its tags, so that a resumed run continues it.

    Args:
        address: Address of the server.
        run: Identifies the FedBUS run.
        settings: Settings to record with every training.
    """

    def __init__(self, address: str, run: str, settings: Mapping[str, str]) -> None:
        self.run, self.settings = run, settings
        self.trainings: dict[str, _Training] = {}
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient  # reads the variables

        self.client = MlflowClient(tracking_uri=address)

    def send(self, points: Iterable[Point]) -> None:
        """Send points that the server does not have yet.

        Raises:
            Exception: Whatever MLflow raises: it documents no common class for a server that is down.
        """
        by_training = defaultdict[str, list[Point]](list)
        for point in points:
            by_training[point.training].append(point)
        for training, found in by_training.items():
            if training not in self.trainings:
                self.trainings[training] = self._open(training)
            self.trainings[training].send(found)

    def close(self, finished: bool) -> None:
        """Mark the trainings as finished, or as ended before their end."""
        for training in self.trainings.values():
            training.close(finished)

    def _open(self, training: str) -> "_Training":
        """Find the training on the server, or create it with the settings as parameters."""
        tags = {"fedbus.run": self.run, "fedbus.training": training}
        experiment = self._experiment()
        words = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        found = self.client.search_runs([experiment], words, max_results=1)
        run = found[0] if found else self.client.create_run(experiment, run_name=training, tags=tags)
        number, recorded = run.info.run_id, run.data.params
        opened = _Training(self.client, number, resumed=bool(found))
        if found:
            self.client.update_run(number, status="RUNNING")
        if not recorded:
            opened.describe(self.settings)
        return opened

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        found = self.client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self.client.create_experiment(name))


class _Training:
    """One training on the server, and which of its figures the server has."""

    def __init__(self, client: "MlflowClient", number: str, *, resumed: bool) -> None:
        self.client, self.number, self.resumed = client, number, resumed
        self.steps: dict[str, set[int]] = {}

    def describe(self, settings: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        parameters = [Param(key, value[:LONGEST_PARAMETER]) for key, value in settings.items()]
        for first in range(0, len(parameters), MOST_PARAMETERS):
            self.client.log_batch(self.number, params=parameters[first : first + MOST_PARAMETERS])

    def send(self, points: Iterable[Point]) -> None:
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        new = [point for point in points if point.step not in self._steps(point.tag)]
        for first in range(0, len(new), MOST_METRICS):
            part = new[first : first + MOST_METRICS]
            self.client.log_batch(self.number, metrics=[Metric(p.tag, p.value, now, p.step) for p in part])
            for point in part:
                self.steps[point.tag].add(point.step)

    def close(self, finished: bool) -> None:
        self.client.set_terminated(self.number, "FINISHED" if finished else "KILLED")

    def _steps(self, tag: str) -> set[int]:
        """Return the rounds whose figure the server has; it is asked only about a training of an earlier process."""
        if tag not in self.steps:
            known = self.client.get_metric_history(self.number, tag) if self.resumed else []
            self.steps[tag] = {metric.step for metric in known}
        return self.steps[tag]
