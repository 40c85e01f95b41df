"""Threads: how many torch has, and the memory that they leave behind."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

M_ARENA_MAX = -8
"""glibc's number for `mallopt`."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch work in one thread: on small arrays, and beside other work, two take up to sixteen times as long."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def one_heap() -> None:
    """Let the threads of this process share a heap: pictures made in one and freed in another leave holes in several."""
    _glibc("mallopt", M_ARENA_MAX, 1)


def trim_heap() -> None:
    """Give the holes in the heap back to the system: what is loaded next would come on top of them."""
    _glibc("malloc_trim", 0)


def _glibc(name: str, *args: int) -> None:
    if sys.platform == "linux" and (function := getattr(ctypes.CDLL(None), name, None)):
        function(*args)
