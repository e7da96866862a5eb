"""Keep freed memory in a process that computes, instead of returning it to the operating system after every step.

GNU's malloc returns large blocks when they are freed. Activations are such blocks: every training step would receive
tens of thousands of new pages, which the operating system clears first. That took 10 to 30 % of a step on a CPU;
keeping the memory costs 3 to 27 % more of it at the peak (docs/threads.md). Other C libraries are left as they
are.
"""

import ctypes
from functools import lru_cache

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
"""Parameters of `mallopt`, as numbered in GNU's malloc.h."""


def keep_freed_memory() -> None:
    """Have this process keep the memory that it frees; it can be called again."""
    if library := _gnu_library():
        library.mallopt(M_ARENA_MAX, 1)  # else a thread's heap has at most 64 MB, and larger blocks are not kept
        library.mallopt(M_MMAP_MAX, 0)  # large blocks come from the heap, which can be kept
        library.mallopt(M_TRIM_THRESHOLD, -1)  # the heap never shrinks by itself


def release_freed_memory() -> None:
    """Return the kept memory to the operating system: call it before a process waits for others."""
    if library := _gnu_library():
        library.malloc_trim(0)


@lru_cache(maxsize=1)
def _gnu_library() -> ctypes.CDLL | None:
    """Return the C library of this process if it is GNU's."""
    try:
        library = ctypes.CDLL(None)
    except TypeError:  # Windows
        return None
    return library if hasattr(library, "gnu_get_libc_version") else None
