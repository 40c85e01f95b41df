"""A photograph made to talk: lips, jaw and cheeks by thin-plate warp, the inside of the mouth painted.

The photograph is cut along the lips into an upper and a lower piece. Each has a warp of its own, which carries its
lip to where it is to be, so that the lips part and meet without tearing; above and beside the mouth the two agree.
Into the gap between the inner lips goes a mouth: the person's own upper teeth, lower teeth and a tongue that follow
the jaw, and darkness.

Everywhere here ``e`` is the distance between the outer eye corners, the *region* is the rectangle that the mouth can
change, and the *face frame* has its origin between the mouth corners, x along the line of the eyes, y down.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import ceil
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.data.articulation import COLUMNS, LOWER_LIP, UPPER_LIP, Lips, articulate
from lipwright.data.follower import track_images
from lipwright.data.speech import Speech
from lipwright.data.thin_plate import thin_plate

Floats = NDArray[np.float64]
Picture = NDArray[np.uint8]

# Numbers of MediaPipe's face points.
_JAW = {  # share of the jaw's drop that each point takes
    152: 1.0, 148: 1.0, 377: 1.0, 176: 0.95, 400: 0.95, 149: 0.85, 378: 0.85, 150: 0.7, 379: 0.7, 136: 0.5, 365: 0.5,
    172: 0.3, 397: 0.3, 58: 0.12, 288: 0.12, 199: 1.0, 208: 1.0, 428: 1.0, 32: 0.9, 262: 0.9,
}  # fmt: skip
_STILL = [1, 4, 2, 98, 327, 129, 358, 195, 50, 280, 117, 346, 101, 330, 36, 266, 123, 352, 234, 454, 93, 323, 132, 361]
_EYES = (  # upper and lower lid from the image's left to its right
    ([33, 246, 161, 160, 159, 158, 157, 173, 133], [33, 7, 163, 144, 145, 153, 154, 155, 133]),
    ([362, 398, 384, 385, 386, 387, 388, 466, 263], [362, 382, 381, 380, 374, 373, 390, 249, 263]),
)

_CELL_PX = 6  # the warp is solved on a grid this coarse
_THROAT, _MOUTH_FLOOR, _TONGUE = (np.array(bgr, np.float32) for bgr in ((22, 15, 36), (42, 32, 76), (92, 84, 158)))
_CREASE = np.array((0.52, 0.55, 0.38), np.float32)  # share of the light lost where the lips turn inwards
_LIP_TINT = np.array((0.88, 0.86, 0.97), np.float32)  # a smile stretches the colour out of lips
_BLINK_S = 0.24


class Head(NamedTuple):
    """A small motion of the head in the picture, about the base of the neck."""

    dx_px: float = 0.0
    dy_px: float = 0.0
    roll_rad: float = 0.0
    scale: float = 1.0


_AT_REST = Head()
_NO_MAP = np.empty(0, np.float32)  # cv2.remap takes x and y in one map


def astronaut(size: int = 512) -> Picture:
    """Head and collar of scikit-image's astronaut: Eileen Collins, photographed by NASA, in the public domain.

    Returns
    -------
    ndarray of uint8
        (size, size, 3) BGR. At 512 the face is 250 px high.
    """
    from skimage import data

    left, top, side = 115, 0, 224
    crop = data.astronaut()[top : top + side, left : left + side]
    enlarged = cv2.resize(crop, (size, size), interpolation=cv2.INTER_LANCZOS4)
    return np.asarray(cv2.cvtColor(enlarged, cv2.COLOR_RGB2BGR), np.uint8)


class Talker:
    """A face that takes on any mouth, from one photograph.

    Parameters
    ----------
    photo_bgr
        (H, W, 3) uint8, BGR: one upright face that looks at the camera, smiling with the teeth together.
    points
        (478, 2) MediaPipe's landmarks in the photograph's pixels.

    Attributes
    ----------
    eyes_px : float
        Distance between the outer eye corners.
    lips : Lips
        The person's lips, for any mouth.

    Raises
    ------
    ValueError
        Photograph or points of another shape or type.
    """

    def __init__(self, photo_bgr: Picture, points: Floats) -> None:
        if photo_bgr.dtype != np.uint8 or photo_bgr.ndim != 3 or photo_bgr.shape[2] != 3:
            raise ValueError(f"Expected a photograph (H, W, 3) of uint8, got {photo_bgr.shape} of {photo_bgr.dtype}.")
        if points.shape != (478, 2):
            raise ValueError(f"Expected 478 landmarks of x and y, got {points.shape = }.")
        points = points.astype(np.float64)
        self._photo = photo_bgr
        self.eyes_px = float(np.hypot(*(points[263] - points[33])))
        self._set_region(points)
        self._set_lips(points - self._corner)
        self._set_inside(points - self._corner)
        self._lids = [_Lid(photo_bgr, points[upper], points[lower], self.eyes_px) for upper, lower in _EYES]
        self._set_head(points)

    @classmethod
    def from_photo(cls, photo_bgr: Picture) -> Talker:
        """Return the talker of a photograph, whose landmarks MediaPipe finds.

        Raises
        ------
        MissingPartError
            The face landmark model cannot be had.
        """
        points, _ = track_images([(Fraction(0), np.ascontiguousarray(photo_bgr[..., ::-1]))])
        return cls(photo_bgr, points[0, :, :2])

    def frame(self, mouth: NDArray[np.float32], *, blink: float = 0.0, head: Head = _AT_REST) -> Picture:
        """One picture.

        Parameters
        ----------
        mouth
            (5,) one row of `lipwright.data.articulation.articulate`.
        blink
            0 (eyes open) to 1 (closed).
        head
            Motion of the head. The picture's border stays where it is.

        Returns
        -------
        ndarray of uint8
            (H, W, 3) BGR. While the head is still, pixels away from mouth, jaw and eyes equal the photograph's.
        """
        picture = self._photo.copy()
        if blink > 0.0:
            for lid in self._lids:
                lid.close(picture, min(blink, 1.0))
        self._move_mouth(picture, mouth)
        return picture if head == _AT_REST else self._move_head(picture, head)

    def _set_region(self, points: Floats) -> None:
        e, (height, width) = self.eyes_px, self._photo.shape[:2]
        x0, x1 = max(int(points[234, 0] - 0.1 * e), 0), min(int(points[454, 0] + 0.1 * e), width)
        y0, y1 = max(int(points[4, 1] - 0.25 * e), 0), min(int(points[152, 1] + 0.5 * e), height)
        self._region = slice(y0, y1), slice(x0, x1)
        self._corner = np.array([x0, y0], np.float64)
        self._size = x1 - x0, y1 - y0
        self._pixels = _pixel_grid(*self._size)

        # Cell centres: cv2.resize interpolates between those.
        xs, ys = ((np.arange(n // _CELL_PX) + 0.5) * n / (n // _CELL_PX) - 0.5 for n in self._size)
        self._cells = np.stack(np.meshgrid(xs, ys), -1)  # (rows, columns, 2)
        to_edge = np.minimum(np.minimum(xs, x1 - x0 - 1 - xs), np.minimum(ys, y1 - y0 - 1 - ys)[:, None])
        self._fade = _smoothstep((to_edge - _CELL_PX) / (0.12 * e))[..., None]
        side = np.linspace(0.0, 1.0, 6)
        box = [(u, v) for u in side for v in side if u in (0.0, 1.0) or v in (0.0, 1.0)]
        self._still = np.concatenate([points[_STILL] - self._corner, np.array(box) * self._size])

    def _warp(self, at_rest: Floats, moved: Floats) -> NDArray[np.float32]:
        """The region's skin with `at_rest` carried to `moved`, both (N, 2), and the still points kept."""
        centres = np.concatenate([moved, self._still])
        shift = np.concatenate([at_rest - moved, np.zeros_like(self._still)])
        field = thin_plate(centres, shift, self._cells.reshape(-1, 2))
        field = (field.reshape(self._cells.shape) * self._fade).astype(np.float32)
        source = cv2.resize(field, self._size, interpolation=cv2.INTER_CUBIC) + self._pixels
        return np.asarray(cv2.remap(self._skin, source, _NO_MAP, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE))

    def _set_lips(self, points: Floats) -> None:
        """The face frame, and what the warp carries: lips and jaw as they are in the photograph."""
        self._jaw, self._jaw_share = points[list(_JAW)], np.array(list(_JAW.values()))[:, None]
        self._rings = [points[outer + inner] for outer, inner in (UPPER_LIP, LOWER_LIP)]
        along = (points[263] - points[33]) / self.eyes_px
        self._axes = np.array([along, [-along[1], along[0]]])  # the face frame's x and y
        self._origin = 0.5 * (points[61] + points[291])
        face = (points - self._origin) @ self._axes.T
        self.lips = Lips(face / self.eyes_px)
        self._gum_y, self._bite_y = face[13, 1], face[14, 1]  # how high and low the upper teeth show

    def _move_mouth(self, picture: Picture, mouth: NDArray[np.float32]) -> None:
        """Paint lips, jaw and the inside of the mouth into `picture`."""
        upper, lower = (lip * self.eyes_px @ self._axes + self._origin for lip in self.lips.contours(mouth))
        rounding, jaw_drop = float(mouth[COLUMNS.index("rounding")]), float(mouth[COLUMNS.index("jaw")])
        drop = 0.15 * self.eyes_px * jaw_drop
        jaw = self._jaw + drop * self._jaw_share * self._axes[1]
        above, below = (
            self._warp(np.concatenate([ring, self._jaw]), np.concatenate([lip, jaw]))
            for ring, lip in zip(self._rings, (upper, lower), strict=True)
        )
        face = below + (above - below) * self._upper_share(upper)
        self._paint_inside(face, upper[11:], lower[11:], drop, 1.0 - 0.4 * rounding)
        picture[self._region] = np.clip(face + 0.5, 0.0, 255.0).astype(np.uint8)

    def _upper_share(self, upper: Floats) -> NDArray[np.float32]:
        """Where the upper piece shows: 1 above the lips' inner edge, with a soft border beyond the corners."""
        (width, _), left, right = self._size, upper[0], upper[10]
        over = np.array([[width, right[1]], [width, 0.0], [0.0, 0.0], [0.0, left[1]]])
        hard = _fill(self._size, np.concatenate([left[None], upper[11:], right[None], over]))
        soft = cv2.GaussianBlur(hard, (0, 0), 0.05 * self.eyes_px)
        x = self._pixels[..., 0]
        beyond = _smoothstep(np.maximum(left[0] - x, x - right[0]) / (0.06 * self.eyes_px) + 0.5)
        edge = cv2.GaussianBlur(hard, (0, 0), 0.7)
        return np.asarray(edge + (soft - edge) * beyond, np.float32)[..., None]

    def _set_inside(self, points: Floats) -> None:
        """Take the teeth out of the photograph, and carry the lips on over the place where they were."""
        photo = self._photo[self._region]
        gap = _fill(self._size, points[UPPER_LIP[1] + LOWER_LIP[1][::-1]])
        near = cv2.dilate((gap > 0.2).astype(np.uint8), np.ones((5, 5), np.uint8))
        lips = _fill(self._size, points[UPPER_LIP[0] + LOWER_LIP[0][::-1]])
        tint = 1.0 - (1.0 - _LIP_TINT) * cv2.GaussianBlur(lips, (0, 0), 0.015 * self.eyes_px)[..., None]
        self._skin = cv2.inpaint(photo, near, 5, cv2.INPAINT_TELEA).astype(np.float32) * tint

        teeth = cv2.erode(gap, np.ones((3, 3))) * _smoothstep((photo.min(-1).astype(np.float32) - 70.0) / 60.0)
        # Their colour is carried outwards, so that the soft edge takes nothing from the lips.
        colour = cv2.inpaint(photo, near * (teeth < 0.9), 3, cv2.INPAINT_TELEA)
        self._teeth = np.dstack([colour.astype(np.float32), cv2.GaussianBlur(teeth, (0, 0), 0.8)])

    def _paint_inside(self, face: NDArray[np.float32], upper: Floats, lower: Floats, drop: float, light: float) -> None:
        """Paint what shows between the inner lips `upper` and `lower`, (11, 2) region pixels, into `face`."""
        e = self.eyes_px
        ring = np.concatenate([upper, lower[::-1]])
        low, high = np.maximum(ring.min(0).astype(int) - 8, 0), ring.max(0).astype(int) + 9
        window = slice(low[1], high[1]), slice(low[0], high[0])
        gap = _fill(self._size, ring)[window]  # 1 where the mouth is open
        x, y = np.moveaxis((self._pixels[window] - self._origin.astype(np.float32)) @ self._axes.T, -1, 0)

        floor_y = float((lower[5] - self._origin) @ self._axes[1])
        inside = _THROAT + (_MOUTH_FLOOR - _THROAT) * _smoothstep((y - self._bite_y) / (0.35 * e))[..., None]
        tongue = 1.0 - np.hypot(x / (0.2 * e), (y - floor_y - 0.02 * e) / (0.13 * e))
        inside += (_TONGUE - inside) * (0.8 * _smoothstep(tongue / 0.5))[..., None]
        # The lower teeth are the upper ones over again, smaller; they ride on the jaw.
        top = self._origin + (self._bite_y + 0.02 * e + 1.1 * drop) * self._axes[1] - low
        gum = self._origin + self._gum_y * self._axes[1]
        to_upper = np.array([[-1 / 0.85, 0.0, gum[0] + top[0] / 0.85], [0.0, 1 / 0.8, gum[1] - top[1] / 0.8]])
        backwards = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        lower_teeth = cv2.warpAffine(self._teeth, to_upper, gap.shape[::-1], flags=backwards)
        for teeth, share in ((lower_teeth, 0.75 * light), (self._teeth[window], 0.95 * light)):
            inside += (teeth[..., :3] - inside) * (share * teeth[..., 3:])
        # Lips and cheeks shade what lies behind them.
        shade = cv2.GaussianBlur(gap, (0, 0), 0.03 * e)
        inside *= (0.3 + 0.7 * _smoothstep(1.6 * shade / max(float(shade.max()), 0.1) - 0.4))[..., None]

        line = np.zeros(gap.shape, np.uint8)
        cv2.polylines(line, [np.round((ring - low) * 16).astype(np.int32)], True, 255, 1, cv2.LINE_AA, 4)
        crease = np.minimum(cv2.GaussianBlur(line.astype(np.float32) / 255.0, (0, 0), 0.9) * 1.5, 1.0)[..., None]
        skin = face[window] * (1.0 - crease * _CREASE)
        # fillPoly paints a line where the lips meet: there is no gap until they part by a pixel or two.
        parted = float(_smoothstep(np.max(lower[:, 1] - upper[:, 1]) / (0.02 * e)))
        face[window] = skin + (inside - skin) * (parted * cv2.GaussianBlur(gap, (0, 0), 0.8))[..., None]

    def _set_head(self, points: Floats) -> None:
        """How far each pixel goes with the head: all the way on face and hair, not at all at the border."""
        height, width = self._photo.shape[:2]
        self._all_pixels = _pixel_grid(width, height)
        x, y = np.moveaxis(self._all_pixels, -1, 0)
        middle, chin = 0.5 * (points[234] + points[454]), points[152]
        self._neck = chin + np.array([0.0, 0.3 * self.eyes_px])
        reach = np.hypot((x - middle[0]) / (1.75 * self.eyes_px), (y - middle[1]) / (1.75 * self.eyes_px))
        to_edge = np.minimum(np.minimum(x, width - 1 - x), np.minimum(y, height - 1 - y)) / (0.3 * self.eyes_px)
        below = (self._neck[1] + 0.1 * self.eyes_px - y) / (0.45 * self.eyes_px)
        follows = _smoothstep((1.0 - reach) / 0.3) * _smoothstep(to_edge) * _smoothstep(below)
        self._follows = np.repeat(follows.astype(np.float32)[..., None], 2, axis=-1)

    def _move_head(self, picture: Picture, head: Head) -> Picture:
        cos, sin = np.cos(head.roll_rad) / head.scale, np.sin(head.roll_rad) / head.scale
        back = np.array([[cos, sin], [-sin, cos]])  # from the moved picture to the still one
        offset = self._neck - back @ (self._neck + np.array([head.dx_px, head.dy_px]))
        shift = cv2.transform(self._all_pixels, np.column_stack([back - np.eye(2), offset]))
        source = cv2.add(self._all_pixels, cv2.multiply(shift, self._follows))
        return np.asarray(cv2.remap(picture, source, _NO_MAP, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE))


class _Lid:
    """An upper eyelid that comes down: the skin above the eye carried on over it, with lashes at its edge."""

    def __init__(self, photo: Picture, upper: Floats, lower: Floats, e: float) -> None:
        x0, x1 = int(upper[0, 0]) - 4, int(upper[-1, 0]) + 5
        x = np.arange(x0, x1, dtype=np.float64)
        arch = np.sin(np.pi * np.clip((x - upper[0, 0]) / (upper[-1, 0] - upper[0, 0]), 0.0, 1.0)) ** 0.7
        self._rest = np.interp(x, upper[:, 0], upper[:, 1])
        self._shut = np.maximum(np.interp(x, lower[:, 0], lower[:, 1]), self._rest) + 0.008 * e * arch
        self._arch, self._lash_width = arch, 0.011 * e
        top = self._rest - 0.065 * e * arch  # above the open eye's lashes
        y0, y1 = int(top.min()) - 6, int(self._shut.max()) + 6
        self._window = slice(y0, y1), slice(x0, x1)
        self._y = np.arange(y0, y1, dtype=np.float64)[:, None]
        self._open = photo[self._window].astype(np.float32)
        # The lid takes the colour of the skin above it, column by column.
        rows = np.broadcast_to(top - y0 - 2.0, self._open.shape[:2]).astype(np.float32)
        columns = np.broadcast_to(x - x0, rows.shape).astype(np.float32)
        above = cv2.remap(self._open, columns, rows, cv2.INTER_LINEAR)
        self._skin = cv2.GaussianBlur(above, (0, 0), 0.035 * e) * 0.93
        self._below_top = _smoothstep((self._y - top) / 5.0 + 0.5)

    def close(self, picture: Picture, blink: float) -> None:
        """Draw the lid over the share `blink` of the eye, in `picture`."""
        edge = self._rest + blink * (self._shut - self._rest)
        cover = self._below_top * np.clip(edge - self._y + 0.5, 0.0, 1.0) * _smoothstep(4.0 * blink)
        lashes = 0.6 * np.exp(-(((self._y - edge) / self._lash_width) ** 2)) * self._arch * min(4.0 * blink, 1.0)
        lid = self._open + (self._skin - self._open) * cover[..., None]
        lid *= 1.0 - lashes[..., None]
        picture[self._window] = np.clip(lid + 0.5, 0.0, 255.0).astype(np.uint8)


def talking_frames(
    talker: Talker, speech: Speech, *, rate: Fraction = Fraction(25), seed: int = 0
) -> Iterator[tuple[Fraction, Picture]]:
    """Make `talker` say `speech`, with blinks and slow small motions of the head.

    Parameters
    ----------
    talker, speech
        Who says what.
    rate
        Frames a second.
    seed
        Of blinks and head motion.

    Yields
    ------
    time_s : Fraction
        ``k / rate``, from 0 to the last frame that starts within the speech.
    frame : ndarray of uint8
        (H, W, 3) BGR.
    """
    count = ceil(Fraction(len(speech.samples), speech.rate_hz) * rate)
    times = [k / rate for k in range(count)]
    times_s = np.array([float(time) for time in times])
    mouths = articulate(speech.phones, times_s)
    rng = np.random.default_rng(seed)
    blinks_s = np.cumsum(rng.uniform(1.8, 5.0, int(speech.duration_s) + 2))
    # Every coordinate of the head sways with two slow sines.
    rates_hz, phases = rng.uniform(0.06, 0.35, (4, 2)), rng.uniform(0.0, 2.0 * np.pi, (4, 2))
    for time, time_s, mouth in zip(times, times_s, mouths, strict=True):
        into = float(np.min(np.abs(blinks_s - time_s))) / (0.5 * _BLINK_S)
        sway = np.sin(2.0 * np.pi * rates_hz * time_s + phases).sum(1)
        dx_px, dy_px = talker.eyes_px * 0.014 * sway[0], talker.eyes_px * 0.009 * sway[1]
        head = Head(dx_px, dy_px, 0.012 * sway[2], 1.0 + 0.004 * sway[3])
        yield time, talker.frame(mouth, blink=float(_smoothstep(1.6 * (1.0 - into))), head=head)


def _smoothstep(x: NDArray[np.floating] | float) -> NDArray[np.floating]:
    """0 below 0, 1 above 1, smooth between."""
    x = np.clip(x, 0.0, 1.0)
    return np.asarray(x * x * (3.0 - 2.0 * x))


def _pixel_grid(width: int, height: int) -> NDArray[np.float32]:
    """(height, width, 2) x and y of every pixel."""
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)


def _fill(size: tuple[int, int], polygon: Floats) -> NDArray[np.float32]:
    """Share of each pixel of a (width, height) picture that lies inside `polygon`, (N, 2): (height, width)."""
    mask = np.zeros(size[::-1], np.uint8)
    cv2.fillPoly(mask, [np.round(polygon * 16.0).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return mask.astype(np.float32) / 255.0
