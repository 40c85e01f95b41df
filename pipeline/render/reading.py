"""True to the command: what the tracker reads when a mouth is painted, and what to paint so that it reads what was asked.

The tracker reads the same lips differently with every crop that it looks at; those of a small face by a quarter of what a
talker's aperture varies. So a small window's own reading is a poor label. Each is therefore painted on other frames of its
footage and read again there; its label is the mean of what was read.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from lipwright.data import cache
from lipwright.data.face_space import fit_pose
from lipwright.data.faces import height_px, nearest
from lipwright.data.files import whole_file
from lipwright.data.follower import Follower
from lipwright.data.landmarks import FaceTrack, face_track
from lipwright.data.lower_face import MOST_FACES
from lipwright.data.media import Media, Yuv, file_sha256, probe, read_frames, to_rgb
from lipwright.data.mouth import LIPS, aperture
from lipwright.pipeline.progress import Progress, told_as
from lipwright.pipeline.render.bank import Bank, collect_windows, evenly, measure_looks, measure_sharpness
from lipwright.pipeline.render.choose import Joined
from lipwright.pipeline.render.composite import paint_mouth
from lipwright.pipeline.render.occlusion import Likeness, learn_likeness, window_face
from lipwright.pipeline.render.shape import MOVING

APART = (0.33, 0.67)
"""How far from a window, in shares of the footage, the frames lie that it is painted on: other poses, other mouths."""

FEWEST = 50
"""Windows of a bank that is worth reading again."""

FINE_PX = 200
"""Faces of this height are read well enough at once (`docs/rendering.md`)."""

SETTLING = 10
"""First frames of a pass: the tracker has yet to find its crop."""

READ = np.concatenate([LIPS, MOVING])


@threadpool_limits.wrap(1)  # the arrays are small: threads that wait for each other take thirty times as long beside other work
def build_bank(
    media: Media, track: FaceTrack, sha256: str, *, end_s: float | None = None, progress: Progress | None = None
) -> Bank:
    """Collect the bank of a video and read it again, or find both in the cache.

    Parameters
    ----------
    media, track, sha256
        The video, its face track and its hash.
    end_s
        Take nothing from this time on.
    progress
        Called with (what, done, in all).

    Raises
    ------
    FaceError
        No frame shows a whole mouth.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file, save_file

    bank = collect_windows(media, track, sha256, end_s=end_s, progress=progress)
    file = cache.cached_path("banks", bank.file.with_suffix(".safetensors").name)
    try:
        known = load_file(file)
        if known["read"].shape != (len(bank.frames), len(READ), 3):
            raise ValueError(known["read"].shape)
    except (FileNotFoundError, SafetensorError, KeyError, ValueError):
        known = {"read": read_again(bank, media, progress), "sharpness": measure_sharpness(bank)}
        known["looks"] = measure_looks(_relabelled(bank, known["read"]))
        if likeness := likeness_of(bank):
            known |= vars(likeness) | {"clear": look_for_hidden(bank, likeness)}
        with whole_file(file) as partial:
            save_file({name: np.asarray(values, order="C") for name, values in known.items()}, partial)
    bank = replace(_relabelled(bank, known["read"]), sharpness=known["sharpness"], looks=known["looks"])
    if "clear" not in known:
        return bank
    likeness = Likeness(**{part.name: known[part.name] for part in fields(Likeness)})
    return replace(bank, likeness=likeness, clear=known["clear"])


@threadpool_limits.wrap(1)
def bank_for(
    media: Media,
    track: FaceTrack,
    sha256: str,
    other: Path | None = None,
    *,
    end_s: float | None = None,
    progress: Progress | None = None,
) -> Bank:
    """Collect the bank to paint a video from: its own (see `build_bank`), or that of other footage of the person.

    The footage is tracked first if need be.
    """
    if other is None:
        return build_bank(media, track, sha256, end_s=end_s, progress=progress)
    theirs, their_sha256 = probe(other), file_sha256(other)
    their_track = face_track(theirs, sha256=their_sha256, progress=told_as(progress, "track bank"))
    bank = build_bank(theirs, their_track, their_sha256, progress=progress)
    return replace(bank, likeness=likeness_of(collect_windows(media, track, sha256)))


def likeness_of(bank: Bank) -> Likeness | None:
    """Learn what the face in a bank's windows can look like; None where they are too few to tell."""
    if len(bank.frames) < FEWEST:
        return None
    rows = evenly(len(bank.frames), MOST_FACES)
    faces = np.stack([window_face(bank.window(k), bank.pose[np.array([k])]) for k in rows])
    return learn_likeness(faces, aperture(bank.mouths[rows]))


def look_for_hidden(bank: Bank, likeness: Likeness) -> np.ndarray:
    """Tell which windows have nothing before the mouth, (N,) bool."""
    each = range(len(bank.frames))
    return np.array([not likeness.hidden(bank.window(k), bank.points[k], bank.pose[np.array([k])]).any() for k in each])


def read_again(bank: Bank, media: Media, progress: Progress | None = None) -> np.ndarray:
    """Paint each window on other frames, and return the mean of what the tracker reads, (N, R, 3) float32, face space.

    The R points are `READ`. Of large faces and of few windows it is what was read in the first place.
    """
    count = len(bank.frames)
    own = bank.face[:, READ]
    if count < FEWEST or np.median(height_px(bank.points)) >= FINE_PX:
        return own
    rows = {int(frame): row for row, frame in enumerate(bank.frames)}
    readings = np.full((1 + len(APART), *own.shape), np.nan)
    readings[0] = own
    colour = media.need_video().colour
    with Follower() as first, Follower() as second, ThreadPoolExecutor(len(APART)) as pool:

        def read(row: int, picture: Yuv, time_s: float, find: Follower, window: int) -> np.ndarray | None:
            painted = paint_mouth(
                picture, bank.points[row], bank.pose[np.array([row])], bank.mouths[window], bank, Joined.alone(window)
            )
            faces, _ = find(to_rgb(painted.picture.to_picture(colour)), time_s)
            return faces[nearest(faces, bank.points[row])] if len(faces) else None

        done = 0
        for frame in read_frames(media):
            row = rows.get(frame.index)
            if row is not None:
                windows = [(row - round(share * count)) % count for share in APART]
                found = pool.map(partial(read, row, frame.yuv(), float(frame.time)), (first, second), windows)
                for k, (window, points) in enumerate(zip(windows, found, strict=True), 1):
                    if points is not None and done >= SETTLING:
                        readings[k, window] = fit_pose(points[None]).to_face(points[None].astype(np.float64))[0, READ]
                done += 1
                if progress:
                    progress("read bank", done, count)
            if frame.index >= bank.frames[-1]:
                break
    return np.nanmean(readings, 0).astype(np.float32)


def _relabelled(bank: Bank, read: np.ndarray) -> Bank:
    """Return the bank with the points `READ` where they were read, face space."""
    face, points = bank.face.copy(), bank.points.copy()
    face[:, READ] = read
    points[:, READ] = bank.pose.to_pixels(read.astype(np.float64))
    return replace(bank, face=face, points=points)
