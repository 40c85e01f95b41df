"""A mouth onto a frame: the texture blended in, band by band, inside a fixed mask.

The difference between texture and frame is split into bands, as in a Laplacian pyramid (Burt and Adelson 1983), and each is
let in over its own width inside the mask: fine detail sharply, shades gradually. What the two differ by round the mask's edge
is first taken away everywhere, smoothly: it is light and colour, not mouth. Everything happens in the video's own Y, U, V;
samples outside the mask are never touched.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from lipwright.data.face_space import Pose
from lipwright.data.media import Yuv
from lipwright.pipeline.render.bank import Bank, Window, window_boxes
from lipwright.pipeline.render.choose import Joined
from lipwright.pipeline.render.occlusion import free_part
from lipwright.pipeline.render.shape import Mask, lower_face
from lipwright.pipeline.render.texture import mouth_texture
from lipwright.pipeline.render.warp import Box

EDGES = (0.02, 0.04, 0.08)
"""Width of the mask's soft edge for fine, middle and coarse bands, inside it, in units of face space."""

LIGHT = 0.25
"""Standard deviation over which the difference at the mask's edge is spread inwards, in units of face space."""

FOREIGN = 12.0
"""Levels by which texture and frame may differ at the mask's edge by light: more is another thing, such as a collar."""


@dataclass(frozen=True)
class Painted:
    """A painted frame, the window and mask that it was painted in, and the mask's share of the face.

    `mask` is (h, w) bool over `box`, a whole number of chroma samples.
    """

    picture: Yuv
    box: Box
    mask: np.ndarray
    mask_share: float


def paint_mouth(
    picture: Yuv,
    points: np.ndarray,
    pose: Pose,
    mouth: np.ndarray,
    bank: Bank,
    joined: Joined,
    *,
    strength: float = 1.0,
) -> Painted:
    """Paint a mouth onto a frame.

    Parameters
    ----------
    picture
        The frame; not changed.
    points : ndarray, shape (478, 3), float32
        Its landmarks, pixels.
    pose
        Its head pose (one frame).
    mouth : ndarray, shape (40, 3), float32
        The mouth to paint, face space.
    bank, joined
        The windows to paint from.
    strength
        Share of the painting in what is seen, 1 all; below, the source shows through.
    """
    height, width = picture.y.shape
    to, starts, mask = lower_face(points, pose, mouth, bank, joined, (width, height))
    left, top, right, bottom = mask.box
    out = picture.copy()
    half = np.s_[top // 2 : bottom // 2, left // 2 : right // 2]
    own = (out.y[top:bottom, left:right], out.u[half], out.v[half])
    y, below = mouth_texture(bank, joined, to, starts, mask.box)
    weight = np.full(mask.inside.shape, strength, np.float32)
    if bank.likeness is not None:
        hidden = bank.likeness.hidden(Window.of(picture, window_boxes(pose, width, height)[0]), points, pose)
        weight *= free_part(hidden, pose, mask.box)
    inside = cv2.resize(mask.inside, (right - left, bottom - top), interpolation=cv2.INTER_NEAREST).astype(bool)
    _blend(own, y, below, mask, inside, weight, float(pose.scale[0]))
    return Painted(out, mask.box, inside, mask.share)


def _blend(
    own: tuple[np.ndarray, np.ndarray, np.ndarray],
    y: np.ndarray,
    below: np.ndarray,
    mask: Mask,
    inside: np.ndarray,
    weight: np.ndarray,
    unit: float,
) -> None:
    """Blend a texture into the planes of a window, in place, by a weight (h / 2, w / 2); `inside` is the mask at full size."""
    own_y, own_u, own_v = own
    full, small = own_y.shape[::-1], own_u.shape[::-1]
    own_below = cv2.merge([cv2.resize(own_y, small, interpolation=cv2.INTER_AREA), own_u, own_v])
    # Half size and coarser.
    difference = below - own_below
    difference -= _light(difference, mask, weight, unit)
    quarter = ((small[0] + 1) // 2, (small[1] + 1) // 2)
    coarse = cv2.resize(difference, quarter, interpolation=cv2.INTER_AREA)
    spread = cv2.resize(coarse, small, interpolation=cv2.INTER_LINEAR)
    fine_edge, edge, wide_edge = (weight * _smoothstep(mask.depth / width) for width in EDGES)
    change = edge[..., None] * (difference - spread) + wide_edge[..., None] * spread
    # Full size: the band above what half the size can hold, luma only.
    detail = fine_detail(y, small) - fine_detail(own_y, small)
    detail *= cv2.resize(fine_edge, full, interpolation=cv2.INTER_LINEAR)
    detail += cv2.resize(change[..., 0], full, interpolation=cv2.INTER_LINEAR)
    _add(own_y, detail, inside)
    for k, plane in enumerate((own_u, own_v), 1):
        _add(plane, change[..., k], mask.inside.astype(bool))


def _light(difference: np.ndarray, mask: Mask, weight: np.ndarray, unit: float) -> np.ndarray:
    """Spread the difference along the mask's edge smoothly over all of it."""
    edge = weight * ((mask.depth > 0) & (mask.depth < EDGES[1]))
    edge *= 1 / (1 + ((difference**2).sum(2) / FOREIGN**2) ** 2)
    step = max(1, round(LIGHT * unit / 2 / 4))  # at a quarter of the spread a coarser grid holds it
    size = (max(1, edge.shape[1] // step), max(1, edge.shape[0] // step))
    stack = np.concatenate([difference * edge[..., None], edge[..., None]], 2)
    small = cv2.GaussianBlur(cv2.resize(stack, size, interpolation=cv2.INTER_AREA), (0, 0), 4, borderType=cv2.BORDER_CONSTANT)
    spread = small[..., :3] / np.maximum(small[..., 3:], 1e-6)
    return cv2.resize(spread, edge.shape[::-1], interpolation=cv2.INTER_LINEAR)


def fine_detail(y: np.ndarray, small: tuple[int, int]) -> np.ndarray:
    """Return what is lost when a plane is reduced to half, float32."""
    reduced = cv2.resize(cv2.resize(y, small, interpolation=cv2.INTER_AREA), y.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return cv2.subtract(y, reduced, dtype=cv2.CV_32F)


def _smoothstep(t: np.ndarray) -> np.ndarray:
    t = np.minimum(t, 1)
    return t * t * (3 - 2 * t)


def _add(plane: np.ndarray, change: np.ndarray, inside: np.ndarray) -> None:
    """Add a change to a plane, `inside` alone."""
    changed = cv2.add(plane, change, dtype=cv2.CV_8U)  # rounds and saturates
    np.copyto(plane, changed, where=inside)
