"""What long work tells of how far it is."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass  # needs pydantic, which a machine that only trains need not have

Progress = Callable[[int], object]
"""Called with the number of images trained on since the last call."""


Advance = Callable[[int], object]
"""Called with the number of pictures finished since the last call."""
