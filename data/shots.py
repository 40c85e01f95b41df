"""Frames → shots: where one picture gives way to another, found as the frames come by (PySceneDetect)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np

WIDE_PX = 160
"""Pictures are compared at this width: finer ones give the same cuts."""

BEHIND = 2
"""A cut is one picture that differs far more from the one before than the pictures around it do: so many each way."""


def small_bgr(rgb: np.ndarray) -> np.ndarray:
    """Return a picture as PySceneDetect compares it."""
    import cv2

    size = (WIDE_PX, max(2, round(WIDE_PX * rgb.shape[0] / rgb.shape[1])))
    every = max(1, rgb.shape[1] // (2 * WIDE_PX))
    return cv2.cvtColor(
        cv2.resize(np.ascontiguousarray(rgb[::every, ::every]), size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR
    )


def mark_shots(frames: Iterable[tuple[Fraction, np.ndarray]]) -> Iterator[tuple[int, Fraction, np.ndarray]]:
    """Number the shots that frames belong to.

    Hard cuts are found, by how much hue, saturation and brightness change against their change just before and after
    (`scenedetect.AdaptiveDetector`, as it comes); a shot of fewer than three frames at either end of the video is not.

    Parameters
    ----------
    frames
        Time and RGB picture (H, W, 3) uint8, all of one size.

    Yields
    ------
    shot
        0, 1, … in order.
    time, rgb
        As given.
    """
    from scenedetect import AdaptiveDetector, FrameTimecode

    detector = AdaptiveDetector(min_scene_len=1, window_width=BEHIND)
    waiting: deque[tuple[Fraction, np.ndarray]] = deque()
    shot = 0
    for index, (time, rgb) in enumerate(frames):
        # The detector counts frames; times stay ours.
        cuts = detector.process_frame(FrameTimecode(index, fps=1.0), small_bgr(rgb))
        waiting.append((time, rgb))
        if len(waiting) > BEHIND:
            shot += any(cut.frame_num == index - BEHIND for cut in cuts)
            yield shot, *waiting.popleft()
    for time, rgb in waiting:
        yield shot, time, rgb
