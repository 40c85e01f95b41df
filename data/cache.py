"""What need not be computed twice: the landmark model and face tracks, under one folder of bounded size."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

MOST_BYTES = 4 * 2**30
"""Tracks are dropped, the longest unused first, when together they take more than this."""


def cache_folder() -> Path:
    """Return the cache's folder: `LIPWRIGHT_CACHE`, else ``~/.cache/lipwright``; made if it is not there."""
    folder = Path(os.environ.get("LIPWRIGHT_CACHE") or Path.home() / ".cache" / "lipwright")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def cached_path(kind: str, key: str) -> Path:
    """Return where an entry of a kind (a sub-folder) stands or is to stand; marks it as used if it is there."""
    path = cache_folder() / kind / key
    path.parent.mkdir(exist_ok=True)
    if path.exists():
        path.touch()
    return path


def prune(kind: str, most_bytes: int = MOST_BYTES) -> None:
    """Drop the entries of a kind that were not used for longest until the rest fits into `most_bytes`."""
    entries = []
    for path in (cache_folder() / kind).glob("*"):
        with suppress(FileNotFoundError):  # others may drop it, or give it its name
            entries.append((path.stat(), path))
    kept = 0
    for stat, path in sorted(entries, key=lambda entry: -entry[0].st_mtime):
        kept += stat.st_size
        if kept > most_bytes:
            path.unlink(missing_ok=True)
