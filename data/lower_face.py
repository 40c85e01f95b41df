"""The lower face: small, upright pictures of it, and those in which something is before the mouth.

Landmarks cannot tell a mouth that is hidden: MediaPipe invents a likely one. Pixels can. A few components of a video's own
lower faces explain any of its mouths, in any of its lights; a hand or a microphone they do not.
"""

from __future__ import annotations

import cv2
import numpy as np

from lipwright.data.face_space import Pose, fit_pose
from lipwright.data.mouth import LIPS, aperture
from lipwright.data.rows import BLOCK, Rows

SIDE = 32
"""Pixels of the small picture, both ways."""

AREA = (-0.5, 0.42, 0.5, 1.42)
"""What it shows of the plane that the lips move in, in face space: left, top, right, bottom."""

DEPTH = -0.2
"""Where that plane lies."""

MOST_FACES = 400
"""Faces that are enough to learn from what a person's can look like."""

FEWEST = 100
"""Fewer tell too little of what a face can look like."""

SMOOTHED_PX = 1.0
COARSE = SIDE // 2
"""Faces are smoothed, and reduced to so many pixels, before hidden mouths are looked for: finer is noise."""

COMPONENTS = (2, 4, 8, 12)
"""So many are fitted, one time after the other, …"""

KEPT = 0.75
"""… each time to this share of the faces, those that the ones before explain best: what hides a mouth is not learned."""

EXPLAINED, EXPLAINED_WIDE = 0.6, 0.35
"""A mouth is hidden where less of what is seen is explained, of the whole lower face and of the lips, as a share of its energy.
Mouths that are open wide are rare, and harder to explain: for those, the second counts."""

WIDE_PERCENTILE = 97

MOST_OF_SHOT = 0.5
"""Where more of a shot is told to be hidden, it is in another light, or shows another side of the face."""

_Y, _X = (np.mgrid[:COARSE, :COARSE] - (COARSE - 1) / 2) / COARSE
_LIGHT = np.linalg.qr(np.stack([np.ones_like(_X), _X, _Y]).reshape(3, -1).T)[0].T.astype(np.float32)
"""Even light and light from a side, orthonormal, (3, COARSE²)."""


def small_face(picture: np.ndarray, pose: Pose) -> np.ndarray:
    """Turn the lower face in a picture upright.

    Parameters
    ----------
    picture : ndarray, shape (H, W, 3), uint8
        Of the lower face, or more.
    pose
        Of the head (one frame), in the picture's pixels.

    Returns
    -------
    ndarray, shape (SIDE, SIDE, 3), uint8
    """
    matrix = _to_picture(pose)
    shrink = max(1, int(pose.scale[0] / SIDE))
    if shrink > 1:
        high, wide = picture.shape[:2]
        size = (max(1, wide // shrink), max(1, high // shrink))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        by = np.array(size) / (wide, high)
        matrix *= by[:, None]
        matrix[:, 2] += (by - 1) / 2
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(picture, matrix, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def small_faces(rgb: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the lower faces in an RGB picture, (N, SIDE, SIDE, 3) uint8: Y, U, V.

    Parameters
    ----------
    rgb : ndarray, shape (H, W, 3), uint8
    points : ndarray, shape (N, 478, 3)
        The faces.
    """
    pose, faces = fit_pose(points), np.zeros((len(points), SIDE, SIDE, 3), np.uint8)
    high, wide = rgb.shape[:2]
    edges = np.array([[0, 0, SIDE, SIDE], [0, SIDE, 0, SIDE]])
    for k, face in enumerate(faces):
        own = pose[k : k + 1]
        matrix = _to_picture(own)
        corners = matrix[:, :2] @ edges + matrix[:, 2:]
        left, top = np.clip(corners.min(1), 0, (wide - 2, high - 2)).astype(int)
        right, bottom = np.clip(corners.max(1) + 2, (left + 2, top + 2), (wide, high)).astype(int)
        face[:] = small_face(cv2.cvtColor(rgb[top:bottom, left:right], cv2.COLOR_RGB2YUV), own.within((left, top)))
    return faces


def _to_picture(pose: Pose) -> np.ndarray:
    """Return the map from the small face's pixels to those of the picture, (2, 3)."""
    left, top, right, _ = AREA
    step = (right - left) / SIDE
    return pose.from_plane((left + step / 2, top + step / 2, DEPTH), step)[0]


def to_small(pose: Pose) -> np.ndarray:
    """Return the map from the picture's pixels to those of the small face, (2, 3); `pose` is the head's (one frame)."""
    return cv2.invertAffineTransform(_to_picture(pose))


def find_hidden(faces: np.ndarray | Rows, points: np.ndarray | Rows, usable: np.ndarray, shots: np.ndarray) -> np.ndarray:
    """Tell in which frames of a video something is before the mouth, or most of the mouth is outside of the picture.

    Parameters
    ----------
    faces : Rows or ndarray, shape (F, SIDE, SIDE, 3), uint8
        From `small_faces`.
    points : Rows or ndarray, shape (F, 478, 3)
    usable : ndarray, shape (F,), bool
        Frames with nothing else amiss; no others are looked at.
    shots : ndarray, shape (S,), int64
        The first frame of each.

    Returns
    -------
    ndarray, shape (F,), bool
    """
    hidden, frames = np.zeros(len(usable), bool), np.flatnonzero(usable)
    if len(frames) < FEWEST:
        return hidden
    some = frames[np.linspace(0, len(frames) - 1, min(len(frames), MOST_FACES)).round().astype(int)]
    usual = UsualFace(faces[some], points[some])
    for block in np.split(frames, range(BLOCK, len(frames), BLOCK)):
        hidden[block] = usual.hidden(faces[block], points[block])
    for first, end in zip(shots, [*shots[1:], len(hidden)], strict=True):
        if hidden[first:end].sum() > MOST_OF_SHOT * usable[first:end].sum():
            hidden[first:end] = False
    return hidden


class UsualFace:
    """What most of a person's lower faces look like, whatever the light.

    Parameters
    ----------
    faces : ndarray, shape (N, SIDE, SIDE, 3), uint8
        Most of them with nothing before the mouth.
    points : ndarray, shape (N, 478, 3)
        Their landmarks.
    """

    def __init__(self, faces: np.ndarray, points: np.ndarray) -> None:
        seen = _unlit(faces).reshape(len(faces), -1)
        self._mean, self._axes = np.median(seen, 0), np.zeros((0, seen.shape[1]), np.float32)
        for count in COMPONENTS:
            off = np.linalg.norm(self._unexplained(seen), axis=1)
            kept = seen[off <= np.quantile(off, KEPT)]
            self._mean = kept.mean(0)
            self._axes = np.linalg.svd(kept - self._mean, full_matrices=False)[2][:count]
        self._wide = np.percentile(_apertures(points), WIDE_PERCENTILE)

    def hidden(self, faces: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Tell which mouths are hidden, (N,) bool; `faces` and `points` as for the whole."""
        seen = _unlit(faces)
        left = self._unexplained(seen.reshape(len(seen), -1)).reshape(seen.shape)
        lips = _near_lips(points)[..., None]
        everywhere, at_lips = (1 - _energy(left * part) / _energy(seen * part) for part in (np.float32(1), lips))
        return np.maximum(everywhere, at_lips) < np.where(_apertures(points) > self._wide, EXPLAINED_WIDE, EXPLAINED)

    def _unexplained(self, seen: np.ndarray) -> np.ndarray:
        apart = seen - self._mean
        return apart - apart @ self._axes.T @ self._axes


def _unlit(faces: np.ndarray) -> np.ndarray:
    """Return faces (N, SIDE, SIDE, 3) coarsely and without the light that is on the whole, (N, COARSE, COARSE, 3) float32."""
    coarse = np.zeros((len(faces), COARSE * COARSE, 3), np.float32)
    for out, face in zip(coarse, faces, strict=True):
        smooth = cv2.GaussianBlur(face.astype(np.float32), (0, 0), SMOOTHED_PX)
        out[:] = cv2.resize(smooth, (COARSE, COARSE), interpolation=cv2.INTER_AREA).reshape(-1, 3)
    return (coarse - _LIGHT.T @ (_LIGHT @ coarse)).reshape(-1, COARSE, COARSE, 3)


def _energy(seen: np.ndarray) -> np.ndarray:
    return np.maximum((seen**2).sum((1, 2, 3)), 1e-6)


def _near_lips(points: np.ndarray) -> np.ndarray:
    """Return where the lips are and what is beside them, (N, COARSE, COARSE) float32: 1 there."""
    pose, near = fit_pose(points), np.zeros((len(points), COARSE, COARSE), np.uint8)
    for k, lips in enumerate(near):
        matrix = to_small(pose[k : k + 1])
        at = (points[k, LIPS, :2] @ matrix[:, :2].T + matrix[:, 2] + 0.5) * COARSE / SIDE - 0.5
        cv2.fillConvexPoly(lips, cv2.convexHull(at.astype(np.float32)).round().astype(np.int32), 1)
        lips[:] = cv2.dilate(lips, np.ones((3, 3), np.uint8))
    return near.astype(np.float32)


def _apertures(points: np.ndarray) -> np.ndarray:
    return aperture(fit_pose(points).to_face(points[:, LIPS].astype(np.float64)))
