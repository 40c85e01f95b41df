"""Files are there whole or not at all, whoever else writes them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from lipwright.data.files import whole_file


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
