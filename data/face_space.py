"""Face space: where a mouth is when the head does not move.

A similarity (rotation, scale, shift) brings each frame's landmarks onto MediaPipe's canonical face, fitted on points that
do not move with speech. x points to the image's right, y down, z away from the camera; the origin is the middle between
the outer eye corners, whose distance is 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CANONICAL: dict[int, tuple[float, float, float]] = {
    33: (-0.50000, 0.00000, 0.00000),  # outer and inner eye corners
    133: (-0.20878, 0.00886, -0.06573),
    362: (0.20878, 0.00886, -0.06573),
    263: (0.50000, 0.00000, 0.00000),
    168: (0.00000, -0.06827, -0.23197),  # bridge of the nose, down to its tip
    6: (0.00000, 0.02145, -0.29412),
    197: (0.00000, 0.10522, -0.35351),
    195: (0.00000, 0.18046, -0.40500),
    5: (0.00000, 0.25848, -0.45767),
    4: (0.00000, 0.35169, -0.49632),
    1: (0.00000, 0.42634, -0.48384),
    10: (0.00000, -0.62955, -0.14712),  # forehead, from the hairline down
    151: (0.00000, -0.43652, -0.20850),
    9: (0.00000, -0.24989, -0.24875),
    8: (0.00000, -0.15239, -0.23745),
}
"""Points of the canonical face that speech leaves still (no brow, lip or jaw), in face space.

From the geometry metadata inside ``face_landmarker.task`` (Apache-2.0)."""

ANCHORS = np.array(list(CANONICAL))
_MODEL = np.array(list(CANONICAL.values()))


@dataclass(frozen=True)
class Pose:
    """Similarities from face space to the pixels of F frames: ``pixel = scale · rotation @ x + shift``.

    Attributes
    ----------
    rotation : ndarray, shape (F, 3, 3), float64
    scale : ndarray, shape (F,), float64
        Pixels per unit of face space.
    shift : ndarray, shape (F, 3), float64
        Pixels.
    """

    rotation: np.ndarray
    scale: np.ndarray
    shift: np.ndarray

    def to_pixels(self, xyz: np.ndarray) -> np.ndarray:
        """Place points (F, K, 3) or (K, 3) of face space into the frames: (F, K, 3) pixels."""
        return self.scale[:, None, None] * (xyz @ self.rotation.transpose(0, 2, 1)) + self.shift[:, None]

    def to_face(self, pixels: np.ndarray) -> np.ndarray:
        """Bring points (F, K, 3), pixels, into face space."""
        return (pixels - self.shift[:, None]) @ self.rotation / self.scale[:, None, None]

    def from_plane(self, corner: tuple[float, float, float], step: float) -> np.ndarray:
        """Return the affine maps to pixels from a grid on a plane that faces the face, (F, 2, 3), as OpenCV wants them.

        The grid's origin is at `corner`, face space; its lines are `step` apart.
        """
        turn = self.scale[:, None, None] * self.rotation[:, :2]
        return np.concatenate([turn[..., :2] * step, (turn @ np.array(corner) + self.shift[:, :2])[..., None]], 2)

    def within(self, corner: tuple[float, float] | np.ndarray, by: float = 1.0) -> Pose:
        """Return the same for a part of the pictures that begins at `corner`, in its pixels, of which there are `by` to one."""
        shift = by * self.shift
        shift[:, :2] += (by - 1) / 2 - by * np.asarray(corner)
        return Pose(self.rotation, by * self.scale, shift)

    def angles_deg(self) -> np.ndarray:
        """Return where the faces look, (F, 2) degrees: yaw, positive to the picture's right, and pitch, positive downwards."""
        ahead = -self.rotation[:, :, 2]
        return np.degrees(np.column_stack([np.arctan2(ahead[:, 0], -ahead[:, 2]), np.arcsin(np.clip(ahead[:, 1], -1, 1))]))

    def __getitem__(self, index: np.ndarray | slice) -> Pose:
        return Pose(self.rotation[index], self.scale[index], self.shift[index])


def fit_pose(points: np.ndarray) -> Pose:
    """Fit face space to the landmarks of each frame (Umeyama 1991, least squares).

    Parameters
    ----------
    points : ndarray, shape (F, 478, 3)
        Landmarks in pixels, as in `FaceTrack`; NaN where there is no face.

    Returns
    -------
    Pose
        NaN where there is no face.
    """
    there = np.isfinite(points[:, 0, 0])
    seen = points[:, ANCHORS][there].astype(np.float64)
    model = _MODEL - _MODEL.mean(0)
    middle = seen.mean(1, keepdims=True)
    u, s, vt = np.linalg.svd((seen - middle).transpose(0, 2, 1) @ model)
    sign = np.ones_like(s)
    sign[:, 2] = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    rotation = np.full((len(points), 3, 3), np.nan)
    scale, shift = np.full(len(points), np.nan), np.full((len(points), 3), np.nan)
    rotation[there] = (u * sign[:, None]) @ vt
    scale[there] = (s * sign).sum(1) / (model**2).sum()
    shift[there] = middle[:, 0] - scale[there, None] * (rotation[there] @ _MODEL.mean(0))
    return Pose(rotation, scale, shift)
