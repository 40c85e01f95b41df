"""The cache: one folder, named by the environment, that keeps what was used last and stays under its size."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lipwright.data.cache import cache_folder, cached_path, prune


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIPWRIGHT_CACHE", str(tmp_path / "a" / "cache"))
    return tmp_path / "a" / "cache"


def test_the_folder_is_the_named_one_and_is_made(folder: Path) -> None:
    assert cache_folder() == folder
    assert folder.is_dir()


def test_without_a_name_it_stands_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIPWRIGHT_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "lipwright"


def test_kinds_are_kept_apart(folder: Path) -> None:
    assert cached_path("tracks", "a") == folder / "tracks" / "a"
    assert cached_path("banks", "a") != cached_path("tracks", "a")
    assert not cached_path("tracks", "a").exists()


def test_the_longest_unused_goes_first(folder: Path) -> None:
    for age, name in enumerate("abcd"):
        path = cached_path("tracks", name)
        path.write_bytes(bytes(100))
        os.utime(path, (1000 - age, 1000 - age))  # d is oldest
    cached_path("tracks", "d")  # is used once more
    prune("tracks", most_bytes=250)
    assert sorted(p.name for p in (folder / "tracks").iterdir()) == ["a", "d"]


def test_what_others_drop_meanwhile_is_passed_over(folder: Path) -> None:
    cached_path("tracks", "a").write_bytes(bytes(100))
    (folder / "tracks" / "gone").symlink_to(folder / "nowhere")  # cannot be looked at any more
    prune("tracks", most_bytes=100)
    assert (folder / "tracks" / "a").exists()


def test_nothing_goes_while_there_is_room(folder: Path) -> None:
    for kind in ("tracks", "banks"):
        for name in "ab":
            cached_path(kind, name).write_bytes(bytes(100))
    prune("tracks", most_bytes=200)
    assert len(list((folder / "tracks").iterdir())) == 2
    prune("tracks", most_bytes=0)
    assert not list((folder / "tracks").iterdir())
    assert len(list((folder / "banks").iterdir())) == 2
    prune("nothing", most_bytes=0)
