"""A corpus on disk: what was taken from a set of videos, one clip per segment, and a manifest of it all.

::

    CORPUS/
      corpus.json            format version, settings and their hash
      manifest.jsonl         one row per segment, or per rejected source
      clips/<id>.safetensors arrays of one segment

Every file is written under a temporary name and renamed, so that the folder is valid at any moment.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lipwright.data.errors import CorpusError
from lipwright.data.features import STEP_HZ, FeatureSettings
from lipwright.data.files import whole_file
from lipwright.data.landmarks import TRACKER_VERSION
from lipwright.data.mouth import MouthTrack, Speaker, interpolate
from lipwright.data.segments import BOUNDS
from lipwright.data.sync import SYNC_VERSION
from lipwright.data.voice import knows_voices

VERSION = 1
Row = dict[str, Any]
"""A line of the manifest; its keys are in `docs/formats.md`."""

ROW_KEYS = {"id", "path", "sha256", "speaker", "start_s", "end_s", "split", "status", "settings_hash"}
"""Those of them that this module and training cannot do without."""

LEAST_SPLIT_S = 14.0
"""Of a speaker with less, the validation part would be shorter than a second; it is on one side, whole."""

VALIDATION_SHARE = 0.15
"""The last part of each speaker's time, kept for validation; of many speakers with little time, so many."""

SPLIT_GAP_S = 1.0
"""Between what is trained on and what is validated on, so that they share no sound."""


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
    """A corpus folder, opened or made."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], rows: list[Row]) -> None:
        self.folder = folder
        self.settings = settings
        self.rows = rows

    @classmethod
    def create(cls, folder: Path, features: FeatureSettings) -> Corpus:
        """Open `folder` to add to it, or make it.

        Raises
        ------
        CorpusError
            It holds something else, or a corpus of another version.
        """
        if (folder / "corpus.json").exists():
            corpus = cls.load(folder)
            corpus.settings = settings_of(features)
        elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise CorpusError(f"{folder} exists and is not a corpus; choose another --out")
        else:
            corpus = cls(folder, settings_of(features), [])
        (folder / "clips").mkdir(parents=True, exist_ok=True)
        head = {
            "format": "lipwright-corpus",
            "version": VERSION,
            "settings": corpus.settings,
            "settings_hash": corpus.hash,
        }
        _write(folder / "corpus.json", json.dumps(head, indent=2).encode())
        return corpus

    @classmethod
    def load(cls, folder: Path) -> Corpus:
        """Open a corpus.

        Raises
        ------
        CorpusError
            The folder is missing, is no corpus, is broken or of another version.
        """
        try:
            head = json.loads((folder / "corpus.json").read_text())
            manifest = folder / "manifest.jsonl"
            rows = [json.loads(line) for line in manifest.read_text().splitlines()] if manifest.exists() else []
        except FileNotFoundError:
            raise CorpusError(f"{folder} is not a corpus (no corpus.json); make one with lipwright preprocess") from None
        except (OSError, ValueError) as error:
            raise CorpusError(f"{folder} is broken ({error}); run lipwright preprocess again into a new folder") from None
        if not isinstance(head, dict) or head.get("format") != "lipwright-corpus" or head.get("version") != VERSION:
            version = head.get("version") if isinstance(head, dict) else None
            raise CorpusError(f"{folder} is a corpus of version {version}; this Lipwright reads version {VERSION}")
        if not isinstance(head.get("settings"), dict):
            raise CorpusError(f"{folder / 'corpus.json'} lacks its settings; run lipwright preprocess again into a new folder")
        for number, row in enumerate(rows, 1):
            if not isinstance(row, dict) or not row.keys() >= ROW_KEYS:
                raise CorpusError(f"{folder / 'manifest.jsonl'} is broken in line {number}; run lipwright preprocess again")
        return cls(folder, head["settings"], rows)

    @property
    def hash(self) -> str:
        """Short name of the settings that clips are made with."""
        return settings_hash(self.settings)

    @property
    def usable(self) -> list[Row]:
        """The rows whose clip can be trained on: made with the corpus's settings, all alike."""
        own = self.hash
        return [row for row in self.rows if row["status"] == "ok" and row["settings_hash"] == own]

    @property
    def stale(self) -> list[Row]:
        """The rows that were made with other settings, by an earlier version say."""
        own = self.hash
        return [row for row in self.rows if row["settings_hash"] != own]

    def find(self, sha256: str) -> list[Row]:
        """Return the rows of a source that were made with today's settings and whose clips are still there."""
        own = self.hash
        rows = [r for r in self.rows if r["sha256"] == sha256 and r["settings_hash"] == own]
        whole = all(r["status"] != "ok" or self.clip_path(r["id"]).exists() for r in rows)
        return rows if whole else []

    def clip_path(self, clip_id: str) -> Path:
        """Return where a clip stands."""
        return self.folder / "clips" / f"{clip_id}.safetensors"

    def add(self, rows: Iterable[Row]) -> None:
        """Put rows in place of those of the same sources, by path or by content, and write the manifest."""
        rows = list(rows)
        paths, contents = ({row[key] for row in rows} for key in ("path", "sha256"))
        kept: list[Row] = []
        replaced: list[Row] = []
        for row in self.rows:
            (replaced if row["path"] in paths or row["sha256"] in contents else kept).append(row)
        self.rows = kept + rows
        self.rows.sort(key=lambda r: (r["speaker"], r["path"], r["start_s"] or 0))
        _assign_splits(self.rows)
        lines = "".join(json.dumps(row) + "\n" for row in self.rows)
        _write(self.folder / "manifest.jsonl", lines.encode())
        for gone in {row["id"] for row in replaced} - {row["id"] for row in rows if row["status"] == "ok"}:
            self.clip_path(gone).unlink(missing_ok=True)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep others from working on the corpus meanwhile.

        Raises
        ------
        CorpusError
            Another process works on it.
        """
        import fcntl

        with (self.folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise CorpusError(f"{self.folder} is being worked on by another run; wait for it") from None
            yield

    def replace(self, rows: Iterable[Row]) -> None:
        """Let the manifest hold these rows and no others, then remove the clips that no row names any more."""
        before = {row["id"] for row in self.rows}
        self.rows = sorted(rows, key=lambda r: (r["speaker"], r["path"], r["start_s"] or 0))
        _assign_splits(self.rows)
        _write(self.folder / "manifest.jsonl", "".join(json.dumps(row) + "\n" for row in self.rows).encode())
        for gone in before - {row["id"] for row in self.rows if row["status"] == "ok"}:
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


def save_clip(path: Path, clip: Clip) -> None:
    """Write a clip's arrays to a file, whole or not at all."""
    from safetensors.numpy import save

    _write(path, save({name: np.ascontiguousarray(values) for name, values in vars(clip).items()}))


def _write(path: Path, content: bytes) -> None:
    with whole_file(path) as partial:
        partial.write_bytes(content)


def _assign_splits(rows: list[Row]) -> None:
    """Give each usable row ``split``: the spans, in seconds of its source, to train on and to validate on."""
    by_speaker = defaultdict(list)
    for row in rows:
        row["split"] = None
        if row["status"] == "ok":
            by_speaker[row["speaker"]].append(row)
    heard_s = judged_s = 0.0  # of speakers who are too short to be split
    for own in by_speaker.values():
        time_s = sum(r["end_s"] - r["start_s"] for r in own)
        if time_s < LEAST_SPLIT_S:
            heard_s += time_s
            judges = judged_s + time_s <= VALIDATION_SHARE * heard_s
            judged_s += time_s * judges
            for row in own:
                span = [row["start_s"], row["end_s"]]
                row["split"] = {"train": None if judges else span, "validation": span if judges else None}
            continue
        border = (1 - VALIDATION_SHARE) * time_s
        before = 0.0
        for row in own:
            start, end = row["start_s"], row["end_s"]
            cut = start + border - before
            before += end - start
            row["split"] = {
                "train": _span(start, min(end, cut)),
                "validation": _span(max(start, cut + SPLIT_GAP_S), end),
            }


def _span(start_s: float, end_s: float) -> list[float] | None:
    return [round(start_s, 3), round(end_s, 3)] if end_s > start_s else None
