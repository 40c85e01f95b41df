"""What stands before the mouth: where a frame's lower face is not what this person's lower face ever looks like.

A few principal components of the footage's lower faces, small and turned upright, say what can be there: any mouth of theirs,
in any light of theirs. What they cannot explain is a hand, a microphone, a caption; it keeps the source's pixels. Faces with
something before them give no mouths either.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from lipwright.data.face_space import Pose
from lipwright.data.lower_face import SIDE, small_face, to_small
from lipwright.data.mouth import LIPS, aperture
from lipwright.pipeline.render.bank import Window
from lipwright.pipeline.render.shape import BOUND
from lipwright.pipeline.render.warp import Box

COMPONENTS = 24
KEPT = 0.8
"""Share of the faces, those explained best, that the components are taken from a second time."""

FLOOR = 4.0
"""Levels that no residual counts below: noise of the camera and the codec."""

DOUBT, SURE = 4.5, 6.5
"""Residuals, in units of what is usual at the place, at which the source begins to show, and shows alone."""

LEAST = 0.04
"""What is hidden must cover this share of the small face outside the lips."""

WIDEST_PERCENTILE = 97

FOREIGN = 20.0
"""Levels beyond anything that was seen at a place at which luma is foreign to it."""

ROUNDS = 3
"""Fits of the components to one face: what they do not explain weighs less in the next."""


def window_face(window: Window, pose: Pose) -> np.ndarray:
    """Turn the lower face in a window upright, (SIDE, SIDE, 3) float32: Y, U, V; `pose` is the head's (one frame)."""
    return small_face(window.half, pose.within(window.corner, 0.5)).astype(np.float32)


@dataclass(frozen=True)
class Likeness:
    """What a person's lower face can look like.

    Attributes
    ----------
    mean : ndarray, shape (SIDE · SIDE · 3,), float32
    components : ndarray, shape (C, SIDE · SIDE · 3), float32
        Orthonormal; the last ones lighten and tint the whole.
    usual : ndarray, shape (SIDE, SIDE), float32
        Residual that is usual at each place, levels.
    darkest, lightest : ndarray, shape (SIDE, SIDE), float32
        Luma of anything seen there and beside.
    widest : ndarray, shape (), float32
        Aperture that the mouth rarely exceeds: of one that is open wider, little is known.
    """

    mean: np.ndarray
    components: np.ndarray
    usual: np.ndarray
    darkest: np.ndarray
    lightest: np.ndarray
    widest: np.ndarray

    def hidden(self, window: Window, points: np.ndarray, pose: Pose) -> np.ndarray:
        """Tell how surely each place of a lower face is hidden.

        Parameters
        ----------
        window
            The lower face.
        points : ndarray, shape (478, 3), float32
            Its landmarks, pixels of the picture.
        pose
            Of the head (one frame).

        Returns
        -------
        ndarray, shape (SIDE, SIDE), float32
            0 to 1; on the small face.
        """
        face = window_face(window, pose)
        apart = face.reshape(-1) - self.mean
        weight = np.ones((SIDE, SIDE), np.float32)
        for _ in range(ROUNDS):
            weighted = self.components * np.repeat(weight.reshape(-1), 3)
            fitted = np.linalg.solve(weighted @ self.components.T + 1e-3 * np.eye(len(weighted)), weighted @ apart)
            residual = _size(apart - fitted @ self.components) / self.usual
            weight = (1 / (1 + (residual / DOUBT) ** 4)).astype(np.float32)
        sure = np.clip((cv2.GaussianBlur(residual, (0, 0), 1) - DOUBT) / (SURE - DOUBT), 0, 1)
        matrix = to_small(pose)
        light, dark = face[..., 0] > self.lightest + FOREIGN, face[..., 0] < self.darkest - FOREIGN
        opening = aperture(pose.to_face(points[None, LIPS].astype(np.float64)))[0]
        return sure * _large(sure, light, dark | (opening <= self.widest), points[:, :2] @ matrix[:, :2].T + matrix[:, 2])


def _large(sure: np.ndarray, anywhere: np.ndarray, on_skin: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return 1 where something hidden is large on the skin: gloss is not, nor is an open mouth, however rarely seen.

    What counts is told apart by place: `anywhere`, and `on_skin`, away from the lips, (SIDE, SIDE) bool.
    """
    skin, lips = np.zeros((2, SIDE, SIDE), np.uint8)
    cv2.fillConvexPoly(skin, cv2.convexHull(points[BOUND].astype(np.float32)).round().astype(np.int32), 1)
    cv2.fillConvexPoly(lips, cv2.convexHull(points[LIPS].astype(np.float32)).round().astype(np.int32), 1)
    near_lips = cv2.dilate(lips, np.ones((3, 3), np.uint8))
    count, parts = cv2.connectedComponents(
        cv2.morphologyEx(((sure > 0) & (skin > 0)).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3)))
    )
    large = np.zeros((SIDE, SIDE), np.uint8)
    for part in range(1, count):
        if ((parts == part) & (anywhere | (on_skin & (near_lips == 0)))).sum() >= LEAST * SIDE * SIDE:
            large |= (parts == part).astype(np.uint8)
    return cv2.GaussianBlur(cv2.dilate(large, np.ones((3, 3), np.uint8)).astype(np.float32), (0, 0), 0.7)


def free_part(hidden: np.ndarray, pose: Pose, box: Box) -> np.ndarray:
    """Bring what `Likeness.hidden` told to a box of the picture: 1 where nothing is before the face, (h / 2, w / 2) float32."""
    left, top, right, bottom = box
    to_face = to_small(pose)
    matrix = np.column_stack([2 * to_face[:, :2], to_face[:, :2] @ (left + 0.5, top + 0.5) + to_face[:, 2]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return 1 - cv2.warpAffine(hidden, matrix, ((right - left) // 2, (bottom - top) // 2), flags=flags)


def learn_likeness(faces: np.ndarray, apertures: np.ndarray) -> Likeness:
    """Learn what a person's lower face can look like.

    Parameters
    ----------
    faces : ndarray, shape (N, SIDE, SIDE, 3), float32
        From `window_face`.
    apertures : ndarray, shape (N,)
        Of their mouths.
    """
    flat = faces.reshape(len(faces), -1)
    worst = _explain(flat)[2].mean((1, 2))
    mean, components, residual = _explain(flat[worst <= np.quantile(worst, KEPT)])
    lumas, around = faces[..., 0], np.ones((3, 3), np.uint8)
    usual = cv2.GaussianBlur(np.median(residual, 0), (0, 0), 1.5)
    return Likeness(
        mean,
        components.astype(np.float32),
        np.maximum(usual, FLOOR).astype(np.float32),
        cv2.erode(lumas.min(0), around),
        cv2.dilate(lumas.max(0), around),
        np.asarray(np.percentile(apertures, WIDEST_PERCENTILE), np.float32),
    )


def _explain(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean and components of faces (N, SIDE · SIDE · 3), and what these leave of each, (N, SIDE, SIDE)."""
    mean = flat.mean(0)
    apart = flat - mean
    axes = np.linalg.svd(apart, full_matrices=False)[2][: min(COMPONENTS, len(flat) // 3)]
    tints = np.tile(np.eye(3, dtype=np.float32), (1, SIDE * SIDE))
    components = np.linalg.qr(np.concatenate([axes, tints]).T)[0].T
    return mean, components, _size(apart - apart @ components.T @ components)


def _size(apart: np.ndarray) -> np.ndarray:
    """Return the size of differences (…, SIDE · SIDE · 3) at each place, (…, SIDE, SIDE)."""
    return np.sqrt((apart.reshape(*apart.shape[:-1], SIDE, SIDE, 3) ** 2).sum(-1))
