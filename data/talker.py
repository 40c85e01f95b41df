"""A photograph made to talk: lips, jaw and cheeks by thin-plate warp, the inside of the mouth painted.

The photograph is cut along the lips into an upper and a lower piece. Each has a warp of its own that carries its lip
to where the mouth is to be, so that the lips can part and meet without tearing; above and beside the mouth the two
agree. Into the gap between the inner lips goes a mouth: the person's own upper teeth, lower teeth and tongue that
follow the jaw, and darkness.

Everything is measured in the photograph's pixels and in ``e``, the distance between the outer eye corners.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.data.articulation import COLUMNS, REST_WIDTH, articulate
from lipwright.data.speech import Speech

Points = NDArray[np.float64]
"""(N, 2) x and y in pixels."""
Image = NDArray[np.uint8]
"""(H, W, 3) BGR."""

# Landmark numbers of MediaPipe's face mesh, from the person's right (image left) to the left.
_OUTER_UPPER = [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291]
_OUTER_LOWER = [61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291]
_INNER_UPPER = [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308]
_INNER_LOWER = [78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308]
_JAW = {  # share of the jaw's drop that each point takes
    152: 1.0, 148: 1.0, 377: 1.0, 176: 0.95, 400: 0.95, 149: 0.85, 378: 0.85, 150: 0.7, 379: 0.7, 136: 0.5, 365: 0.5,
    172: 0.3, 397: 0.3, 58: 0.12, 288: 0.12, 199: 1.0, 208: 1.0, 428: 1.0, 32: 0.9, 262: 0.9,
}  # fmt: skip
_STILL = [1, 4, 2, 98, 327, 129, 358, 195, 50, 280, 117, 346, 101, 330, 36, 266, 123, 352, 234, 454, 93, 323, 132, 361]
_EYES = (  # upper and lower lid, each from one corner to the other
    ([33, 246, 161, 160, 159, 158, 157, 173, 133], [33, 7, 163, 144, 145, 153, 154, 155, 133]),
    ([362, 398, 384, 385, 386, 387, 388, 466, 263], [362, 382, 381, 380, 374, 373, 390, 249, 263]),
)

_GRID_STEP_PX = 6


class Head(NamedTuple):
    """Small motion of the head in the picture, about the base of the neck."""

    dx_px: float = 0.0
    dy_px: float = 0.0
    roll_rad: float = 0.0
    scale: float = 1.0


def astronaut(size: int = 512) -> Image:
    """Head and collar of scikit-image's astronaut: Eileen Collins, photographed by NASA (public domain).

    Parameters
    ----------
    size
        Side of the square picture in pixels. At 512 the face is 250 px high.

    Returns
    -------
    Image
        (size, size, 3) BGR.
    """
    from skimage import data

    left, top, side = 115, 0, 224
    crop = data.astronaut()[top : top + side, left : left + side]
    enlarged = cv2.resize(crop, (size, size), interpolation=cv2.INTER_LANCZOS4)
    return np.asarray(cv2.cvtColor(enlarged, cv2.COLOR_RGB2BGR))


class Talker:
    """A face that takes on any mouth, from one photograph.

    Parameters
    ----------
    photo_bgr
        (H, W, 3) BGR, uint8: one upright face, the mouth closed or smiling with the teeth together.
    points
        (478, 2) MediaPipe's landmarks in the photograph's pixels.

    Raises
    ------
    ValueError
        Photograph or points of another shape or type.
    """

    def __init__(self, photo_bgr: Image, points: Points) -> None:
        if photo_bgr.dtype != np.uint8 or photo_bgr.ndim != 3 or photo_bgr.shape[2] != 3:
            raise ValueError(f"Expected uint8 (H, W, 3), got {photo_bgr.dtype} {photo_bgr.shape}.")
        if points.shape != (478, 2):
            raise ValueError(f"Expected 478 landmarks of x and y, got {points.shape = }.")
        points = points.astype(np.float64)
        self.photo = photo_bgr
        across = points[263] - points[33]
        self._e = float(np.hypot(*across))
        self._x_axis = across / self._e
        self._origin = 0.5 * (points[61] + points[291])
        self._set_region(points)
        self._set_shape(points)
        self._set_inside(points)
        self._set_eyes(points)
        self._set_head(points)

    def frame(self, mouth: NDArray[np.float32], *, blink: float = 0.0, head: Head = Head()) -> Image:
        """One picture.

        Parameters
        ----------
        mouth
            (5,) one row of `lipwright.data.articulation.articulate`.
        blink
            0 eyes open to 1 closed.
        head
            Motion of the head; the picture's border stays where it is.

        Returns
        -------
        Image
            (H, W, 3) BGR. With the head still, pixels away from lips, jaw and eyes equal the photograph's.
        """
        picture = self.photo.copy()
        if blink > 0.0:
            self._close_eyes(picture, min(blink, 1.0))
        self._move_mouth(picture, dict(zip(COLUMNS, mouth.tolist(), strict=True)))
        return picture if head == Head() else self._move_head(picture, head)

    # ---- mouth and jaw ----

    def _face_frame(self, points: Points) -> Points:
        """Pixels → pixels from the middle of the mouth, along and across the line of the eyes."""
        x, y = self._x_axis
        return (points - self._origin) @ np.array([[x, -y], [y, x]])

    def _picture_frame(self, points: Points) -> Points:
        x, y = self._x_axis
        return points @ np.array([[x, y], [-y, x]]) + self._origin

    def _set_region(self, points: Points) -> None:
        """The rectangle outside which no mouth moves a pixel, and the warp's grid in it."""
        e, (height, width) = self._e, self.photo.shape[:2]
        left, right = points[234, 0] - 0.1 * e, points[454, 0] + 0.1 * e
        top, bottom = points[4, 1] - 0.35 * e, points[152, 1] + 0.5 * e
        x0, y0 = max(int(left), 0), max(int(top), 0)
        x1, y1 = min(int(right), width), min(int(bottom), height)
        self._region = (slice(y0, y1), slice(x0, x1))
        self._corner = np.array([x0, y0], np.float64)
        self._size = (x1 - x0, y1 - y0)  # width, height as cv2 has them

        columns = np.linspace(-0.5, self._size[0] - 0.5, self._size[0] // _GRID_STEP_PX + 1)
        columns = 0.5 * (columns[1:] + columns[:-1])  # cell centres: what cv2.resize interpolates between
        rows = np.linspace(-0.5, self._size[1] - 0.5, self._size[1] // _GRID_STEP_PX + 1)
        rows = 0.5 * (rows[1:] + rows[:-1])
        self._grid_shape = (len(rows), len(columns))
        self._grid = np.stack(np.meshgrid(columns, rows), -1).reshape(-1, 2)  # (G, 2) region pixels
        across = np.minimum(columns, self._size[0] - 1 - columns) / (0.12 * e)
        down = np.minimum(rows, self._size[1] - 1 - rows) / (0.12 * e)
        fade = np.clip(np.minimum(across[None, :], down[:, None]) - 0.1, 0.0, 1.0)
        self._fade = (fade * fade * (3.0 - 2.0 * fade)).astype(np.float32)[..., None]
        ys, xs = np.mgrid[0 : self._size[1], 0 : self._size[0]].astype(np.float32)
        self._ys, self._xs = ys, xs

    def _set_shape(self, points: Points) -> None:
        """What the mouth keeps of the photograph's, and the control points."""
        inside = points - self._corner
        self._still = inside[_STILL]
        self._jaw = inside[list(_JAW)]
        self._jaw_share = np.array(list(_JAW.values()))
        self._upper = inside[_OUTER_UPPER + _INNER_UPPER]
        self._lower = inside[_OUTER_LOWER + _INNER_LOWER]

        face = self._face_frame(points)
        half = 0.5 * (face[291, 0] - face[61, 0])
        middle = 0.5 * (face[291, 0] + face[61, 0])
        self._outer_s = (face[_OUTER_UPPER, 0] - middle) / half, (face[_OUTER_LOWER, 0] - middle) / half
        half_inner = 0.5 * (face[308, 0] - face[78, 0])
        middle_inner = 0.5 * (face[308, 0] + face[78, 0])
        self._inner_s = tuple((face[ring, 0] - middle_inner) / half_inner for ring in (_INNER_UPPER, _INNER_LOWER))
        self._inner_share = half_inner / half
        self._thickness = (
            face[_INNER_UPPER, 1] - face[_OUTER_UPPER, 1], face[_OUTER_LOWER, 1] - face[_INNER_LOWER, 1],
        )  # fmt: skip

    def _lips(self, mouth: dict[str, float]) -> tuple[Points, Points]:
        """Upper and lower lip, each outer then inner contour, (22, 2) in the region's pixels."""
        e, rounding, tuck = self._e, mouth["rounding"], mouth["tuck"]
        half = 0.5 * mouth["width"] * e
        gap = mouth["aperture"] * e
        rise = gap * (0.18 + 0.55 * tuck)
        fullness = (REST_WIDTH / mouth["width"]) ** 0.8 * (1.0 + 0.2 * rounding) * (1.0 - 0.4 * mouth["aperture"])
        thick_upper = self._thickness[0] * 1.5 * fullness
        thick_lower = self._thickness[1] * 1.15 * fullness * (1.0 - 0.4 * tuck)
        half_inner = half * self._inner_share * (1.0 - 0.15 * rounding)

        def line(x: Points) -> Points:
            """Where the lips meet: a little lower in the middle than at the corners."""
            s = np.clip(np.abs(x) / half, 0.0, 1.0)
            return e * (0.135 - 0.05 * s**2 - 0.015 * tuck) + 0.12 * gap * s**2

        lips = []
        for ring, thick, sign, share in ((0, thick_upper, -1.0, rise), (1, thick_lower, 1.0, gap - rise)):
            s = self._inner_s[ring]
            inner_x = s * half_inner
            inner_y = line(inner_x) + sign * share * np.clip(1.0 - s**2, 0.0, 1.0) ** (0.75 - 0.2 * rounding)
            outer_x = self._outer_s[ring] * half
            outer_y = inner_y + sign * thick
            outer_y[[0, -1]] = line(outer_x[[0, -1]])
            face = np.concatenate([np.stack([outer_x, outer_y], -1), np.stack([inner_x, inner_y], -1)])
            lips.append(self._picture_frame(face) - self._corner)
        return lips[0], lips[1]

    def _move_mouth(self, picture: Image, mouth: dict[str, float]) -> None:
        """Paint lips, jaw and the inside of the mouth into `picture`."""
        upper, lower = self._lips(mouth)
        drop = 0.15 * self._e * mouth["jaw"]
        jaw = self._jaw + drop * self._jaw_share[:, None] * np.array([-self._x_axis[1], self._x_axis[0]])
        above = self._warp(np.concatenate([upper, jaw]), np.concatenate([self._upper, self._jaw]))
        below = self._warp(np.concatenate([lower, jaw]), np.concatenate([self._lower, self._jaw]))
        mask = self._upper_mask(upper)[..., None]
        face = below + (above - below) * mask
        hole = self._fill([upper[11:], lower[:10:-1]])
        face = self._paint_inside(face, hole, upper[11:], lower[11:], drop)
        picture[self._region] = np.clip(face + 0.5, 0, 255).astype(np.uint8)
