"""Files are there whole or not at all, whoever else writes them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lipwright.data.files import own_name, sweep, whole_file


def test_a_file_is_there_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with whole_file(path) as partial:
        partial.write_text("all of it")
        assert not path.exists()
    assert path.read_text() == "all of it"
    with pytest.raises(RuntimeError, match="on purpose"), whole_file(path) as partial:
        partial.write_text("half")
        raise RuntimeError("on purpose")
    assert path.read_text() == "all of it"
    assert list(tmp_path.iterdir()) == [path]


def test_two_threads_may_write_the_same_file(tmp_path: Path) -> None:
    path, both, failed = tmp_path / "file", threading.Barrier(2), []

    def write() -> None:
        try:
            with whole_file(path) as partial:
                partial.write_text("all of it")
                both.wait(10)
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert path.read_text() == "all of it"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["all", "all.parquet", "[a-z] *.mp4"])
def test_what_killed_writers_left_goes_and_nothing_else(tmp_path: Path, name: str) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    path = tmp_path / name
    with pytest.raises(KeyboardInterrupt), whole_file(path) as file:
        own = file.name
        raise KeyboardInterrupt
    assert own == own_name(path).name
    mark = own.removeprefix(f".{name}.").removesuffix(".partial")
    left = [own, own.replace(mark, f"{dead.pid}-1"), own.replace(mark, str(dead.pid))]
    kept = [
        own.replace(mark, f"{os.getppid()}-1"),  # at work
        own.replace(mark, f"{dead.pid}.{dead.pid}-1"),  # of another file, whose name ends with a number
        own.replace(mark, "mine"),
        own_name(path, "old").name,
        f"{dead.pid}-1.partial",
        name,
    ]
    for file in (*left, *kept):
        (tmp_path / file).touch()
    (tmp_path / left[0]).unlink()
    (tmp_path / left[0]).mkdir()
    (tmp_path / left[0] / "000001.png").touch()
    sweep(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(kept)
    sweep(tmp_path / "nowhere" / name)
