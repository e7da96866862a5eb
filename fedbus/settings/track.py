"""The setting `track`: where a run's figures are also sent while it trains."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

TENSORBOARD, MLFLOW = "tensorboard", "mlflow"


def tracker_kind(track: str) -> str:
    """Return `tensorboard` or `mlflow`; empty if nothing is tracked."""
    return track.partition(":")[0]


def tracking_server(track: str) -> str:
    """Return the address of the MLflow server; empty for other trackers."""
    return track.partition(":")[2]


def _check_track(value: str) -> str:
    if value in ("", TENSORBOARD):
        return value
    kind, _, address = value.partition(":")
    if kind != MLFLOW:
        raise ValueError(f"{value!r} is not a tracker; use tensorboard or mlflow:URI, or leave it empty")
    try:
        server = urlsplit(address)
        found = server.scheme in ("http", "https") and server.hostname
    except ValueError:
        found = None
    if not found:
        raise ValueError(
            f"{value!r} does not name an MLflow server; write for example mlflow:http://127.0.0.1:5000, "
            "after `mlflow server --port 5000`"
        )
    if server.username or server.password:
        raise ValueError(
            "the address contains a password, which would be stored in the run folder; set the variables "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead"
        )
    return value


Track = Annotated[
    str,
    AfterValidator(_check_track),
    Field(
        description="Where the figures of every round are also sent: tensorboard (files in RUN/tensorboard), or "
        "mlflow:URI, such as mlflow:http://127.0.0.1:5000. Empty: nowhere."
    ),
]
"""The type and description of the setting."""
