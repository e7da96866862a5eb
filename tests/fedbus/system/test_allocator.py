"""Freed memory: kept while a process computes, returned when it is told to."""

import subprocess
import sys

import pytest

from fedbus.system import allocator

BLOCK, TIMES = 64 << 20, 40

PROBE = f"""
import resource, sys, threading
import psutil, torch
from fedbus.device import pick_device
from fedbus.system.allocator import release_freed_memory

def fill():
    torch.ones({BLOCK} // 4)

pick_device("cpu")
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def fill_all():
    for _ in range({TIMES}):
        fill()

if sys.argv[1] == "in a thread":
    thread = threading.Thread(target=fill_all)
    thread.start()
    thread.join()
else:
    fill_all()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
kept = psutil.Process().memory_info().rss
release_freed_memory()
print(kept - psutil.Process().memory_info().rss)
"""

needs_gnu = pytest.mark.skipif(allocator._gnu_library() is None, reason="needs GNU's C library")


@needs_gnu
@pytest.mark.parametrize("where", ["in a thread", "at once"])
def test_a_process_that_computes_keeps_freed_memory_until_it_is_released(where):
    done = subprocess.run([sys.executable, "-c", PROBE, where], capture_output=True, text=True, timeout=120, check=True)
    faults, released = (int(line) for line in done.stdout.split())
    # Small objects may take a piece of a freed block, so that the next one is new, but seldom. Otherwise every page of
    # every block would be new.
    assert faults < TIMES * BLOCK / 4096 / 2
    assert released > BLOCK // 2


def test_another_c_library_is_left_alone(monkeypatch):
    class Other:
        """A C library without GNU's functions."""

    allocator._gnu_library.cache_clear()
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: Other())
    try:
        allocator.keep_freed_memory()
        allocator.release_freed_memory()
        assert allocator._gnu_library() is None
    finally:
        allocator._gnu_library.cache_clear()
