"""The texture of a mouth: what is large comes from several windows of the bank, what is fine from the best one.

Several windows that show nearly the same mouth agree on shape and shade; their errors in the landmarks do not, and the mean of
them is steadier and truer than any one. But it blurs stubble and grain, and washes out teeth, tongue and the dark behind them:
detail comes from one window, and most of what is between the lips. (*Synthesizing Obama*, section 4.3, takes a weighted median
for all of it, and brings teeth back from a proxy; docs/rendering.md compares.)
"""

from __future__ import annotations

import cv2
import numpy as np

from lipwright.data.mouth import LIPS, OUTER_LIPS
from lipwright.pipeline.render.bank import Bank, Window
from lipwright.pipeline.render.choose import Joined
from lipwright.pipeline.render.warp import Box, Warp, thin_plate_warp

LEAD = 0.75
"""How far the windows that lead go before the others between the lips: alone they are sharpest, and the mean is steadiest."""

LIPS_EDGE = 0.04
"""Round the opening, over this share of its width, it does so in full; over as much again no longer."""


def read_windows(bank: Bank, windows: np.ndarray, to: np.ndarray, starts: np.ndarray, box: Box) -> tuple[list[Window], Warp]:
    """Read windows of the bank, and compute the warps that bring them to one shape; parameters as of `mouth_texture`."""
    read = [bank.window(index) for index in windows]
    return read, thin_plate_warp(to, starts - np.stack([w.corner for w in read])[:, None], box)


def mouth_texture(bank: Bank, joined: Joined, to: np.ndarray, starts: np.ndarray, box: Box) -> tuple[np.ndarray, np.ndarray]:
    """Warp windows to one shape and merge them.

    Parameters
    ----------
    bank, joined
        The N windows.
    to, starts
        Control points: their goals (P, 2), and where they are in the windows' frames (N, P, 2); pixels.
    box
        The part of the frame to fill.

    Returns
    -------
    y : ndarray, shape (h, w), uint8
        Luma of the best window.
    half : ndarray, shape (h / 2, w / 2, 3), float32
        Luma and chroma of all, on the grid of chroma samples.
    """
    read, warp = read_windows(bank, joined.windows, to, starts, box)
    halves = np.stack(
        [cv2.remap(w.half, *warp.maps(k, 2), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for k, w in enumerate(read)]
    ).astype(np.float32)
    merged = np.tensordot(joined.shares.astype(np.float32), halves, 1)
    leading = np.tensordot(joined.leads.astype(np.float32), halves, 1)
    merged += LEAD * _between_lips(to, box)[..., None] * (leading - merged)
    return cv2.remap(read[0].y, *warp.maps(0), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE), merged


def _between_lips(to: np.ndarray, box: Box) -> np.ndarray:
    """Return 1 between the lips, 0 away from them, (h / 2, w / 2) float32."""
    left, top, right, bottom = box
    inner = to[len(OUTER_LIPS) : len(LIPS)]
    reach = LIPS_EDGE * np.ptp(inner[:, 0]) / 2
    mask = np.zeros(((bottom - top) // 2, (right - left) // 2), np.uint8)
    cv2.fillPoly(mask, [((inner - (left, top)) / 2).round().astype(np.int32)], 1)
    away = cv2.distanceTransform(1 - mask, cv2.DIST_L2, 3)
    return np.clip(2 - away / max(reach, 0.5), 0, 1)
