"""Rows on disk read as the array would."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

from lipwright.data.rows import Rows, Store


@pytest.fixture
def records() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(20, 7)).astype(np.float32)


@pytest.fixture
def store(records: np.ndarray) -> Store:
    made = Store.scratch()
    for k in range(0, 20, 3):
        made.append(records[k : k + 3])
    return made


ORDER = np.array([3, -1, 0, 19, 19, 7, -1])


SLICES = [slice(None), slice(1, 4), slice(5, 5), slice(None, None, -2)]


@pytest.mark.parametrize("key", [0, 3, -2, *SLICES, ORDER >= 0, np.array([2, 2, 5]), np.array([], int)])
@pytest.mark.parametrize(("start", "shape"), [(0, (7,)), (1, (2, 3)), (4, (2,))])
def test_rows_are_read_as_the_array_would_be(
    store: Store, records: np.ndarray, key: int | slice | np.ndarray, start: int, shape: tuple[int, ...]
) -> None:
    rows = Rows(store, ORDER, shape, start=4 * start, stride=4 * 7)
    array = np.where(ORDER[:, None] < 0, np.nan, records[ORDER])[:, start : start + int(np.prod(shape))].reshape(-1, *shape)
    assert rows.shape == array.shape
    assert len(rows) == len(array)
    assert rows[key].dtype == np.float32
    np.testing.assert_array_equal(rows[key], array[key])
    np.testing.assert_array_equal(rows, array)


def test_rows_of_bytes_lie_beside_those_of_numbers(records: np.ndarray) -> None:
    rng, store = np.random.default_rng(1), Store.scratch()
    pictures = rng.integers(0, 256, (20, 2, 3), np.uint8)
    store.append(np.hstack([records.view(np.uint8), pictures.reshape(20, 6)]))
    rows = Rows(store, ORDER, (2, 3), start=28, stride=34, kind=np.uint8)
    expected = np.where(ORDER[:, None, None] < 0, 0, pictures[ORDER])
    assert rows[:].dtype == rows.part(slice(2, 4))[:].dtype == np.uint8
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(rows.part(slice(1, 6))[:], expected[1:6])
    np.testing.assert_array_equal(Rows(store, ORDER, (7,), start=0, stride=34)[0], records[3])


@pytest.mark.parametrize("key", [(0, 1), (slice(None), 2), ...])
def test_an_index_that_goes_into_rows_is_refused(store: Store, key: object) -> None:
    rows = Rows(store, ORDER, (7,), start=0, stride=28)
    with pytest.raises(TypeError, match="rows alone"):
        rows[key]  # type: ignore[index]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="tells open files by /proc")
def test_a_store_is_closed_and_gone_when_nobody_reads_it(isolated_cache: Path) -> None:
    def opened() -> int:
        links = (file.readlink() for file in Path("/proc/self/fd").iterdir() if file.is_symlink())
        return sum(isolated_cache in link.parents for link in links)

    gc.collect()
    before, files = opened(), len(list(isolated_cache.iterdir()))
    store = Store.scratch()
    store.append(np.zeros(1000))
    assert opened() == before + 1
    rows = Rows(store, np.arange(3), (2,), start=0, stride=8)
    del store
    assert not rows[:].any()
    del rows
    gc.collect()
    assert opened() == before
    assert len(list(isolated_cache.iterdir())) == files


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full disk")
def test_a_full_disk_is_told_with_its_folder(isolated_cache: Path) -> None:
    with Path("/dev/full").open("r+b", buffering=0) as full, pytest.raises(OSError, match="No space left") as caught:
        Store(full).append(np.zeros(10))
    assert caught.value.filename == str(isolated_cache)


def test_a_part_is_read_as_that_of_the_array(store: Store) -> None:
    rows = Rows(store, ORDER, (2, 3), start=4, stride=28)
    np.testing.assert_array_equal(rows.part(slice(1, 5)), rows[1:5])
    np.testing.assert_array_equal(rows.part(slice(1, 5)).part(slice(None, None, 2))[1], rows[3])
