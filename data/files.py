"""Files that are there whole or not at all.

What is being made of ``NAME`` stands beside it as ``.NAME.MARK.partial``; the mark says who makes it. What is made of that in
turn, to take its place, is ``.NAME.MARK.sealed``.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SEALED = "sealed"


def own_mark() -> str:
    """Return what tells the temporary names of this thread from those of others: process and thread."""
    return f"{os.getpid()}-{threading.get_ident()}"


def own_name(path: Path, kind: str = "partial") -> Path:
    """Return a temporary name beside `path` that is this thread's."""
    return path.with_name(f".{path.name}.{own_mark()}.{kind}")


def sweep(path: Path) -> None:
    """Remove what writers of the same output left beside it when they were killed.

    It lists the folder: for outputs that are made one by one, not for each of very many.
    """
    for left in [*left_behind(path), *left_behind(path, SEALED)]:
        shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def sweep_all(folder: Path) -> None:
    """Remove what writers of any output in a folder left there when they were killed."""
    for left in [*folder.glob(".*.*.partial"), *folder.glob(f".*.*.{SEALED}")]:
        sweep(left.with_name(left.name[1:].rsplit(".", 2)[0]))


def left_behind(path: Path, kind: str = "partial") -> list[Path]:
    """Return what has temporary names of `path`, given by nobody who is still at work."""
    found = []
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.{kind}"):
        mark = left.name[len(path.name) + 2 : -len(kind) - 1]
        pid = re.fullmatch(r"(\d+)(-\d+)?", mark)  # else it belongs to another file, whose name begins alike
        if pid and (mark == own_mark() or not _alive(int(pid[1]))):
            found.append(left)
    return found


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to; it becomes `path` at the end, or is gone after an error.

    Raises
    ------
    OSError
        With the file's name, which Python leaves out where a disk is full.
    """
    partial = own_name(path)
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        partial.unlink(missing_ok=True)
