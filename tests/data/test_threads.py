"""Torch's threads are as many afterwards as before; what threads allocate comes from one heap."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from lipwright.data.threads import one_thread


def test_there_is_one_thread_inside_and_as_many_as_before_outside() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        with pytest.raises(RuntimeError, match="on purpose"), one_thread():
            raise RuntimeError("on purpose")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


HEAPS = """
import ctypes, re, sys, threading
if "one" in sys.argv:
    from lipwright.data.threads import one_heap
    one_heap()
allocate = ctypes.CDLL(None).malloc
allocate.restype = ctypes.c_void_p
places = []
for k in range(4):
    thread = threading.Thread(target=lambda: places.append(allocate(1000)))
    thread.start(), thread.join()
low, high = next(line.split()[0].split("-") for line in open("/proc/self/maps") if line.endswith("[heap]\\n"))
print(sum(int(low, 16) <= place < int(high, 16) for place in places))
"""


HOLES = """
import ctypes, sys
from lipwright.data.threads import one_heap, trim_heap
one_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def resident_mb():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6
blocks = [libc.malloc(100_000) for _ in range(1000)]
for block in blocks:
    ctypes.memset(block, 1, 100_000)
for block in blocks[:-1]:
    libc.free(block)
before = resident_mb()
trim_heap()
print(before - resident_mb())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heaps")
def test_holes_are_given_back() -> None:
    told = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, check=True, text=True).stdout
    assert float(told) > 80


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heaps")
def test_threads_share_a_heap_where_that_is_asked_for() -> None:
    def inside(*how: str) -> int:
        return int(subprocess.run([sys.executable, "-c", HEAPS, *how], capture_output=True, check=True, text=True).stdout)

    assert inside("one") == 4
    assert inside() < 4
