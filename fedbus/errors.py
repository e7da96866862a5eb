"""Errors that a person can act on: each names what is wrong, where, and the remedy."""

from pathlib import Path


class FedbusError(Exception):
    """An expected failure, shown without a traceback.

    Args:
        problem: what is wrong, naming the file, key or site.
        remedy: what the reader can do about it, an imperative sentence.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem} {remedy}")
        self.problem = problem
        self.remedy = remedy

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        """Keep both parts when an error crosses a process boundary."""
        return type(self), (self.problem, self.remedy)


class ArchiveError(FedbusError):
    """An archive on disk that can't be read as the layout it was said to have."""


class ImageError(FedbusError):
    """A picture that can't be used: unreadable, truncated, empty or of another bit depth."""


class SplitError(FedbusError):
    """An archive that can't be parted into train, validation and test."""


class SettingsError(FedbusError):
    """A study whose settings are misspelt, contradictory or out of range."""


class WeightsError(FedbusError):
    """Weights that are missing or do not fit the model."""


class RunError(FedbusError):
    """A run folder that can't be used, or a run that can't go on."""


def listed(paths: list[Path] | list[str], most: int = 5) -> str:
    """Join names for a message: the first few, then how many more there are."""
    shown = ", ".join(str(p) for p in paths[:most])
    return shown if len(paths) <= most else f"{shown} and {len(paths) - most} more"
