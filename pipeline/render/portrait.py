"""A small copy of a video, close round the head: what is shown live need not be larger, and must be painted quickly."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from lipwright.data import cache
from lipwright.data.encoder import Encoding
from lipwright.data.faces import height_px
from lipwright.data.landmarks import FaceTrack
from lipwright.data.media import Media, read_frames
from lipwright.data.writer import VideoWriter
from lipwright.pipeline.progress import Progress
from lipwright.pipeline.render.views import cut_square

PORTRAIT_VERSION = "1"
"""Part of a copy's name: raised when the same video would be copied otherwise."""

HEAD = 2.2
"""A portrait is so many times as high as the face in it, hairline to chin."""

CRF = 12
"""Quality of the copy: what is painted from it is encoded once more."""


def portrait_of(media: Media, track: FaceTrack, sha256: str, side: int, progress: Progress | None = None) -> Path:
    """Make a copy of a video that is a square round the head, or find it in the cache.

    Parameters
    ----------
    media, track, sha256
        The video, its face track, which shows a face, and its hash.
    side
        Most pixels of width and height. Nothing is enlarged: of a small face, there is more around it.
    progress
        Called with (what, done, in all).
    """
    left, top, edge = head_square(track, side)
    size = min(edge, side) // 2 * 2
    path = cache.cached_path("portraits", f"{sha256}-{PORTRAIT_VERSION}-{left}-{top}-{edge}-{size}.mp4")
    if path.exists():
        return path
    video = media.need_video()
    encoding = Encoding(size, size, video.time_base, video.average_rate, video.colour, crf=CRF)
    with VideoWriter(path, encoding) as writer:
        for frame in read_frames(media):
            writer.write(cut_square(frame.yuv(), left, top, edge, size), frame.time)
            if progress:
                progress("copy portrait", frame.index + 1, len(track.pts))
    cache.prune("portraits")
    return path


def head_square(track: FaceTrack, side: int) -> tuple[int, int, int]:
    """Return the square round the head of the shot that shows it longest: left, top and edge, even."""
    shots = [slice(a, b) for a, b in pairwise([*track.shots, len(track.pts)])]
    shot = max(shots, key=lambda frames: int(track.found[frames].sum()))
    points = track.points[shot]
    points = points[track.found[shot]][..., :2]
    least = min(side, track.width, track.height)
    edge = int(np.clip(HEAD * np.median(height_px(points)), least, min(track.width, track.height))) // 2 * 2
    middle = np.median((points.min(1) + points.max(1)) / 2, 0)
    left, top = np.clip(middle - edge / 2, 0, (track.width - edge, track.height - edge)).astype(int) // 2 * 2
    return int(left), int(top), edge
