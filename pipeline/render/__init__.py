"""Model or mouth track + target video + sound → the target's video, lip-synced."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from threadpoolctl import threadpool_limits

from lipwright.data.ahead import ahead
from lipwright.data.audio import SAMPLE_RATE_HZ, read_speech
from lipwright.data.errors import FaceError, InputError, require_new
from lipwright.data.landmarks import FaceTrack, face_track
from lipwright.data.media import Media, Yuv, file_sha256, probe
from lipwright.data.mouth import MouthTrack, Speaker, aperture, load_track, measure_mouth, measure_speaker
from lipwright.data.writer import CONTAINERS, VideoWriter
from lipwright.pipeline.progress import Progress, told_as
from lipwright.pipeline.provenance import synthetic_tags
from lipwright.pipeline.render.bank import Bank, are_windows, window_boxes
from lipwright.pipeline.render.choose import choose_windows, paint_strength
from lipwright.pipeline.render.composite import Painted, paint_mouth
from lipwright.pipeline.render.reading import bank_for
from lipwright.pipeline.render.retime import plan_frames, play_frames

NEVER_OPEN = 0.05
"""Footage whose widest aperture is less has no open mouth to paint from."""


def painted_frames(
    pictures: Iterable[Yuv],
    track: FaceTrack,
    rows: np.ndarray,
    mouths: np.ndarray,
    valid: np.ndarray,
    bank: Bank,
) -> Iterator[Yuv | Painted]:
    """Paint mouths onto pictures, one by one.

    Parameters
    ----------
    pictures : iterable of Yuv
        F of them.
    track
        Of the video that they come from.
    rows : ndarray, shape (F,), int64
        Which of its frames they are.
    mouths : ndarray, shape (F, 40, 3), float32
        What the tracker is to read from them, in the bank's face space.
    valid : ndarray, shape (F,), bool
        Where to paint; elsewhere, and without a face, the picture passes through untouched.
    bank
        What to paint from.

    Yields
    ------
    Yuv or Painted
        The picture itself where nothing was painted.
    """
    pose = track.pose[rows]
    paint = valid & np.isfinite(pose.scale)
    strength = paint_strength(pose, bank)
    paint &= strength > 0
    asked, own = mouths.copy(), measure_mouth(track)[rows]
    asked[paint] += (1 - strength[paint, None, None]) * (own[paint] - asked[paint])
    joined = choose_windows(bank, asked, pose, paint)
    for k, picture in enumerate(pictures):
        here, (height, width) = pose[np.array([k])], picture.y.shape
        if (windows := joined[k]) and are_windows(window_boxes(here, width, height))[0]:
            yield paint_mouth(picture, track.points[rows[k]], here, asked[k], bank, windows, strength=float(strength[k]))
        else:
            yield picture


def outside_difference(source: Yuv, painted: Painted) -> int:
    """Return the greatest difference between a frame and its painted version outside the mask, in levels."""
    left, top, right, bottom = painted.box
    worst = 0.0
    for own, other, step in zip(vars(source).values(), vars(painted.picture).values(), (1, 2, 2), strict=True):
        difference = cv2.absdiff(own, other)
        difference[top // step : bottom // step, left // step : right // step][painted.mask[::step, ::step]] = 0
        worst = max(worst, cv2.minMaxLoc(difference)[1])
    return int(worst)


def _speaker_of(track: FaceTrack, media: Media) -> Speaker:
    if not track.found.any():
        raise FaceError(f"{media.path} shows no face in any of its {len(track.found)} frames; nothing to paint a mouth on")
    return measure_speaker(measure_mouth(track))


def _require_paintable(track: FaceTrack, bank: Bank, media: Media) -> None:
    pose = track.pose[track.found]
    if not (paint_strength(pose, bank) > 0).any():
        yaw, pitch = np.median(np.abs(pose.angles_deg()), 0)
        raise FaceError(
            f"{media.path} shows the face turned away throughout (by {yaw:.0f}° to the side, {pitch:.0f}° up or down); "
            "give a video in which the person looks towards the camera"
        )


def _require_open(mouths: np.ndarray, bank: Bank, source: Path) -> None:
    seen, asked = aperture(bank.mouths).max(), np.percentile(aperture(mouths), 90)
    if seen < NEVER_OPEN and seen < asked / 2:
        raise FaceError(
            f"{source} never shows the mouth open (by {seen:.2f} eye distances at most, {asked:.2f} is asked for); "
            "give --bank a video in which the same person talks"
        )


def _motion(model: Path | None, mouth: Path | None, samples: np.ndarray, device: str) -> Callable[[Speaker], MouthTrack]:
    """Return what gives a person's face the mouth to paint; whatever is wrong with its files is told before that."""
    if mouth is not None:
        return load_track(mouth).on
    from lipwright.pipeline.predict import load_model, predict_mouth

    lipsync = load_model(model, device)
    return lambda speaker: predict_mouth(lipsync, samples, speaker)


def render_video(
    target: Path | str,
    audio: Path | str,
    out: Path | str,
    *,
    model: Path | str | None = None,
    mouth: Path | str | None = None,
    bank: Path | str | None = None,
    device: str = "cpu",
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Make a target video say what an audio file says.

    Parameters
    ----------
    target
        Video whose face is given a new mouth. Shorter than the sound, it plays forth and back; longer, it is cut.
    audio
        Any file with an audio stream. It is written at its own rate and channels.
    out
        Video to make: .mp4, .m4v, .mov or .mkv.
    model, mouth
        What moves the mouth: a model folder, or a mouth track file, not both; without either, the base model.
    bank
        Footage of the same person to take mouths from; by default the target itself.
    device
        Where the model runs.
    force
        Replace `out` if it exists.
    progress
        Called with (what, done, in all).

    Returns
    -------
    dict
        ``out``, ``frames``, ``seconds``, ``elapsed_s``, ``tracking_s``, ``bank_s``, ``frames_per_s`` (of painting and
        encoding), ``peak_rss_mb``, ``outside_max_abs``, ``mask_share``, ``synthetic``.

    Raises
    ------
    InputError
        A file cannot be used, or the target shows no face.
    OutputExistsError
        `out` exists and `force` is false.
    ModelError
        The model folder cannot be used.
    """
    began = time.perf_counter()
    target, audio, out = Path(target), Path(audio), Path(out)
    if model is not None and mouth is not None:
        raise InputError("give either a model or a mouth track to render with, not both")
    require_new(out, force)
    if out.suffix.lower() not in CONTAINERS or out.is_dir():
        raise InputError(f"{out}: cannot write such a file; give --out a name that ends in {', '.join(CONTAINERS)}")
    if out.exists() and any(out.samefile(p) for p in (target, audio) if p.exists()):
        raise InputError(f"{out} is an input; choose another --out")
    media, sound = probe(target), probe(audio)
    video = media.need_video()
    samples = read_speech(sound)
    length_s = len(samples) / SAMPLE_RATE_HZ
    motion_of = _motion(Path(model) if model else None, Path(mouth) if mouth else None, samples, device)
    sha256, tracking = file_sha256(target), time.perf_counter()
    track = face_track(media, sha256=sha256, progress=told_as(progress, "track"))
    tracking_s = time.perf_counter() - tracking
    motion = motion_of(_speaker_of(track, media))
    bank_began = time.perf_counter()
    faces = bank_for(media, track, sha256, Path(bank) if bank else None, progress=progress)
    _require_paintable(track, faces, media)
    bank_s = time.perf_counter() - bank_began
    indices, times = plan_frames(media, track.pts, length_s)
    mouths, valid = motion.at(np.array([float(t) for t in times]))
    if valid.any():
        _require_open(mouths[valid], faces, Path(bank) if bank else target)
    painting = time.perf_counter()
    worst, shares = 0, []
    current: list[Yuv] = []

    def pictures() -> Iterator[Yuv]:
        for frame in play_frames(media, track.pts, indices):
            current[:] = [frame.yuv()]
            yield current[0]

    def frames() -> Iterator[tuple[Yuv | Painted, int]]:
        for frame in painted_frames(pictures(), track, indices, mouths, valid, faces):
            yield frame, outside_difference(current[0], frame) if isinstance(frame, Painted) else 0

    with (
        threadpool_limits(1),  # the arrays are small: more threads would wait for each other, and for the encoder's
        VideoWriter.like(video, out, audio=sound, tags=synthetic_tags()) as writer,
        closing(ahead(frames())) as ready,
    ):
        for k, (frame, difference) in enumerate(ready):
            worst = max(worst, difference)
            if isinstance(frame, Painted):
                shares.append(frame.mask_share)
            writer.write(frame.picture if isinstance(frame, Painted) else frame, times[k])
            if progress:
                progress("render", k + 1, len(indices))
    elapsed = time.perf_counter() - painting
    return {
        "out": str(out),
        "frames": len(indices),
        "seconds": round(length_s, 3),
        "elapsed_s": round(time.perf_counter() - began, 3),
        "bank_s": round(bank_s, 3),
        "tracking_s": round(tracking_s, 3),
        "frames_per_s": round(len(indices) / elapsed, 2),
        "peak_rss_mb": round(
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024), 1
        ),
        "outside_max_abs": worst,
        "mask_share": round(float(np.mean(shares)), 4) if shares else 0.0,
        "synthetic": True,
    }
