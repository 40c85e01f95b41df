"""The lower face that is asked for: where the points round a mouth go in the frame, and the mask that bounds the change.

Points are of three kinds. Lips go where the mouth track says. The chin and what lies next to the mouth go where the bank's
pictures have them, at the frame's own head pose, so that the jaw follows the opening; what is asked of the lips beyond what
those pictures show, they do too, less the farther they are. Nose, cheeks and the sides of the face stay where the frame has
them, and towards the mask's edge everything does, so that it meets what is around it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from lipwright.data.face_space import Pose
from lipwright.data.mouth import INNER_LIPS, LIPS, OUTER_LIPS
from lipwright.pipeline.render.bank import Bank, even_boxes
from lipwright.pipeline.render.choose import Joined
from lipwright.pipeline.render.warp import Box

MOVING = np.array(
    [
        *(152, 148, 377, 176, 400, 149, 378, 150, 379),  # the chin's edge: its first five also bound the mask
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
"""Moving points that follow the lower lip as a whole where the track's mouth differs from the bank's, the jaw being a bone; the
nearer to the lips, the more they follow these themselves."""

JAW = 0.5
"""How far they do: the sides of the jaw lie beyond the mask and stay, and a chin that leaves them behind gets pointed."""

FOLLOW = 0.1
"""How far the skin round the lips follows them beyond what the bank shows (standard deviation), in units of face space."""

BEYOND = np.array([1.9, 0.8, 1.0])
"""How much of what is asked of the lips beyond what the bank's pictures show is painted, in x, y, z: the tracker sees half
of a warp to the side, and all of one up or down, noise included."""

BOUND = np.array([97, 326, 2, 92, 322, 186, 410, 57, 287, 212, 432, 202, 422, 204, 424, 148, 377, 152])
"""The mask is their hull, widened, below the nose."""

OVAL = np.array([10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149,
                 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109])  # fmt: skip
"""The outline of the face, in order."""

WIDENED = 0.022
"""How far the mask reaches beyond its hull, in units of face space."""

MEET = 0.06
"""Over this distance from the hull's edge inwards, moving points come from the frame's own place to the bank's."""

CHIN_MOST = 0.08
"""How far the chin leaves the frame's own place at most, in units of face space: its sides lie beyond the mask and stay."""

CHIN_MOVES = (0.042, 0.08)
BELOW = 0.05
"""From the first movement of the chin on, the mask reaches below it; from the second, by `BELOW`. Units of face space."""

NOSE = 2  # the landmark where the nose meets the lip: what is above it, nostrils too, is never painted

_CHIN_IN_MOVING = np.isin(MOVING, CHIN)
_LOWER_LIP = np.isin(LIPS, OUTER_LIPS[1:10] + INNER_LIPS[1:10])
_CHIN_TIP, _CHIN_EDGE, _CHIN_LINE = 3, 5, 9


@dataclass(frozen=True)
class Mask:
    """Where a frame may change: fixed before anything is painted.

    Attributes
    ----------
    box
        What it lies in; a whole number of chroma samples.
    inside : ndarray, shape (h / 2, w / 2), uint8
        1 where samples may change, on the grid of chroma samples.
    depth : ndarray, shape (h / 2, w / 2), float32
        Distance to the nearest sample outside, in units of face space.
    share
        Its area over that of the face's outline.
    """

    box: Box
    inside: np.ndarray
    depth: np.ndarray
    share: float


def lower_face(
    points: np.ndarray, pose: Pose, mouth: np.ndarray, bank: Bank, joined: Joined, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, Mask]:
    """Lay out the lower face of one frame.

    Parameters
    ----------
    points : ndarray, shape (478, 3), float32
        The frame's landmarks, pixels.
    pose
        Its head pose (one frame).
    mouth : ndarray, shape (40, 3), float32
        The mouth to paint, face space.
    bank, joined
        The N windows to paint from.
    size
        Width and height of the frame.

    Returns
    -------
    to : ndarray, shape (P, 2), float64
        Where the control points go, pixels.
    starts : ndarray, shape (N, P, 2), float64
        Where they are in each window's frame, pixels.
    mask
    """
    windows, shares = joined.windows, joined.shares
    mean = np.tensordot(shares, bank.mouths[windows].astype(np.float64), 1)
    mouth = mean + BEYOND * (mouth - mean)
    asked = np.tensordot(shares, np.stack([_moving(bank, index, mouth) for index in windows]), 1)
    lips, moving, own = pose.to_pixels(mouth)[0, :, :2], pose.to_pixels(asked)[0, :, :2], points[MOVING, :2].astype(np.float64)
    unit = float(pose.scale[0])
    moving[_CHIN_IN_MOVING] = _held(own[_CHIN_IN_MOVING], moving[_CHIN_IN_MOVING], lips, unit)
    below = _below_chin(points, own[:_CHIN_EDGE], moving[:_CHIN_EDGE], unit)
    hull = cv2.convexHull(np.concatenate([points[BOUND, :2], moving[:_CHIN_TIP], below]).astype(np.float32))
    depth = np.array([cv2.pointPolygonTest(hull, (float(x), float(y)), True) for x, y in own]) / unit
    weight = np.clip((depth + WIDENED) / MEET, 0, 1)[:, None]
    moving = own + weight * (moving - own)
    to = np.concatenate([lips, moving, points[STILL, :2], pose.to_pixels(COLLAR)[0, :, :2]])
    shown, poses = bank.points[windows], bank.pose[windows]
    starts = np.concatenate(
        [shown[:, LIPS, :2], shown[:, MOVING, :2], shown[:, STILL, :2], poses.to_pixels(COLLAR)[..., :2]], 1
    )
    return to, starts, _mask(points, hull, unit, size)


def _chin_moved(away: np.ndarray, unit: float) -> float:
    """Return how far a chin's tip moves, in units of face space, if its points move so, (≥ 3, 2) pixels."""
    return float(np.linalg.norm(away[:_CHIN_TIP], axis=1).mean()) / unit


def _held(own: np.ndarray, chin: np.ndarray, lips: np.ndarray, unit: float) -> np.ndarray:
    """Hold back a chin that would go far, the more the farther; a small movement stays nearly as it is.

    Its edge is held as a whole. Between it and the lips (40, 2), which go where they are asked, the skin is stretched evenly:
    all of it next to the lip, the shadow there would become a second mouth.
    """
    away = chin - own
    far = _chin_moved(away, unit)
    back = CHIN_MOST * np.tanh(far / CHIN_MOST) / max(far, 1e-6) - 1
    to_lips, to_edge = (np.linalg.norm(chin[:, None] - line, axis=2).min(1) for line in (lips, chin[:_CHIN_LINE]))
    return chin + (to_lips / (to_lips + to_edge))[:, None] * back * away


def _below_chin(points: np.ndarray, own: np.ndarray, moving: np.ndarray, unit: float) -> np.ndarray:
    """Return points that widen the mask below a chin that moves: it leaves its own place, and nothing of it may stay there."""
    down = points[152, :2] - points[168, :2]
    share = float(np.clip((_chin_moved(moving - own, unit) - CHIN_MOVES[0]) / np.diff(CHIN_MOVES)[0], 0, 1))
    out = []
    for edge in (own, moving):
        inner = edge[[0, 1, 2, 1, 2]]
        out.append(inner + share * (edge - inner + BELOW * unit * down / np.linalg.norm(down)))
    return np.concatenate(out)


def _moving(bank: Bank, index: int, mouth: np.ndarray) -> np.ndarray:
    """Return where a window's moving points go in face space, (M, 3)."""
    moving = bank.face[index][MOVING].astype(np.float64)
    lips, beyond = bank.mouths[index], mouth - bank.mouths[index]
    near = np.exp(-((moving[:, None, :2] - lips[None, :, :2]) ** 2).sum(-1) / (2 * FOLLOW**2))
    nearest = near.max(1, keepdims=True)
    follow = nearest * (near @ beyond) / near.sum(1, keepdims=True)
    follow[_CHIN_IN_MOVING] += (1 - nearest[_CHIN_IN_MOVING]) * JAW * beyond[_LOWER_LIP].mean(0)
    return moving + follow


def _mask(points: np.ndarray, hull: np.ndarray, unit: float, size: tuple[int, int]) -> Mask:
    reach = WIDENED * unit + 4
    left, top, right, bottom = even_boxes(hull.min(0) - reach, hull.max(0) + reach, *size)[0].tolist()
    shape = ((bottom - top) // 2, (right - left) // 2)
    outside = np.ones(shape, np.uint8)
    cv2.fillConvexPoly(outside, ((hull[:, 0] - (left, top)) / 2).round().astype(np.int32), 0)
    inside = (cv2.distanceTransform(outside, cv2.DIST_L2, 3) <= WIDENED * unit / 2).astype(np.uint8)
    # Below the nose, across the face's own upright.
    down = points[152, :2] - points[168, :2]
    nose = (points[NOSE, :2] - (left, top)) / 2
    x, y = np.arange(shape[1], dtype=np.float32), np.arange(shape[0], dtype=np.float32)[:, None]
    inside[(x - nose[0]) * down[0] + (y - nose[1]) * down[1] < 0] = 0
    depth = cv2.distanceTransform(np.pad(inside, 1), cv2.DIST_L2, 3)[1:-1, 1:-1] * np.float32(2 / unit)
    oval = cv2.contourArea(points[OVAL, :2].astype(np.float32))
    return Mask((left, top, right, bottom), inside, depth, 4 * float(inside.sum()) / max(oval, 1.0))
