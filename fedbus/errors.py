"""Expected errors: each one says what is wrong, where, and what to do about it."""

from pathlib import Path

from fedbus.text import MOST_OF_A_LINE, plain_text


class FedbusError(Exception):
    """An expected error, printed without a traceback.

    Both parts are made plain here, because they name files and quote text that others wrote.

    Args:
        problem: What is wrong, naming the file, key or site.
        remedy: What the reader can do about it, as an imperative sentence.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem = plain_text(problem, MOST_OF_A_LINE)
        self.remedy = plain_text(remedy, MOST_OF_A_LINE)
        super().__init__(f"{self.problem} {self.remedy}")

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        """Pickle both parts, so that an error keeps them in another process."""
        return type(self), (self.problem, self.remedy)


class ArchiveError(FedbusError):
    """A dataset that is missing, or whose files are not laid out as its reader expects."""


class ImageError(FedbusError):
    """An image that can't be used: unreadable, truncated, empty or of an unsupported bit depth."""


class SplitError(FedbusError):
    """A dataset that can't be split into training, validation and test."""


class SettingsError(FedbusError):
    """Settings that are misspelt, contradictory or out of range."""


class WeightsError(FedbusError):
    """Weights that are missing or do not fit the model."""


class ExplainError(FedbusError):
    """A model whose backbone has no layer that can be shown as a map."""


class RunError(FedbusError):
    """A file, folder or process that a run needs and can't use."""


class OutOfRangeError(RunError):
    """A value of a site that does not fit into a secure sum.

    Its text contains the value, so it is for the site only: a hub that lies could announce small ranges to learn one.
    """


class FedbusWarning(FutureWarning):
    """A note to the user, such as a renamed setting; the command line prints it as one line."""


def listed(paths: list[Path] | list[str], most: int = 5) -> str:
    """Join names for a message: the first `most`, then the number of the others."""
    shown = ", ".join(str(p) for p in paths[:most])
    return shown if len(paths) <= most else f"{shown} and {len(paths) - most} more"
