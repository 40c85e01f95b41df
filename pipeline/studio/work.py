"""The work folder: all that a studio takes in and makes, by project. Nothing outside it is ever given out.

::

    WORK/.lock                     held while a studio is open
    WORK/.uploads/                 what comes in, until it is looked at
    WORK/jobs/N.json               what was asked for, and what came of it
    WORK/projects/NAME/KIND/FILE   KIND is one of `KINDS`
"""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import time
import unicodedata
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lipwright.data.errors import InputError
from lipwright.data.files import sweep_all, whole_file

if TYPE_CHECKING:
    from filelock import BaseFileLock

FOOTAGE, SOUNDS, CONSENTS, RUNS, RENDERS, MOUTHS = KINDS = ("footage", "sounds", "consents", "runs", "renders", "mouths")
"""What a project holds, beside its corpus."""

CORPUS, REPORT = "corpus", "report.html"

SERVED = (FOOTAGE, SOUNDS, RENDERS)
"""What a browser may have, beside the corpus's report."""

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".wmv", ".3gp")
SOUND_SUFFIXES = (".wav", ".mp3", ".m4a", ".aac", ".flac", ".ogg", ".opus", *VIDEO_SUFFIXES)
SUFFIXES = {FOOTAGE: VIDEO_SUFFIXES, SOUNDS: SOUND_SUFFIXES, CONSENTS: (".txt", ".md", ".json", ".pdf")}
"""What may be brought, by what it is for."""

LONGEST_NAME = 80
"""Bytes of a name that is given, so that others can be made of it."""

FIRST = "first"
"""The project of one who has not named any."""

ABANDONED_S = 600.0
"""What has been coming in for so long without a byte never will."""


def plain_name(words: str, end: str = "") -> str:
    """Return words as a name that any file system takes, no longer than `LONGEST_NAME` together with what stands at its end.

    Raises
    ------
    InputError
        Nothing is left.
    """
    kept = _plain(words)
    while len(f"{kept}{end}".encode()) > LONGEST_NAME:
        kept = kept[:-1].rstrip(" .-")
    return f"{kept}{end}"


def _plain(words: str) -> str:
    """Return words with letters, digits, space, and ``- _ . ( )`` alone."""
    spaced = re.sub(r"\s+", " ", unicodedata.normalize("NFC", words))
    kept = "".join(c if c.isalnum() or c in " -_.()" else "-" for c in spaced).strip(" .-")
    if not kept:
        raise InputError(f"{words!r} holds no letter or digit; give another name")
    return kept


@dataclass(frozen=True)
class Project:
    """A person, their footage, and what was made of it."""

    folder: Path

    @property
    def name(self) -> str:
        """What it is called."""
        return self.folder.name

    @property
    def corpus(self) -> Path:
        """Its corpus, made or yet to be made."""
        return self.folder / CORPUS

    def names(self, kind: str) -> list[str]:
        """List what it holds of a kind, oldest first."""
        found = []
        with suppress(FileNotFoundError):
            for path in (self.folder / kind).iterdir():
                with suppress(FileNotFoundError):  # a job may take it away
                    right = path.is_dir() if kind == RUNS else path.is_file() and path.suffix != ".json"
                    if right and not path.name.startswith(".") and not path.is_symlink():
                        found.append((path.stat().st_mtime_ns, path.name))
        return [name for _, name in sorted(found)]

    def path(self, kind: str, name: str) -> Path:
        """Return where something is that it holds; `InputError` if it holds no such thing."""
        if kind not in KINDS or name not in self.names(kind):
            raise InputError(f"the project {self.name} holds no {name!r} among its {kind}; choose again")
        return self.folder / kind / name

    def place(self, kind: str, name: str) -> Path:
        """Return where something is to be made."""
        path = self.folder / kind / _plain(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def metrics(self, run: str) -> list[dict[str, Any]]:
        """Return what was written down of each epoch of a run, also of one that is being trained."""
        from lipwright.pipeline.record import METRICS_FILE

        runs = self.folder / RUNS
        for folder in (*sorted(runs.glob(f".{glob.escape(run)}.*.partial")), runs / run):
            try:
                lines = (folder / METRICS_FILE).read_text().splitlines(keepends=True)
            except OSError:
                continue
            return [json.loads(line) for line in lines if line.endswith("\n")]
        return []

    def mouth(self, render: str) -> Path:
        """Return where the mouth track of a render is, or is to be."""
        return self.place(MOUTHS, f"{render}.track")

    def made(self, render: str) -> dict[str, Any]:
        """Return what is known of a render: what was ``given``, the ``result``, its ``edits``, its own ``words``."""
        path = self.path(RENDERS, render)
        try:
            return json.loads(path.with_name(f"{render}.json").read_text())
        except (OSError, ValueError):
            raise InputError(f"{render} was made by hand, or its record is lost; render it again") from None

    def keep(self, render: str, made: dict[str, Any]) -> None:
        """Write down what is known of a render."""
        with whole_file(self.place(RENDERS, f"{render}.json")) as partial:
            partial.write_text(json.dumps(made))

    def sweep(self) -> None:
        """Remove what jobs that were killed have left half-written."""
        for kind in KINDS:
            with suppress(OSError):
                sweep_all(self.folder / kind)

    def take_in(self, kind: str, upload: Path) -> str:
        """Move what was uploaded into the project, once it is found to be what it should; return the name that it has there.

        Raises
        ------
        InputError
            It is of another kind, or cannot be read; it is gone.
        """
        try:
            suffix = upload.suffix.lower()
            if suffix not in SUFFIXES[kind]:
                raise InputError(f"{upload.name} is not one of {', '.join(SUFFIXES[kind])}; bring another file")
            name, count = plain_name(upload.stem, suffix), 1
            if kind != CONSENTS:
                from lipwright.data.media import probe

                media = probe(upload)
                media.need_video() if kind == FOOTAGE else media.need_audio()
        except InputError as error:
            upload.unlink(missing_ok=True)
            raise type(error)(str(error).replace(str(upload), upload.name)) from None
        taken = {*self.names(kind)}
        while name in taken:
            count += 1
            name = plain_name(upload.stem, f" {count}{suffix}")
        upload.replace(self.place(kind, name))
        return name


class WorkFolder:
    """A folder with projects, which one studio at a time works in.

    Parameters
    ----------
    folder
        Made if it is not there.

    Raises
    ------
    InputError
        It cannot be made or written to, or another studio has it open.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.uploads, self.jobs = self.folder / ".uploads", self.folder / "jobs"
        try:
            for needed in (self.uploads, self.jobs, self.folder / "projects"):
                needed.mkdir(parents=True, exist_ok=True)
            self._lock = self._locked()
            self.sweep(0.0)
        except OSError as error:
            raise InputError(f"{folder} cannot be worked in ({error.strerror}); choose another --work") from None
        if not self.projects():
            self.project(FIRST, new=True)
        for name in self.projects():
            self.project(name).sweep()

    def _locked(self) -> BaseFileLock:
        from filelock import FileLock, Timeout

        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise InputError(f"{self.folder} is open in another studio; stop that one, or choose another --work") from None
        return lock

    def close(self) -> None:
        """Let others have it."""
        self._lock.release()

    def sweep(self, older_than_s: float = ABANDONED_S) -> None:
        """Remove uploads that were broken off."""
        before = time.time() - older_than_s
        for path in self.uploads.iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()

    def free_bytes(self) -> int:
        """Return how much the disk still takes."""
        return shutil.disk_usage(self.folder).free

    def projects(self) -> list[str]:
        """List the names of the projects."""
        return sorted(path.name for path in (self.folder / "projects").iterdir() if _is_ours(path))

    def project(self, name: str, *, new: bool = False) -> Project:
        """Return a project; make it, if it is to be a new one.

        Raises
        ------
        InputError
            There is no such project, or there is one already.
        """
        if new:
            name = plain_name(name)
            if name in self.projects():
                raise InputError(f"there is a project {name} already; choose it, or give another name")
            (self.folder / "projects" / name).mkdir()
        elif name not in self.projects():
            raise InputError(f"there is no project {name!r}; choose one, or name a new one")
        return Project(self.folder / "projects" / name)

    def served(self, project: str, kind: str, name: str) -> Path | None:
        """Return the file that a browser asks for; None where there is none that it may have."""
        try:
            found = self.project(project)
            if (kind, name) == (CORPUS, REPORT):
                path = found.corpus / REPORT
                return path if path.is_file() and not path.is_symlink() else None
            return found.path(kind, name) if kind in SERVED else None
        except InputError:
            return None

    def upload(self, path: str) -> Path:
        """Return a file that has come in; `InputError` if it lies elsewhere."""
        real = Path(os.path.realpath(path))
        if not real.is_relative_to(self.uploads.resolve()) or not real.is_file():
            raise InputError("that file has not come in whole; bring it again")
        return real


def _is_ours(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not path.name.startswith(".")


def usual_folder() -> Path:
    """Return where a studio works if it is not told: ``lipwright/studio`` where the user's data lie."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "lipwright" / "studio"
