"""A mouth onto a frame: the bank's lower face, warped to the mouth that is wanted, blended inside a fixed mask.

Control points of the warp are of three kinds. Lips go where the mouth track says. The chin and what lies next to the mouth
go where they are in the bank's picture, at the frame's own head pose, so that the jaw follows the opening. Nose, upper cheeks
and the sides of the face stay where they are in the frame, so that the edge of the mask meets what is around it.

Everything happens in the video's own Y, U, V; samples outside the mask are never touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from lipwright.data.face_space import Pose
from lipwright.data.media import Yuv
from lipwright.data.mouth import INNER_LIPS, LIPS, OUTER_LIPS
from lipwright.pipeline.render.bank import Bank, Box, window_boxes
from lipwright.pipeline.render.warp import thin_plate_map

MOVING = np.array(
    [
        *(152, 148, 377, 176, 400, 149, 378, 150, 379),  # the chin's edge: its first seven also bound the mask
        *(199, 200, 18, 83, 313, 201, 421, 208, 428, 32, 262, 171, 396, 140, 369, 194, 418),  # chin
        *(57, 287, 212, 432, 202, 422, 210, 430, 43, 273, 186, 410, 92, 322, 164, 167, 393),  # round the lips
    ]
)
STILL = np.array(
    [
        *(1, 2, 98, 327, 129, 358, 49, 279),  # nose
        *(50, 280, 101, 330, 36, 266, 205, 425, 187, 411, 123, 352, 147, 376),  # cheeks
        *(58, 288, 132, 361, 93, 323, 172, 397),  # the sides of the face
    ]
)
COLLAR = np.array([(x, 1.357 + 0.42 - 0.5 * x * x, 0.05) for x in (-0.55, -0.3, 0.0, 0.3, 0.55)])
"""Points under the chin, in face space: the neck does not follow the jaw."""

CHIN = np.array([152, 148, 377, 176, 400, 149, 378, 150, 379, 199, 200, 18, 83, 313, 201, 421, 208, 428, 171, 396])
"""Moving points that also follow the lower lip where the track's mouth differs from the bank's."""

MASK = np.array([98, 327, 2, 205, 425, 187, 411, 214, 434, 135, 364, 149, 378, 176, 400, 148, 377, 152])
"""The mask is their hull, widened, below the nose."""

OVAL = np.array([10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149,
                 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109])  # fmt: skip
"""The outline of the face, in order."""

WIDENED = 0.06
"""How far the mask reaches beyond its hull, in units of face space."""

FEATHER = 0.12
"""Width of the mask's soft edge, inside it, in units of face space."""

NOSE = 2  # the landmark where the nose meets the lip: what is above it, nostrils too, is never painted

_CHIN_IN_MOVING = np.isin(MOVING, CHIN)
_LOWER_LIP = np.isin(LIPS, OUTER_LIPS[1:10] + INNER_LIPS[1:10])


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
    picture: Yuv, points: np.ndarray, pose: Pose, mouth: np.ndarray, bank: Bank, windows: Sequence[tuple[int, float]]
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
    bank, windows
        The windows to paint from, and their shares, which add up to 1.
    """
    height, width = picture.y.shape
    left, top, right, bottom = box = _box(window_boxes(pose, width, height)[0])
    goal_moving = pose.to_pixels(np.sum([share * _moving(bank, index, mouth) for index, share in windows], axis=0))[0, :, :2]
    to = np.concatenate([pose.to_pixels(mouth)[0, :, :2], goal_moving, points[STILL, :2], pose.to_pixels(COLLAR)[0, :, :2]])
    warped = _warped(bank, windows[0][0], to, box)
    shown = windows[0][1]
    for index, share in windows[1:]:
        shown += share
        warped = cv2.addWeighted(warped, 1 - share / shown, _warped(bank, index, to, box), share / shown, 0)
    mask_half, alpha_half = _mask(points, goal_moving, float(pose.scale[0]), box)
    size = (right - left, bottom - top)
    mask = cv2.resize(mask_half, size, interpolation=cv2.INTER_NEAREST)
    alpha = cv2.resize(alpha_half, size, interpolation=cv2.INTER_LINEAR) * mask
    out = picture.copy()
    half = np.s_[top // 2 : bottom // 2, left // 2 : right // 2]
    small = cv2.resize(warped[..., 1:], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    for own_plane, pasted, weight in (
        (out.y[top:bottom, left:right], warped[..., 0], alpha),
        (out.u[half], small[..., 0], alpha_half),
        (out.v[half], small[..., 1], alpha_half),
    ):
        _blend(own_plane, pasted, weight)
    oval = cv2.contourArea(points[OVAL, :2].astype(np.float32))
    return Painted(out, box, mask.astype(bool), 4 * float(mask_half.sum()) / max(oval, 1.0))


def _moving(bank: Bank, index: int, mouth: np.ndarray) -> np.ndarray:
    """Return where a window's moving points go in face space, (M, 3)."""
    moving = bank.face[index][MOVING].astype(np.float64)
    # What the track asks of the lower lip beyond what the bank's picture shows, the chin does too.
    moving[_CHIN_IN_MOVING] += (mouth - bank.mouths[index])[_LOWER_LIP].mean(0)
    return moving


def _warped(bank: Bank, index: int, to: np.ndarray, box: Box) -> np.ndarray:
    """Return a window with its control points carried to `to`, (h, w, 3) uint8 over `box`."""
    own, pose = bank.points[index], bank.pose[np.array([index])]
    start = np.concatenate([own[LIPS, :2], own[MOVING, :2], own[STILL, :2], pose.to_pixels(COLLAR)[0, :, :2]])
    map_x, map_y = thin_plate_map(to, start - bank.boxes[index, :2], box)
    return cv2.remap(bank.window(index), map_x, map_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def _box(row: np.ndarray) -> Box:
    left, top, right, bottom = (int(v) for v in row)
    return left, top, right, bottom


def _mask(points: np.ndarray, chin: np.ndarray, unit: float, box: Box) -> tuple[np.ndarray, np.ndarray]:
    """Return the mask and the weight of the painted mouth, zero outside it, both on the chroma grid: (h/2, w/2)."""
    left, top, right, bottom = box
    shape = ((bottom - top) // 2, (right - left) // 2)
    # Both the frame's own chin, which must go, and the painted one, which comes.
    around = (np.concatenate([points[MASK, :2], chin[:7]]) - (left, top)) / 2
    outside = np.ones(shape, np.uint8)
    cv2.fillConvexPoly(outside, cv2.convexHull(around.astype(np.float32)).round().astype(np.int32), 0)
    mask = (cv2.distanceTransform(outside, cv2.DIST_L2, 3) <= WIDENED * unit / 2).astype(np.uint8)
    # Below the nose, across the face's own upright.
    down = points[152, :2] - points[168, :2]
    nose = (points[NOSE, :2] - (left, top)) / 2
    x, y = np.arange(shape[1], dtype=np.float32), np.arange(shape[0], dtype=np.float32)[:, None]
    mask[(x - nose[0]) * down[0] + (y - nose[1]) * down[1] < 0] = 0
    inside = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    t = np.minimum(inside / max(FEATHER * unit / 2, 1.0), 1)
    return mask, t * t * (3 - 2 * t)


def _blend(own: np.ndarray, pasted: np.ndarray, weight: np.ndarray) -> None:
    """Blend into `own` in place, after moving the pasted part to the brightness of what is around it."""
    edge = (weight > 0) & (weight < 0.5)
    target = own.astype(np.float32)
    difference = pasted.astype(np.float32) - target
    if edge.any():
        difference -= np.median(difference[edge][::4])
    own[...] = np.clip(np.round(target + weight * difference), 0, 255).astype(np.uint8)
