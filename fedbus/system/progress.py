"""Callbacks through which long work reports its progress, without a terminal library."""

from collections.abc import Callable

Progress = Callable[[int], object]
"""Called with the number of images trained on since the last call."""

Advance = Callable[[int], object]
"""Called with the number of images finished since the last call."""
