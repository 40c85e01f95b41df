"""One video → clips: its segments, each with features, mouth, pose and blendshapes; sound and picture put together."""

from __future__ import annotations

import errno
import hashlib
import logging
import math
import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lipwright.data.audio import Speech, StoredSpeech
from lipwright.data.cache import cache_folder
from lipwright.data.corpus import Clip, need_settings, save_clip, settings_hash, settings_of
from lipwright.data.errors import FaceError, InputError, LipwrightError, MediaError
from lipwright.data.features import HOP, STEP_HZ, FeatureSettings, compute_features, frame_energy_db, gain_for
from lipwright.data.landmarks import FaceTrack, face_track
from lipwright.data.manifest import Row
from lipwright.data.media import file_sha256, probe, rate_of
from lipwright.data.mouth import aperture, interpolate, measure_mouth, measure_speaker
from lipwright.data.segments import FLAWS, LEAST_S, NO_SOUND, OTHER_SOUND, find_segments, usable_frames
from lipwright.data.sync import Lag, find_lag
from lipwright.data.threads import trim_heap
from lipwright.data.voice import find_other_sound
from lipwright.models.errors import ModelError

log = logging.getLogger(__name__)

QUIETEST_DB = -60.0
"""A source whose loud moments stay under this has no speech to learn from."""

CORRECTED_FROM_S = 20.0
"""In less, a lag is seldom sure."""

LEAST_CORRECTED_MS = 75.0
"""Of people in sync, mouths move up to 62 ms earlier or later than the base model says: that is theirs (`docs/corpora.md`)."""

MOST_OTHER = 0.5
"""A segment with music or the like, and no voice, in more than this share of it is left out; in less, those moments are."""

GRID_S = 0.025
"""Of a stretch of frames, the steps inside of it are shorter by less than this."""

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE})
"""Errors of this machine, whatever the file: no room, no writing, no more open files."""


ENDED = "ended the process that read it"
"""Said of a source that nobody should read again in passing."""


@dataclass(frozen=True)
class Source:
    """A video to take in, who speaks in it, and which of several faces that is (`lipwright.data.faces.WHICH`)."""

    path: Path
    speaker: str
    face: str | None = None

    @property
    def place(self) -> str:
        """Where the file is, whatever link or folder it was found by."""
        return os.path.realpath(self.path)


def stamp_of(path: Path) -> dict[str, int | None]:
    """Return what a row says of a file so that it is known again without being read: its size, and when it was changed."""
    found = path.stat()
    return {"bytes": found.st_size, "modified_ns": found.st_mtime_ns}


def take_in(source: Source, folder: Path, features: FeatureSettings) -> list[Row]:
    """Process one source into clip files.

    Whatever is wrong with the source becomes its row; what is raised would happen to other sources too.

    Parameters
    ----------
    source
    folder
        Of the corpus.
    features
        How to compute features.

    Returns
    -------
    list of dict
        Manifest rows, one a segment; or a single one, without a start, of a source that cannot be used.

    Raises
    ------
    MissingPartError
        A package or a model is missing, or clips would not be like those of the corpus.
    CorpusError
        The corpus cannot be seen.
    OSError
        The corpus or the cache cannot be written: a full disk, say.
    InputError
        The folder of the source is gone.
    """
    need_settings(folder, features)
    common = _common(source, features)
    frames: int | None = None
    face_rate: float | None = None
    try:
        try:
            sha256 = _identify(common, source)
        except OSError as error:
            raise MediaError(f"{source.path} cannot be read ({error.strerror}); check the path and your rights") from None
        media = probe(source.path)
        media.need_video()
        samples = StoredSpeech(media)
        loud_db = float(np.percentile(frame_energy_db(samples, features), 95))
        if loud_db < QUIETEST_DB:
            raise MediaError(f"{source.path} is silent (loud moments at {loud_db:.0f} dB); nothing to learn from")
        track = face_track(media, which=source.face, sha256=sha256)
        trim_heap()
        frames, face_rate = len(track.pts), round(float(track.found.mean()), 4)
        rate = rate_of(track.times_s)
        common["rate"] = "variable" if rate is None else str(rate)
        segments = find_segments(track)
        if all(s.reason for s in segments):
            advice = "; say which one with --face" if track.crowded.any() else ""
            flaws = _flaws(track)
            raise FaceError(f"{source.path} never shows a face for {LEAST_S:g} s that can be learned from ({flaws}){advice}")
        other = find_other_sound(samples, features)
        lag, late = measure_lag(samples, other, track)
        if lag is not None:
            common |= {"lag_ms": lag.lag_ms, "lag_confidence": lag.confidence, "lag_corrected": late}
        late_s = lag.lag_ms / 1000 if lag is not None and late else 0.0
        heard = _Heard(samples, other, features, gain_for(samples, features))
        which = f"-{source.face}" if source.face else ""
        rows: list[Row] = []
        for segment in segments:
            cut = track.part(slice(segment.first, segment.end))
            usable, _ = usable_frames(cut)
            row = _describe(cut, usable, late_s, heard)
            reason = segment.reason
            if reason is None and row["end_s"] - row["start_s"] < LEAST_S - GRID_S:
                reason = NO_SOUND
            if reason is None and row["other_sound_s"] > MOST_OTHER * (row["end_s"] - row["start_s"]):
                reason = OTHER_SOUND
            row["id"] = f"{sha256[:12]}-{round(1000 * row['start_s'])}{which}"
            if reason is None:
                save_clip(folder / "clips" / f"{row['id']}.safetensors", _clip_of(cut, usable, row, late_s, heard))
            rows.append(row | common | {"status": "rejected" if reason else "ok", "reason": reason})
        if all(row["reason"] for row in rows):
            heard_there = " and ".join(sorted({row["reason"] for row in rows} & {NO_SOUND, OTHER_SOUND}))
            raise MediaError(f"{source.path} has no speech where its face could be learned from ({heard_there})")
    except Exception as error:
        return [_rejected(common, _reason(error, source, folder), frames, face_rate)]
    return rows


def give_up(source: Source, folder: Path, features: FeatureSettings, how: str) -> list[Row]:
    """Return what `take_in` would, of a source that ends the process that reads it; `how` is the signal, say."""
    common = _common(source, features)
    with suppress(OSError):
        _identify(common, source)
    reason = f"{source.path} {ENDED} ({how}); try it alone with --force, or leave it out"
    return [_rejected(common, reason)]


def _common(source: Source, features: FeatureSettings) -> Row:
    """Return what all rows of a source have, before it is read."""
    return {
        "path": source.place,
        "bytes": None,
        "modified_ns": None,
        "sha256": None,
        "speaker": source.speaker,
        "face": source.face,
        "rate": None,
        "lag_ms": None,
        "lag_confidence": None,
        "lag_corrected": False,
        "split": None,
        "settings_hash": settings_hash(settings_of(features)),
    }


def _identify(common: Row, source: Source) -> str:
    """Put into a row by what its source is known again; return the hash of its bytes."""
    common |= stamp_of(source.path)
    if not common["bytes"]:
        raise MediaError(f"{source.path} is empty (0 bytes); copy or record it again")
    common["sha256"] = sha256 = file_sha256(source.path)
    return sha256


def _rejected(common: Row, reason: str, frames: int | None = None, face_rate: float | None = None) -> Row:
    """Return the row of a source that cannot be used."""
    named = common["sha256"] or hashlib.sha256(os.fsencode(common["path"])).hexdigest()
    ends = {"id": f"{named[:12]}-0", "start_s": None, "end_s": None, "frames": frames, "face_rate": face_rate}
    return ends | common | {"status": "rejected", "reason": reason}


def _reason(error: Exception, source: Source, folder: Path) -> str:
    """Say why a source cannot be used; what would happen to the next source too is raised: it is not the source's fault."""
    if not source.path.absolute().parent.is_dir():
        raise InputError(f"{source.path.absolute().parent} cannot be seen; is its disk there?") from error
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, LipwrightError | ModelError | ImportError) or _of_our_files(error, source, folder):
        raise error
    reason = f"{source.path} cannot be read ({type(error).__name__}: {error})"
    log.warning("%s", reason)
    log.debug("where:", exc_info=error)
    return reason


def _of_our_files(error: Exception, source: Source, folder: Path) -> bool:
    """Tell whether an error comes of writing, or of files in the corpus or the cache."""
    if not isinstance(error, OSError):
        return False
    named = Path(str(error.filename)).absolute() if error.filename else source.path.absolute()
    ours = any(named.is_relative_to(own.absolute()) for own in (folder, cache_folder()))
    return error.errno in NO_ROOM or (ours and named != source.path.absolute())


def _flaws(track: FaceTrack) -> str:
    """Say what is wrong with the frames of a track, most often first."""
    usable, flaw = usable_frames(track)
    counts = Counter(FLAWS[k] for k in flaw[~usable])
    seen = [f"{name} in {count / len(flaw):.0%} of its frames" for name, count in counts.most_common()]
    shots = f" in {len(track.shots)} shots" if len(track.shots) > 1 else ""
    return ", ".join(seen) or f"it has {track.times_s[-1] - track.times_s[0]:.1f} s{shots}"


def measure_lag(samples: Speech, other: np.ndarray, track: FaceTrack) -> tuple[Lag | None, bool]:
    """Compare the mouth with what the base model hears; return the lag, one for all of a file, and whether to correct it."""
    from lipwright.pipeline.predict import base_model, predict_mouth

    mouth, (usable, _) = measure_mouth(track), usable_frames(track)
    if not usable.any():
        return None, False
    said = predict_mouth(base_model(), samples, measure_speaker(mouth[usable])).measure(aperture)
    opening, valid = interpolate(track.times_s, aperture(mouth), usable, np.arange(len(said)) / STEP_HZ)
    lag = find_lag(said, opening, valid & ~other)
    enough = bool(valid.sum() >= CORRECTED_FROM_S * STEP_HZ)
    return lag, lag is not None and lag.confident and enough and abs(lag.lag_ms) > LEAST_CORRECTED_MS


@dataclass(frozen=True)
class _Heard:
    """The sound of a file, what in it is no voice (T,), and how its features are computed."""

    samples: Speech
    other: np.ndarray
    features: FeatureSettings
    gain: float


def _describe(cut: FaceTrack, usable: np.ndarray, late_s: float, heard: _Heard) -> Row:
    """Return what a segment's row says of its frames.

    `late_s` is by how much the picture comes after its sound; the sound's clock counts.
    """
    times_s = cut.times_s - late_s
    start = max(math.ceil(round(times_s[0] * STEP_HZ, 3)), 0)
    end = max(min(math.floor(round(times_s[-1] * STEP_HZ, 3)) + 1, len(heard.other)), start)
    return {
        "start_s": start / STEP_HZ,
        "end_s": end / STEP_HZ,
        "frames": len(times_s),
        "face_rate": round(float(usable.mean()), 4),
        "other_sound_s": int(heard.other[start:end].sum()) / STEP_HZ,
    }


def _clip_of(cut: FaceTrack, usable: np.ndarray, row: Row, late_s: float, heard: _Heard) -> Clip:
    """Return the clip of a segment that its row describes."""
    start, end = (round(row[name] * STEP_HZ) for name in ("start_s", "end_s"))
    return Clip(
        features=compute_features(heard.samples, heard.features, gain=heard.gain, steps=(start, end)),
        other_sound=heard.other[start:end],
        audio=np.clip(np.round(heard.samples[start * HOP : end * HOP] * 32767), -32768, 32767).astype(np.int16),
        times_s=cut.times_s - late_s - start / STEP_HZ,
        mouth=np.nan_to_num(measure_mouth(cut)),
        rotation=np.nan_to_num(cut.pose.rotation),
        scale=np.nan_to_num(cut.pose.scale),
        shift=np.nan_to_num(cut.pose.shift),
        blendshapes=np.nan_to_num(cut.blendshapes[:]),
        valid=usable,
    )
