"""Keep third-party libraries quiet and private; must be called before Flower and Ray are imported."""

import logging
import os
import warnings

SETTINGS = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",  # else `flwr run` would train in another environment
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_ENABLE_AUTO_CONNECT": "0",  # else a thread that asks after Ctrl-C waits for ever on a new Ray
    "RAY_worker_niceness": "0",  # federated arms get the same share of the processor as the others
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


def silence_third_party() -> None:
    """Switch telemetry off and let only our own words reach the terminal; errors still arrive as exceptions."""
    os.environ.update(SETTINGS)
    logging.getLogger("flwr").setLevel(logging.CRITICAL)
    logging.getLogger("ray").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(flwr|ray)\b.*")
