"""Excerpts of a corpus, for people to see and hear: stills from its videos, a few seconds of mouth and sound."""

from __future__ import annotations

import io
import math
import wave
from collections import Counter
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from lipwright.data.audio import SAMPLE_RATE_HZ
from lipwright.data.corpus import Corpus
from lipwright.data.errors import MediaError
from lipwright.data.face_space import Pose
from lipwright.data.features import HOP, STEP_HZ
from lipwright.data.manifest import Row
from lipwright.data.media import file_sha256, probe, read_frames
from lipwright.data.mouth import aperture, interpolate
from lipwright.pipeline.page import data_uri

STILL_PX = 160
"""Height of a still."""

WIDEST_PX = 2 * STILL_PX

MOST_TRIED = 4
"""A still may be missing since its video is gone: for each that is wanted so many are tried."""

SAMPLE_S = 7.0
HEARD_CLIPS = 8
"""Among so many clips the samples are looked for."""

MEASURED_CLIPS = 200
"""Of so many clips, spread over the videos, the medians are taken."""

SPEECH_DB = -20.0
"""Against the loud moments of a clip: what is above is speech."""


@dataclass(frozen=True)
class Still:
    """A picture from the middle of a stretch: its row, a JPEG as a data URI, and its size in pixels."""

    row: Row
    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Sample:
    """Some seconds of a clip.

    Attributes
    ----------
    row
        Of the clip.
    start_s
        In its source, on the sound's clock.
    opening, valid, loudness : ndarray, shape (T,)
        The aperture in units of face space, where it is seen, and the sound's level (linear), 100 a second.
    uri
        The sound, a WAV file as a data URI.
    """

    row: Row
    start_s: float
    opening: np.ndarray
    valid: np.ndarray
    loudness: np.ndarray
    uri: str


def spread(rows: Iterable[Row]) -> list[Row]:
    """Order rows so that the first ones come from many reasons and many sources, and are long for their kind."""

    def length_s(row: Row) -> float:
        return 0.0 if row["start_s"] is None else float(row["end_s"] - row["start_s"])

    def kind(row: Row) -> str:
        return "" if row["start_s"] is None else str(row["reason"])

    seen: Counter[tuple[str, ...]] = Counter()

    def turn(*group: str) -> int:
        seen[group] += 1
        return seen[group]

    longest = sorted(rows, key=length_s, reverse=True)
    by_source = sorted(((turn(kind(r), r["path"]), k, r) for k, r in enumerate(longest)), key=lambda t: t[:2])
    by_kind = sorted(((turn(kind(r)), k, r) for k, (_, _, r) in enumerate(by_source)), key=lambda t: t[:2])
    return [row for _, _, row in by_kind]


def take_stills(rows: Sequence[Row], most: int, hashes: MutableMapping[str, str | None] | None = None) -> list[Still]:
    """Take a picture from the middle of stretches; a source that is gone, changed or broken is passed over.

    `hashes` holds the sha256 of sources, by path, as far as they are known; what else is needed is put into it.
    """
    hashes = {} if hashes is None else hashes
    tried = (_still(row) for row in spread(rows)[: most * MOST_TRIED] if _hash(row["path"], hashes) == row["sha256"])
    return list(islice((still for still in tried if still), most))


def _hash(path: str, hashes: MutableMapping[str, str | None]) -> str | None:
    if path not in hashes:
        try:
            hashes[path] = file_sha256(Path(path))
        except OSError:
            hashes[path] = None
    return hashes[path]


def _still(row: Row) -> Still | None:
    import cv2

    try:
        media = probe(row["path"])
        video = media.need_video()
        if row["start_s"] is None:
            at_s = video.duration_s / 2
        else:
            at_s = (row["start_s"] + row["end_s"]) / 2 + (row["lag_ms"] / 1000 if row.get("lag_corrected") else 0)
        pts = math.floor((at_s + float(media.zero)) / float(video.time_base))
        frame = next(read_frames(media, threads=1, from_pts=pts), None)
    except MediaError:
        return None
    if frame is None:
        return None
    rgb = frame.rgb()
    shrink = min(STILL_PX / rgb.shape[0], WIDEST_PX / rgb.shape[1], 1)
    size = (max(round(shrink * rgb.shape[1]), 1), max(round(shrink * rgb.shape[0]), 1))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    jpeg = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    return Still(row, data_uri("image/jpeg", jpeg.tobytes()), *size)


def take_samples(corpus: Corpus, most: int) -> list[Sample]:
    """Take the seconds with most speech of clips of different sources; a clip that is gone or broken is passed over."""
    found: dict[str, tuple[int, Sample]] = {}
    for row in spread(corpus.usable)[:HEARD_CLIPS]:
        arrays = _read(corpus, row, "audio", "times_s", "mouth", "valid")
        if arrays is None or len(arrays[0]) < HOP:
            continue
        dense, sample = _sample(row, *arrays)
        if dense > found.get(row["path"], (0, None))[0]:
            found[row["path"]] = dense, sample
    return [sample for _, sample in sorted(found.values(), key=lambda f: -f[0])[:most]]


def _sample(row: Row, audio: np.ndarray, times_s: np.ndarray, mouth: np.ndarray, valid: np.ndarray) -> tuple[int, Sample]:
    """Return how many steps of speech the best seconds of a clip have, and these seconds."""
    loudness = loudness_of(audio)
    steps = len(loudness)
    opening, seen = interpolate(times_s, aperture(mouth), valid, np.arange(steps) / STEP_HZ)
    speech = seen & (loudness > 10 ** (SPEECH_DB / 20) * np.percentile(loudness, 95))
    window = min(round(SAMPLE_S * STEP_HZ), steps)
    before = np.concatenate([[0], np.cumsum(speech)])
    dense = before[window:] - before[:-window]
    start = int(dense.argmax())
    part = slice(start, start + window)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SAMPLE_RATE_HZ)
        out.writeframes(audio[start * HOP : (start + window) * HOP].astype("<i2").tobytes())
    uri = data_uri("audio/wav", file.getvalue())
    sample = Sample(row, row["start_s"] + start / STEP_HZ, opening[part], seen[part], loudness[part], uri)
    return int(dense[start]), sample


def loudness_of(audio: np.ndarray) -> np.ndarray:
    """Return the level of 16 kHz mono sound (N,) in each step of 10 ms, (N // 160,) float32, linear."""
    steps = len(audio) // HOP
    return np.sqrt((audio[: steps * HOP].reshape(steps, HOP).astype(np.float32) ** 2).mean(1))


def measure_clips(corpus: Corpus) -> tuple[list[float], list[float]]:
    """Return of clips, spread over the sources, the median scale of the face in pixels, and of the yaw in degrees."""
    sizes_px, yaws_deg = [], []
    for scale, rotation, valid in _poses(corpus):
        pose = Pose(rotation[valid], scale[valid], np.zeros((int(valid.sum()), 3)))
        sizes_px.append(float(np.median(pose.scale)))
        yaws_deg.append(float(np.median(pose.angles_deg()[:, 0])))
    return sizes_px, yaws_deg


def _poses(corpus: Corpus) -> Iterator[list[np.ndarray]]:
    for row in spread(corpus.usable)[:MEASURED_CLIPS]:
        arrays = _read(corpus, row, "scale", "rotation", "valid")
        if arrays is not None and arrays[2].any():
            yield arrays


def _read(corpus: Corpus, row: Row, *names: str) -> list[np.ndarray] | None:
    """Read some arrays of a clip, and not the others: an hour's clip has 240 MB."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(corpus.clip_path(row["id"]), "numpy") as clip:
            return [clip.get_tensor(name) for name in names]
    except (OSError, SafetensorError):
        return None
