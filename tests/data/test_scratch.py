"""Arrays joined on disk are what they would be in memory, and leave nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lipwright.data.files import own_mark
from lipwright.data.scratch import joined, mapped, scratch_folder, sweep_scratch


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a cache's folder of one's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("LIPWRIGHT_CACHE", str(folder))
    folder.mkdir()
    return folder


def pieces() -> list[list[np.ndarray]]:
    rng = np.random.default_rng(0)
    return [
        [rng.normal(size=(n, 3)).astype(np.float32), rng.integers(0, 9, (n, 2, 2)), np.zeros((n, 0)), rng.random(n) > 0.5]
        for n in (5, 0, 1000, 1)
    ]


@pytest.mark.parametrize("named", [False, True])
def test_columns_are_what_they_would_be_in_memory(cache: Path, tmp_path: Path, named: bool) -> None:
    columns = joined(iter(pieces()), tmp_path if named else None)
    for column, parts in zip(columns, zip(*pieces(), strict=True), strict=True):
        whole = np.concatenate(parts)
        assert column.dtype == whole.dtype
        np.testing.assert_array_equal(column, whole)
        if named:
            k = next(k for k, c in enumerate(columns) if c is column)
            with (tmp_path / str(k)).open("r+b") as file:
                np.testing.assert_array_equal(mapped(file.fileno(), column.shape, column.dtype), whole)
    assert list(cache.iterdir()) == []


def test_no_pieces_are_no_columns(cache: Path) -> None:
    assert joined([]) == []


def test_the_room_is_free_again_when_nobody_uses_a_column(cache: Path) -> None:
    used = Path("/proc/self/fd")
    if not used.exists():
        pytest.skip("open files are counted in /proc")
    before = len(list(used.iterdir()))
    columns = joined(pieces())
    assert len(list(used.iterdir())) > before
    del columns
    assert len(list(used.iterdir())) == before


def test_a_folder_is_gone_at_the_end_also_after_errors(cache: Path) -> None:
    with pytest.raises(KeyboardInterrupt), scratch_folder() as folder:
        joined(pieces(), folder)
        assert (folder / "0").stat().st_size > 0
        raise KeyboardInterrupt
    assert list(cache.iterdir()) == []


def test_what_a_killed_process_left_goes_and_what_a_living_one_uses_stays(cache: Path) -> None:
    with scratch_folder() as folder:
        name = folder.name
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    thread = own_mark().split("-")[1]
    left, used = (cache / name.replace(own_mark(), f"{pid}-{thread}") for pid in (dead.pid, os.getppid()))
    for other in (left, used):
        other.mkdir()
        (other / "0").write_bytes(b"rows")
    sweep_scratch()
    assert not left.exists()
    assert (used / "0").exists()
