"""Rows: an array that stays on disk, read a few rows at a time, so that memory does not grow with a video."""

from __future__ import annotations

import tempfile
import weakref
from typing import IO, Any

import numpy as np

from lipwright.data import cache

BLOCK = 256
"""Rows that are looked at together: those of a long video would not fit into memory."""


class Store:
    """A file that is read from here and there, and closed when nobody reads from it any more.

    (Pages of a mapped file count as memory that is in use; where that does not matter, `lipwright.data.scratch` maps one.)
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        weakref.finalize(self, file.close)

    @classmethod
    def scratch(cls) -> Store:
        """Make an empty one in the cache's folder that is gone when it is closed: one for temporary files may be memory."""
        return cls(tempfile.TemporaryFile(dir=cache.cache_folder(), buffering=0))

    def append(self, array: np.ndarray) -> None:
        """Write at the end; `OSError` names the folder that is full."""
        left = memoryview(array.tobytes())
        try:
            self._file.seek(0, 2)
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(cache.cache_folder())) from error

    def fileno(self) -> int:
        """Return the file's descriptor."""
        return self._file.fileno()

    def read(self, start: int, into: np.ndarray) -> None:
        """Fill a contiguous array with what stands from a byte on."""
        self._file.seek(start)
        self._file.readinto(into)  # type: ignore[attr-defined]


class Rows:
    """Rows of numbers in a store; indexed by rows, it gives an array.

    Parameters
    ----------
    store
        Where they are.
    records : ndarray, shape (F,), int64
        Which record of the store each row is; −1: none, the row is NaN, or 0 where there is no such number.
    shape
        Of a row.
    start, stride
        Bytes before the first record's numbers, and from record to record.
    kind
        Of the numbers.
    """

    def __init__(
        self,
        store: Store,
        records: np.ndarray,
        shape: tuple[int, ...],
        *,
        start: int,
        stride: int,
        kind: type[np.generic] = np.float32,
    ) -> None:
        self._store, self._records = store, records
        self._start, self._stride, self._kind = start, stride, kind
        self.shape = (len(records), *shape)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, key: int | slice | np.ndarray) -> np.ndarray:
        if isinstance(key, tuple) or key is Ellipsis:
            raise TypeError(f"Expected rows alone as an index, got {key}; take [:] first.")
        records = np.asarray(self._records[key])
        none = np.nan if issubclass(self._kind, np.floating) else 0
        rows = np.full((records.size, *self.shape[1:]), none, self._kind)
        for row, record in zip(rows, records.flat, strict=True):
            if record >= 0:
                self._store.read(self._start + int(record) * self._stride, row)
        return rows.reshape(*records.shape, *self.shape[1:])

    def part(self, rows: slice) -> Rows:
        """Return some of the rows, not read yet."""
        records, shape = self._records[rows], self.shape[1:]
        return Rows(self._store, records, shape, start=self._start, stride=self._stride, kind=self._kind)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self._kind, copy=False)
