"""Ways to show a painted frame: small, with the lips drawn over it, or as the mouth alone on nothing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np

from lipwright.data.encoder import Layer
from lipwright.data.media import Yuv
from lipwright.data.mouth import OUTER_LIPS
from lipwright.pipeline.render.composite import Painted

ORANGE, BLUE = (160, 45, 190), (135, 190, 65)
"""Y, U, V."""

LINE = 0.012
"""Thickness of drawn lips, in units of face space."""

FEATHER = 0.04
"""A mouth layer fades to nothing over so much inside its mask's edge, in units of face space."""

MARGIN_PX, FLAT = 8, np.array([16, 128, 128], np.uint8)
"""So far round a mouth layer the picture stays; beyond, it is black."""

LABEL = "SYNTHETIC"

LABEL_SHARE, LABEL_LEAST_PX = 1 / 26, 11
"""Height of a label's line in the picture's shorter side; and that of one that can just be read."""

PLATE_LEVELS, PLATE_STRENGTH = (16, 128), 0.8
"""Of what letters stand on: Y, and U and V; and how strongly it covers the picture."""

_SUBPIXEL_BITS = 4


def draw_lips(picture: Yuv, lips: np.ndarray, colour: tuple[int, int, int], unit: float) -> Yuv:
    """Return a picture with lips drawn over it.

    Parameters
    ----------
    picture
    lips : ndarray, shape (40, 2)
        Pixels.
    colour
        Y, U, V.
    unit
        Pixels a unit of face space.
    """
    out = picture.copy()
    for plane, level, step in zip(vars(out).values(), colour, (1, 2, 2), strict=True):
        points = ((lips + 0.5) / step - 0.5) * 2**_SUBPIXEL_BITS
        rings = [ring.round().astype(np.int32) for ring in np.split(points, [len(OUTER_LIPS)])]
        thickness = max(1, round(LINE * unit / step))
        cv2.polylines(plane, rings, True, level, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
    return out


def draw_label(picture: Yuv) -> Yuv:
    """Return a picture with `LABEL` in the corner at the top left: white on a dark plate, to be read on any picture."""
    plate, ink = _label(*picture.y.shape[::-1])
    out = picture.copy()
    height, width = plate.shape
    for plane, level, step in zip(vars(out).values(), (235, 128, 128), (1, 2, 2), strict=True):
        corner = plane[: -(-height // step), : -(-width // step)]
        dark, light = (each[::step, ::step] for each in (plate, ink))
        under = corner + (PLATE_LEVELS[step > 1] - corner.astype(np.float32)) * dark
        corner[:] = np.rint(under + (level - under) * light)
    return out


@cache
def _label(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Return how strongly a label's plate and its letters cover the corner of a picture of this size, 0 to 1."""
    high = max(LABEL_LEAST_PX, round(LABEL_SHARE * min(width, height)))
    scale = high / cv2.getTextSize(LABEL, cv2.FONT_HERSHEY_SIMPLEX, 1, 1)[0][1]
    thick = max(1, round(high / 7))
    (wide, _), _ = cv2.getTextSize(LABEL, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
    margin, edge = max(2, high // 2), max(2, high // 2)
    plate = np.zeros((min(height, edge + high + 2 * margin), min(width, edge + wide + 2 * margin)), np.float32)
    ink = np.zeros(plate.shape, np.uint8)
    plate[edge:, edge:] = PLATE_STRENGTH
    cv2.putText(ink, LABEL, (edge + margin, edge + margin + high), cv2.FONT_HERSHEY_SIMPLEX, scale, 255, thick, cv2.LINE_AA)
    return plate, ink.astype(np.float32) / 255


def cut_square(picture: Yuv, left: int, top: int, edge: int, size: int) -> Yuv:
    """Return a square of a picture, enlarged or reduced to another edge; all of them even, pixels."""
    how = cv2.INTER_AREA if edge > size else cv2.INTER_CUBIC
    planes = []
    for plane, step in zip(vars(picture).values(), (1, 2, 2), strict=True):
        part = plane[top // step : (top + edge) // step, left // step : (left + edge) // step]
        planes.append(cv2.resize(part, (size // step, size // step), interpolation=how))
    return Yuv(*planes)


def half_of(width: int, height: int) -> tuple[int, int]:
    """Return half a picture's width and height, even."""
    return max(2, width // 4 * 2), max(2, height // 4 * 2)


def half_size(picture: Yuv | Layer) -> Yuv | Layer:
    """Return a picture of half the width and height."""
    if isinstance(picture, Layer):
        size = half_of(*picture.alpha.shape[::-1])
        return Layer(_halved(picture.yuv), cv2.resize(picture.alpha, size, interpolation=cv2.INTER_AREA))
    return _halved(picture)


def _halved(picture: Yuv) -> Yuv:
    height, width = picture.y.shape
    size = half_of(width, height)
    half = (size[0] // 2, size[1] // 2)
    y, u, v = (
        cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
        for plane, size in zip(vars(picture).values(), (size, half, half), strict=True)
    )
    return Yuv(y, u, v)


def mouth_layer(picture: Yuv, painted: Sequence[tuple[Painted, float]]) -> Layer:
    """Return what was painted alone: over the frame that it was painted on, it gives the painted frame.

    Parameters
    ----------
    picture
        The frame after all painting.
    painted
        Each painting, and the pixels that a unit of face space has in it.
    """
    alpha = np.zeros(picture.y.shape, np.uint8)
    for each, unit in painted:
        left, top, right, bottom = each.box
        depth = cv2.distanceTransform(np.pad(each.mask.astype(np.uint8), 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
        inside = np.clip(depth / (FEATHER * unit), 0, 1) * 255
        np.maximum(alpha[top:bottom, left:right], inside.round().astype(np.uint8), out=alpha[top:bottom, left:right])
    # What is not seen need not be stored; but a little round the mouth, for editors that resample.
    shown = cv2.dilate(alpha, np.ones((2 * MARGIN_PX + 1, 2 * MARGIN_PX + 1), np.uint8)) > 0
    small = cv2.resize(shown.astype(np.uint8), picture.u.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    flat = (
        np.where(seen, plane, level)
        for plane, seen, level in zip(vars(picture).values(), (shown, small, small), FLAT, strict=True)
    )
    return Layer(Yuv(*flat), alpha)
