"""The errors that Lipwright raises for its users, and the exit code that each becomes on the command line.

::

    LipwrightError             1   anything that is ours and unforeseen
    ├── InputError             3   a file or value that was given cannot be used
    │   ├── MediaError         3   a video or audio file: missing, broken, without the stream that is needed
    │   ├── FaceError          3   no usable face where one is needed
    │   ├── CorpusError        3   a corpus folder: missing, empty, broken, of another version
    │   ├── TrackError         3   a mouth track file that does not hold what its format promises
    │   └── OutputExistsError  3   the output is already there and ``--force`` was not given
    ├── MissingPartError       4   a Python package or the landmark model is not installed
    └── Cancelled            130   the caller asked for a job to stop

``lipwright.models`` raises its own ``ModelError`` (3): models and data do not import each other.
Every message is one or two lines: which file, the value seen, what to do.
"""

from __future__ import annotations

from pathlib import Path


class LipwrightError(Exception):
    """Base of all errors that Lipwright raises on purpose."""

    exit_code = 1


class InputError(LipwrightError):
    """A file or value that the user gave cannot be used."""

    exit_code = 3


class MediaError(InputError):
    """A video or audio file is missing, broken, or lacks the stream that is needed."""


class FaceError(InputError):
    """No usable face where one is needed."""


class CorpusError(InputError):
    """A corpus folder is missing, empty, broken or of another version."""


class TrackError(InputError):
    """A mouth track file does not hold what its format promises."""


class OutputExistsError(InputError):
    """The output is already there, and overwriting was not asked for."""


class MissingPartError(LipwrightError):
    """A Python package or the landmark model is not installed."""

    exit_code = 4


class Cancelled(LipwrightError):
    """A job was stopped by its caller."""

    exit_code = 130


def require_new(path: Path, force: bool, option: str = "--out") -> None:
    """Refuse to overwrite `path`, given with `option`, unless `force` is set, or to write into a folder that does not exist.

    Raises
    ------
    OutputExistsError
        `path` exists and `force` is false.
    InputError
        The folder that `path` is to stand in does not exist.
    """
    if path.exists() and not force:
        raise OutputExistsError(f"{path} already exists; choose another {option} or pass --force to replace it")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path.absolute().parent} is not a folder; create it first, or choose another {option}")
