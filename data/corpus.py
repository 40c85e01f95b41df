"""A corpus on disk: what was taken from a set of videos, one clip per segment, and a manifest of it all.

::

    CORPUS/
      corpus.json            format version, settings and their hash
      manifest.jsonl         one row per segment, or per rejected source (`lipwright.data.manifest`)
      clips/<id>.safetensors arrays of one segment

Every file is written under a temporary name and renamed, so that the folder is valid at any moment; one run at a time changes
it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lipwright.data.errors import CorpusError, MissingPartError
from lipwright.data.features import STEP_HZ, FeatureSettings
from lipwright.data.files import whole_file
from lipwright.data.landmarks import TRACKER_VERSION
from lipwright.data.manifest import AGAIN, Manifest, Row
from lipwright.data.mouth import MouthTrack, Speaker, interpolate
from lipwright.data.segments import BOUNDS
from lipwright.data.sync import SYNC_VERSION
from lipwright.data.voice import knows_voices

VERSION = 1

LOCK = ".lock"


def settings_of(features: FeatureSettings) -> dict[str, Any]:
    """Return everything that a clip's content depends on, as JSON values."""
    return {
        "features": features.to_dict(),
        "tracker": TRACKER_VERSION,
        "segments": BOUNDS,
        "sync": SYNC_VERSION,
        "voices": knows_voices(),
    }


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Return a short name for settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def need_settings(folder: Path, features: FeatureSettings) -> None:
    """Make sure that clips that are made here are like all others of a corpus, which may be another machine's.

    Raises
    ------
    MissingPartError
        They would be made with other settings: an extra is missing, say.
    CorpusError
        The corpus cannot be seen from here.
    """
    try:
        head = json.loads((folder / "corpus.json").read_text())
    except OSError as error:
        raise CorpusError(f"{folder} cannot be seen ({error.strerror}); is its disk there?") from None
    own, there = json.loads(json.dumps(settings_of(features))), head["settings"]
    if own != there:
        names = ", ".join(name for name in own if own[name] != there.get(name))
        raise MissingPartError(
            f"this machine would make clips with other settings than the corpus ({names}); "
            "install the same extras as where lipwright runs"
        )


@dataclass(frozen=True)
class Clip:
    """The arrays of one segment.

    Attributes
    ----------
    features : ndarray, shape (T, 28), float32
        100 steps a second from the segment's start.
    audio : ndarray, shape (N,), int16
        16 kHz mono.
    other_sound : ndarray, shape (T,), bool
        Where music or the like is heard, and nobody speaks: a mouth says nothing about it.
    times_s : ndarray, shape (F,), float64
        Of the video frames, from the segment's start.
    mouth : ndarray, shape (F, 40, 3), float32
        In face space; zero where not valid.
    rotation, scale, shift : ndarray, shapes (F, 3, 3), (F,), (F, 3)
        Head pose, as in `Pose`.
    blendshapes : ndarray, shape (F, 52), float32
    valid : ndarray, shape (F,), bool
        Where there is a face.
    """

    features: np.ndarray
    audio: np.ndarray
    other_sound: np.ndarray
    times_s: np.ndarray
    mouth: np.ndarray
    rotation: np.ndarray
    scale: np.ndarray
    shift: np.ndarray
    blendshapes: np.ndarray
    valid: np.ndarray

    def mouth_track(self, speaker: Speaker) -> MouthTrack:
        """Return the mouth on the features' 100 Hz grid; it is not valid where other sound than speech is heard."""
        steps = np.arange(len(self.features)) / STEP_HZ
        xyz, valid = interpolate(self.times_s, self.mouth, self.valid, steps)
        return MouthTrack(xyz, valid & ~self.other_sound, speaker)


class Corpus:
    """A corpus folder, opened or made.

    Parameters
    ----------
    folder
    settings
        Those that clips are made with.
    manifest
        What is in it.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], manifest: Manifest) -> None:
        self.folder, self.settings, self._manifest = folder, settings, manifest
        self._is_alone = False

    @classmethod
    def planned(cls, folder: Path, features: FeatureSettings) -> Corpus:
        """Return what `create` would, and touch nothing.

        Raises
        ------
        CorpusError
            The folder holds something else, or a corpus of another version.
        """
        settings = settings_of(features)
        if (folder / "corpus.json").exists():
            return cls(folder, settings, cls.load(folder)._manifest)
        if folder.exists() and not _is_empty(folder):
            raise CorpusError(f"{folder} exists and is not a corpus; choose another --out")
        return cls(folder, settings, Manifest(folder))

    @classmethod
    def create(cls, folder: Path, features: FeatureSettings) -> Corpus:
        """Open `folder` to add to it, or make it.

        Raises
        ------
        CorpusError
            It holds something else, or a corpus of another version, or its settings change while another run is at work on it.
        """
        corpus = cls.planned(folder, features)
        (folder / "clips").mkdir(parents=True, exist_ok=True)
        head = folder / "corpus.json"
        if not head.exists():
            corpus._write_head()
        elif json.loads(head.read_text()).get("settings_hash") != corpus.hash:
            with corpus.alone():
                corpus._write_head()
        return corpus

    @classmethod
    def load(cls, folder: Path) -> Corpus:
        """Open a corpus to look at it; a run that works on it is not disturbed.

        Raises
        ------
        CorpusError
            The folder is missing, is no corpus, is broken or of another version.
        """
        try:
            head = json.loads((folder / "corpus.json").read_text())
            manifest = Manifest.read(folder)
        except FileNotFoundError:
            raise CorpusError(f"{folder} is not a corpus (no corpus.json); make one with lipwright preprocess") from None
        except (OSError, ValueError) as error:
            raise CorpusError(f"{folder} is broken ({error}); {AGAIN}") from None
        if not isinstance(head, dict) or head.get("format") != "lipwright-corpus" or head.get("version") != VERSION:
            version = head.get("version") if isinstance(head, dict) else None
            raise CorpusError(f"{folder} is a corpus of version {version}; this Lipwright reads version {VERSION}")
        if not isinstance(head.get("settings"), dict):
            raise CorpusError(f"{folder / 'corpus.json'} lacks its settings; {AGAIN}")
        return cls(folder, head["settings"], manifest)

    def _write_head(self) -> None:
        head = {"format": "lipwright-corpus", "version": VERSION, "settings": self.settings, "settings_hash": self.hash}
        _write(self.folder / "corpus.json", json.dumps(head, indent=2).encode())

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only one who changes the corpus, until the end; then all that was added stands in the manifest.

        What stands on disk is read again at the beginning, and what killed runs left behind is put in order.

        Raises
        ------
        CorpusError
            Another run is at work on it.
        """
        with _lock(self.folder):
            with suppress(OSError):  # a full disk: others are told less
                now = time.strftime("%F %H:%M")
                (self.folder / LOCK).write_text(f"process {os.getpid()} on {platform.node()}, since {now}")
            self._manifest = Manifest.read(self.folder)
            for left in (self.folder / "clips").glob(".*.partial"):
                left.unlink(missing_ok=True)
            self.fold()
            self._is_alone = True
            try:
                yield
            except BaseException:
                with suppress(OSError, CorpusError):  # the journal still has it all; memory may not, after Ctrl-C
                    self._manifest = Manifest.read(self.folder)
                    self.fold()
                raise
            else:
                self.fold()
            finally:
                self._is_alone = False

    def fold(self) -> None:
        """Write the manifest, if anything was added."""
        if not self._manifest.is_written:
            self._manifest.write()

    @property
    def rows(self) -> list[Row]:
        """The manifest's rows, by speaker, path and time."""
        return self._manifest.rows

    @cached_property
    def hash(self) -> str:
        """Short name of the settings that clips are made with."""
        return settings_hash(self.settings)

    @property
    def usable(self) -> list[Row]:
        """The rows whose clip can be trained on: made with the corpus's settings, all alike."""
        return [row for row in self.current if row["status"] == "ok"]

    @property
    def current(self) -> list[Row]:
        """The rows that were made with the corpus's settings."""
        own = self.hash
        return [row for row in self.rows if row["settings_hash"] == own]

    @property
    def stale(self) -> list[Row]:
        """The rows that were made with other settings, by an earlier version say."""
        own = self.hash
        return [row for row in self.rows if row["settings_hash"] != own]

    def of_path(self, path: str) -> list[Row]:
        """Return the rows of the source that lay there, however they were made."""
        return self._manifest.of_path(path)

    def of_content(self, sha256: str) -> list[Row]:
        """Return the rows of the source that holds these bytes, however they were made."""
        return self._manifest.of_content(sha256)

    def find(self, sha256: str) -> list[Row]:
        """Return the rows of a source that were made with today's settings and whose clips are still there."""
        own, rows = self.hash, self.of_content(sha256)
        whole = all(r["settings_hash"] == own and (r["status"] != "ok" or self.clip_path(r["id"]).exists()) for r in rows)
        return rows if whole else []

    def clip_path(self, clip_id: str) -> Path:
        """Return where a clip stands."""
        return self.folder / "clips" / f"{clip_id}.safetensors"

    def add(self, rows: Iterable[Row]) -> None:
        """Put rows in place of those of the same sources, by path or by content; clips that no row names any more are gone.

        From here on they are kept, whatever happens. One who is not `alone` is so for this moment, or is refused.
        """
        if not self._is_alone:
            with self.alone():
                return self.add(rows)
        rows = list(rows)
        self._manifest.note(rows)
        self._drop(self._manifest.put(rows), kept=rows)

    def replace(self, rows: Iterable[Row]) -> None:
        """Hold these rows and no others; to be called by one who is `alone`."""
        before, self._manifest = self.rows, Manifest(self.folder)
        self._manifest.hold(rows)
        self._manifest.write()
        self._drop(before, kept=self.rows)

    def _drop(self, rows: Iterable[Row], kept: Iterable[Row]) -> None:
        """Remove the clips of rows that are no more."""
        for gone in {row["id"] for row in rows} - {row["id"] for row in kept if row["status"] == "ok"}:
            self.clip_path(gone).unlink(missing_ok=True)

    def save_clip(self, clip_id: str, clip: Clip) -> None:
        """Write a clip, whole or not at all."""
        save_clip(self.clip_path(clip_id), clip)

    def load_clip(self, clip_id: str) -> Clip:
        """Read a clip.

        Raises
        ------
        CorpusError
            It is missing or broken.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        path = self.clip_path(clip_id)
        try:
            return Clip(**load_file(path))
        except (OSError, SafetensorError, TypeError) as error:
            raise CorpusError(f"{path} is missing or broken ({error}); run lipwright preprocess again") from None


def require_idle(folder: Path) -> None:
    """Make sure that at this moment nobody changes a corpus, and touch nothing.

    Raises
    ------
    CorpusError
        A run is at work on it.
    """
    with suppress(OSError):  # who may not open the lock cannot ask
        if (folder / LOCK).exists():
            with _lock(folder):
                pass


def _lock(folder: Path) -> AbstractContextManager[object]:
    from filelock import FileLock, Timeout

    path = folder / LOCK
    try:
        return FileLock(path).acquire(timeout=0)
    except Timeout:
        who = path.read_text() or "another run"
        raise CorpusError(f"{folder} is being worked on by {who}; wait until it ends, or stop it") from None


def _is_empty(folder: Path) -> bool:
    """Whether there is nothing in a folder but what a run left that ended before there was a corpus."""
    if not folder.is_dir():
        return False
    found = [path for path in folder.iterdir() if path.suffix != ".partial"]
    return all(path.name == "clips" and path.is_dir() and not any(path.iterdir()) for path in found)


def save_clip(path: Path, clip: Clip) -> None:
    """Write a clip's arrays to a file, whole or not at all."""
    from safetensors.numpy import save

    _write(path, save({name: np.ascontiguousarray(values) for name, values in vars(clip).items()}))


def _write(path: Path, content: bytes) -> None:
    with whole_file(path) as partial:
        partial.write_bytes(content)
