"""How good the painted picture is: tracked again, and compared with the source, so that leaving it alone fails.

Three passes over the judged frames (`docs/metrics.md`):

- the *measured* mouth of time t is painted on the frame of t + 3 s (cyclic), tracked again, and compared with t's mouth;
- the same with the model's mouth for time t;
- t's own mouth is blurred out of its frame, painted anew, and the picture is compared with what was filmed.

The bank comes from other footage: another video of the person, or the first 75 % of this one, the rest being judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from threadpoolctl import threadpool_limits

from lipwright.data.audio import StoredSpeech
from lipwright.data.errors import FaceError
from lipwright.data.face_space import Pose, fit_pose
from lipwright.data.features import STEP_HZ
from lipwright.data.follower import track_images
from lipwright.data.landmarks import FaceTrack
from lipwright.data.media import Media, Yuv, file_sha256, read_frames, to_rgb
from lipwright.data.mouth import LIPS, MouthTrack, Speaker, interpolate, measure_mouth, measure_speaker
from lipwright.models.lipsync import LipSync
from lipwright.pipeline.predict import mean_mouth, predict_mouth
from lipwright.pipeline.progress import Progress
from lipwright.pipeline.render.bank import Bank
from lipwright.pipeline.render.composite import Painted
from lipwright.pipeline.render.painting import outside_difference, painted_frames
from lipwright.pipeline.render.reading import bank_for
from lipwright.pipeline.result import bank_end_s

SHIFT_S = 3.0
"""The mouth of t is painted on the frame of t + 3 s: another mouth, and another pose. Of less than 6 s it is half, since
a shift of the whole length would be none."""

BLUR = 0.12
"""Standard deviation of the blur that takes a mouth out of its frame, in units of face space."""

_CROP = (-0.45, 0.5, 0.45, 1.3)
"""The mouth's surroundings in face space: left, top, right, bottom."""

_CROP_DEPTH = -0.2


@dataclass(frozen=True)
class _Stage:
    """The judged frames: `rows` of the track, what is painted from, and what a mouth is compared with that learned nothing."""

    media: Media
    track: FaceTrack
    mouth: np.ndarray
    rows: np.ndarray
    bank: Bank
    pose: Pose
    speaker: Speaker
    mean: np.ndarray
    scale: float

    @cached_property
    def earlier_s(self) -> np.ndarray:
        """Give t − `SHIFT_S`, cyclic within the judged part, for each of its frames."""
        times_s = self.track.times_s[self.rows]
        length = times_s[-1] - times_s[0]
        return times_s[0] + (times_s - times_s[0] - min(SHIFT_S, length / 2)) % (length if length > 0 else 1.0)

    @cached_property
    def truth(self) -> tuple[np.ndarray, np.ndarray]:
        """The measured mouths of these times, (F, 40, 3), and where they are known."""
        return interpolate(self.track.times_s, self.mouth, self.track.found, self.earlier_s)

    def sources(self) -> Iterator[tuple[Fraction, Yuv]]:
        """Decode the judged frames."""
        for frame in read_frames(self.media, from_pts=int(self.track.pts[self.rows[0]])):
            if frame.index >= len(self.rows):
                return
            yield frame.time, frame.yuv()


def judge_picture(
    lipsync: LipSync, media: Media, track: FaceTrack, bank: Path | None, progress: Progress | None = None
) -> dict[str, Any]:
    """Paint, track again, compare.

    Parameters
    ----------
    lipsync
        Drives the second pass.
    media, track
        The judged video and its face track.
    bank
        Other footage of the person; by default the first 75 % of `media`.

    Returns
    -------
    dict
        The metrics of the painted measured mouth, ``mouth_psnr``, ``mouth_ssim``, ``sharpness_ratio``, ``flicker_ratio``,
        ``outside_max_abs``, ``mask_share``; ``model``: the metrics with the model's mouth, against the measured one;
        ``untouched``: what leaving the picture alone would get.

    Raises
    ------
    FaceError
        The judged part shows no face.
    """
    stage = _set_stage(media, track, bank, progress)
    stage = replace(stage, mean=mean_mouth(lipsync, stage.speaker), scale=lipsync.config.scale)
    said = predict_mouth(lipsync, StoredSpeech(media), stage.speaker).at(stage.earlier_s)
    with threadpool_limits(1):  # as when rendering
        out = _judge_measured(stage, progress)
        out["model"] = _judge_shifted(stage, *said, "render model", progress)
    return out


def judge_renderer(
    media: Media, track: FaceTrack, bank: Path | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Judge the painting alone, without a model: `judge_picture` but for ``model``."""
    with threadpool_limits(1):
        return _judge_measured(_set_stage(media, track, bank, progress), progress)


def _set_stage(media: Media, track: FaceTrack, bank: Path | None, progress: Progress | None) -> _Stage:
    rows, end_s = np.arange(len(track.pts)), None
    if bank is None:
        end_s = bank_end_s(track)
        rows = np.flatnonzero(track.times_s >= end_s)
    if not track.found[rows].any():
        raise FaceError(f"{media.path} shows no face in the part that is judged")
    faces = bank_for(media, track, file_sha256(media.path), bank, end_s=end_s, progress=progress)
    mouth = measure_mouth(track)
    speaker = measure_speaker(mouth)
    mean, scale = faces.mouths.mean(0), speaker.scale or 1.0
    return _Stage(media, track, mouth, rows, faces, track.pose[rows], speaker, mean, scale)


def _judge_measured(stage: _Stage, progress: Progress | None) -> dict[str, Any]:
    out: dict[str, Any] = _judge_shifted(stage, *stage.truth, "render measured", progress)
    out |= _judge_pixels(stage, progress)
    out["untouched"] = _mouth_numbers(stage, stage.track.points[stage.rows])
    out["untouched"] |= {name: out.pop(f"blurred_{name}") for name in ("mouth_psnr", "mouth_ssim", "sharpness_ratio")}
    return out


def _mouth_numbers(stage: _Stage, points: np.ndarray) -> dict[str, float | None]:
    """Compare the mouths of landmarks (F, 478, 3) with the truth, on the 100 Hz grid."""
    from lipwright.pipeline.evaluate import judge_mouth

    wanted, known = stage.truth
    times = stage.track.times_s[stage.rows]
    steps = np.arange(np.ceil(times[0] * STEP_HZ), np.floor(times[-1] * STEP_HZ) + 1) / STEP_HZ
    shown = fit_pose(points).to_face(points[:, LIPS].astype(np.float64))
    valid = known & np.isfinite(points[:, 0, 0])
    ours, both = interpolate(times, shown, valid, steps)
    theirs, _ = interpolate(times, wanted, valid, steps)
    return judge_mouth(ours, MouthTrack(theirs, both, stage.speaker), stage.mean, stage.scale)


def _judge_shifted(
    stage: _Stage, mouths: np.ndarray, paint: np.ndarray, what: str, progress: Progress | None
) -> dict[str, Any]:
    """Paint mouths of 3 s before, (F, 40, 3), track again, and compare with the truth."""
    colour = stage.media.need_video().colour
    worst, shares = 0, []
    times: list[Fraction] = []
    current: list[Yuv] = []

    def pictures() -> Iterator[Yuv]:
        for time, picture in stage.sources():
            times.append(time)
            current[:] = [picture]
            yield picture

    def images() -> Iterator[tuple[Fraction, np.ndarray]]:
        nonlocal worst
        for painted in painted_frames(pictures(), stage.track, stage.rows, mouths, paint, stage.bank):
            if isinstance(painted, Painted):
                worst = max(worst, outside_difference(current[0], painted))
                shares.append(painted.mask_share)
                painted = painted.picture
            yield times[-1], to_rgb(painted.to_picture(colour))
            if progress:
                progress(what, len(times), len(stage.rows))

    points, _ = track_images(images())
    numbers = _mouth_numbers(stage, points)
    return numbers | {"outside_max_abs": worst if shares else None, "mask_share": float(np.mean(shares)) if shares else None}


def _judge_pixels(stage: _Stage, progress: Progress | None) -> dict[str, float | None]:
    """Blur each frame's mouth out, paint it anew, and compare the mouth's surroundings with what was filmed."""
    unit = float(np.nanmedian(stage.pose.scale))
    filmed: list[np.ndarray] = []
    hidden: list[np.ndarray] = []

    def pictures() -> Iterator[Yuv]:
        for k, (_, picture) in enumerate(stage.sources()):
            filmed[:] = [picture.y]
            picture = _without_mouth(picture, stage.track.points[stage.rows[k]], unit)
            hidden[:] = [picture.y]
            yield picture

    found = np.isfinite(stage.pose.scale)
    scores = []
    recent: dict[str, list[np.ndarray]] = {"filmed": [], "painted": []}
    flicker = {"filmed": 0.0, "painted": 0.0}
    frames = painted_frames(pictures(), stage.track, stage.rows, stage.mouth[stage.rows], found, stage.bank)
    for k, painted in enumerate(frames):
        if progress:
            progress("render pixels", k + 1, len(stage.rows))
        if not isinstance(painted, Painted):
            recent = {"filmed": [], "painted": []}
            continue
        planes = {"filmed": filmed[0], "painted": painted.picture.y, "hidden": hidden[0]}
        crop = {name: _crop(y, stage.pose, k, unit) for name, y in planes.items()}
        scores.append([*_likeness(crop["painted"], crop["filmed"]), *_likeness(crop["hidden"], crop["filmed"])])
        for name, last in recent.items():
            last.append(crop[name].astype(np.float32))
            if len(last) == 3:
                flicker[name] += float(((last[0] - 2 * last[1] + last[2]) ** 2).mean())
                del last[0]
    mean = np.array(scores).mean(0).tolist() if scores else [None] * 6
    names = ("mouth_psnr", "mouth_ssim", "sharpness_ratio")
    out: dict[str, float | None] = dict(zip((*names, *(f"blurred_{n}" for n in names)), mean, strict=True))
    return out | {"flicker_ratio": flicker["painted"] / flicker["filmed"] if flicker["filmed"] > 0 else None}


def _without_mouth(picture: Yuv, points: np.ndarray, unit: float) -> Yuv:
    """Return the picture with its mouth blurred out."""
    if not np.isfinite(points[0, 0]):
        return picture
    out = picture.copy()
    hull = cv2.convexHull(points[LIPS, :2].astype(np.float32)).round().astype(np.int32)
    mask = np.zeros(picture.y.shape, np.uint8)
    cv2.fillConvexPoly(mask, hull, 255)
    reach = max(1, round(0.08 * unit))
    hidden = cv2.dilate(mask, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) > 0
    out.y[hidden] = cv2.GaussianBlur(picture.y, (0, 0), BLUR * unit)[hidden]
    return out


def _crop(y: np.ndarray, pose: Pose, k: int, unit: float) -> np.ndarray:
    """Cut the mouth's surroundings, turned upright, about as large as they are in the picture."""
    left, top, right, bottom = _CROP
    size = (round((right - left) * unit), round((bottom - top) * unit))
    to_picture = pose[np.array([k])].from_plane((left, top, _CROP_DEPTH), 1 / unit)[0]
    return cv2.warpAffine(y, to_picture, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE)


def _likeness(shown: np.ndarray, filmed: np.ndarray) -> tuple[float, float, float]:
    """Return PSNR (dB), SSIM, and the ratio of sharpness (variance of the Laplacian)."""
    from skimage.metrics import structural_similarity

    error = float(((shown.astype(np.float32) - filmed.astype(np.float32)) ** 2).mean())
    psnr = 10 * np.log10(255**2 / max(error, 1e-3))
    window = min(7, *(side - 1 + side % 2 for side in shown.shape))
    sharp = [float(cv2.Laplacian(c, cv2.CV_32F).var()) for c in (shown, filmed)]
    return (
        float(psnr),
        float(structural_similarity(shown, filmed, data_range=255, win_size=window)),
        sharp[0] / max(sharp[1], 1e-6),
    )
