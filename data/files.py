"""Files that are there whole or not at all."""

from __future__ import annotations

import glob
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def own_mark() -> str:
    """Return what tells the temporary names of this thread from those of others: process and thread."""
    return f"{os.getpid()}-{threading.get_ident()}"


def sweep(path: Path) -> None:
    """Remove what writers of the same output, ``.STEM.MARK.partial.SUFFIX`` beside it, left when they were killed."""
    for left in path.parent.glob(f".{glob.escape(path.stem)}.*.partial{glob.escape(path.suffix)}"):
        mark = left.name.removeprefix(f".{path.stem}.").split(".")[0]
        pid = mark.partition("-")[0]
        if mark == own_mark() or (pid.isdigit() and not _alive(int(pid))):
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


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
    partial = path.with_name(f".{path.name}.{own_mark()}.partial")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        partial.unlink(missing_ok=True)
