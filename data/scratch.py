"""Scratch: arrays that are joined on disk and mapped, so that memory does not grow with a corpus.

A mapped array is read as any other. Its pages are the file's: those in use stay in memory while there is room, and the
system takes them back without writing them anywhere.
"""

from __future__ import annotations

import mmap
import platform
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from lipwright.data.cache import cache_folder
from lipwright.data.files import own_name, sweep
from lipwright.data.rows import Store


def _shared() -> Path:
    """Machines may share the cache, and do not know each other's processes."""
    return cache_folder() / f"scratch-{platform.node()}"


def sweep_scratch() -> None:
    """Remove the folders that killed processes of this machine left."""
    sweep(_shared())


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make a folder in the cache's that is gone at the end."""
    folder = own_name(_shared())
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def joined(pieces: Iterable[Sequence[np.ndarray]], folder: Path | None = None) -> list[np.ndarray]:
    """Concatenate arrays column by column, on disk.

    Parameters
    ----------
    pieces
        One array of each column at a time, (T, …): one piece is in memory.
    folder
        Where the columns stand as files ``0``, ``1``, … for others to map; by default they have no name, and are gone when
        nobody uses them any more.

    Returns
    -------
    list of ndarray, shape (N, …)
        Mapped; no column without a piece.

    Raises
    ------
    OSError
        The disk is full; it names the folder.
    """
    stores: list[Store] = []
    firsts: Sequence[np.ndarray] = []
    lengths: list[int] = []
    for piece in pieces:
        if not stores:
            firsts, lengths = [array[:0] for array in piece], [0] * len(piece)
            stores = [Store((folder / str(k)).open("x+b", 0)) if folder else Store.scratch() for k in range(len(piece))]
        for k, array in enumerate(piece):
            stores[k].append(array)
            lengths[k] += len(array)
    return [
        mapped(store.fileno(), (length, *first.shape[1:]), first.dtype)
        for store, length, first in zip(stores, lengths, firsts, strict=True)
    ]


def mapped(file: int, shape: tuple[int, ...], kind: np.dtype) -> np.ndarray:
    """Map a file that holds one array."""
    if 0 in shape:
        return np.zeros(shape, kind)
    return np.frombuffer(mmap.mmap(file, 0), kind).reshape(shape)
