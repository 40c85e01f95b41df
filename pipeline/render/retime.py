"""Which frame of the target is shown when: as filmed, and where the sound is longer, forth and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np

from lipwright.data.media import Frame, Media, read_frames, read_frames_backward


def plan_frames(media: Media, pts: np.ndarray, until_s: Fraction | float) -> tuple[np.ndarray, list[Fraction]]:
    """Lay the target's frames along the output's time.

    Forth and back, each frame's distance in time to its neighbour is kept, so that a variable rate stays what it is.

    Parameters
    ----------
    media
        The target.
    pts : ndarray, shape (F,), int64
        Of all its frames.
    until_s
        End of the sound; frames that would begin at it or later are left out, all but the first.

    Returns
    -------
    indices : ndarray, shape (N,), int64
        Frames of the target.
    times : list of Fraction
        When each is shown, seconds.
    """
    video = media.need_video()
    count, time = len(pts), int(pts[0]) * video.time_base - media.zero
    alone = 1 / video.average_rate  # a single frame is repeated at the rate that its file states
    indices, times = [0], [time]
    position, step = 0, 1
    while True:
        if count > 1 and not 0 <= position + step < count:
            step = -step
        following = position + step if count > 1 else 0
        time += abs(int(pts[following]) - int(pts[position])) * video.time_base if count > 1 else alone
        if time >= until_s:
            return np.array(indices, np.int64), times
        position = following
        indices.append(position)
        times.append(time)


def play_frames(media: Media, pts: np.ndarray, indices: np.ndarray) -> Iterator[Frame]:
    """Decode the target's frames in the order of `indices` from `plan_frames`, in bounded memory."""
    start = 0
    while start < len(indices):
        forth = start + 1 == len(indices) or indices[start + 1] >= indices[start]
        end = start + 1
        while end < len(indices) and (indices[end] > indices[end - 1]) == forth and indices[end] != indices[end - 1]:
            end += 1
        run = indices[start:end]
        if forth:
            first = int(run[0])
            for frame in read_frames(media, from_pts=int(pts[first]) if first else None):
                if frame.index >= len(run):
                    break
                yield replace(frame, index=first + frame.index)
        else:
            first = int(run[-1])
            for frame in read_frames_backward(media, pts[first : run[0] + 1]):
                yield replace(frame, index=first + frame.index)
        start = end
