"""Import timm without PyTorch's compiler, which takes longer to import than timm and is not used.

Three things import `torch._dynamo` although nothing is compiled: torchvision, for one function of its detection models;
and two of timm's models as well as the first optimiser, to tell the compiler to leave functions alone. That is 1.5 s of
a processor in every process that builds a model. Here all three are deferred until something is compiled.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch._compile import _disable_dynamo
from torch.optim import Optimizer

COMPILER = "torch._dynamo"
USED_BY_TORCHVISION = f"{COMPILER}.utils"

MARK = "__dynamo_disable"
"""Where `_disable_dynamo` stores what it calls instead of a function."""


def import_timm() -> Any:
    """Return timm, imported on first use: it takes seconds, which only those who build a model should pay."""
    if "timm" not in sys.modules:
        with _deferred_compiler():
            import_module("timm")
        _leave_optimisers_alone()
    return import_module("timm")


@contextmanager
def _deferred_compiler() -> Iterator[None]:
    """Inside the block, what modules import of the compiler is deferred until they call it."""
    if COMPILER in sys.modules:
        yield
        return
    stand_in, disable = _StandIn(USED_BY_TORCHVISION), torch.compiler.disable
    sys.modules[USED_BY_TORCHVISION] = stand_in
    torch.compiler.disable = _disable_later
    try:
        yield
    finally:
        torch.compiler.disable = disable
        if sys.modules.get(USED_BY_TORCHVISION) is stand_in:
            del sys.modules[USED_BY_TORCHVISION]


class _StandIn(ModuleType):
    """Stands for `torch._dynamo.utils` while torchvision is imported; any name but one imports the real module."""

    @staticmethod
    def is_compile_supported(device_type: Any) -> Any:
        """Call the function of that name."""
        return import_module(USED_BY_TORCHVISION).is_compile_supported(device_type)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system asks for its own attributes
            raise AttributeError(name)
        del sys.modules[USED_BY_TORCHVISION]
        return getattr(import_module(USED_BY_TORCHVISION), name)


def _disable_later(function: Any = None, recursive: bool = True, *, reason: str | None = None) -> Any:
    """Do what `torch.compiler.disable` does, when the function is first called: PyTorch's own way within itself."""
    return _disable_dynamo(function, recursive)


def _leave_optimisers_alone() -> None:
    """Mark the methods of optimisers as those that the compiler leaves alone, as the first optimiser would.

    `_disable_dynamo` imports the compiler for this, unless the mark exists. In code that is not
    compiled, both do the same. Only models are compiled here, never an optimiser.
    """
    if COMPILER in sys.modules:
        return
    for method in vars(Optimizer).values():
        original = getattr(method, "__wrapped__", None)
        if original is not None and not hasattr(original, MARK):
            setattr(original, MARK, original)
