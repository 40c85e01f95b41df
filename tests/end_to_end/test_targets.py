"""Targets as people have them, through the real command: each is painted as asked, or refused in a line that names it.

The talking photograph is shown in every guise: small, huge, odd, deep, turned, interlaced, mute, irregular, still, leaving.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import soundfile

from lipwright.data.face_space import fit_pose
from lipwright.data.landmarks import FaceTrack, face_track
from lipwright.data.media import BT709, Colour, Frame, Yuv, probe, read_frames
from lipwright.data.mouth import MouthTrack, aperture, load_track, measure_mouth, track_of

Encode = Callable[..., Path]
RATE = Fraction(25)
FRAMES = 36
SHOWN, SAID = 20, 66
"""First frames of two stretches of the talk: what targets show, and what they are to say; both have open mouths."""

LEAST_R = 0.6
"""Least correlation of the aperture that was asked for and the one that is read, in a video that is too short to read well."""

SAME = 3.0
"""Mean difference, in levels, that the encoder may make where nothing is painted."""


@dataclass(frozen=True)
class Guise:
    """What targets are made of.

    Attributes
    ----------
    encode
        The writer of media.
    pictures
        `FRAMES` frames of the talk.
    points : ndarray, shape (FRAMES, 478, 3), float32
        Landmarks in them.
    closed
        A frame of the talk whose mouth is closed.
    sound : ndarray, shape (1, N), float32
        As long as the frames, at 48 kHz.
    """

    encode: Encode
    pictures: list[Yuv]
    points: np.ndarray
    closed: Yuv
    sound: np.ndarray

    def write(self, shown: list[Any], name: str = "target.mp4", times: list[Fraction] | None = None, **how: Any) -> Path:
        """Encode frames, at 25 a second unless `times` are given, with sound unless `how` says otherwise."""
        times = times or [k / RATE for k in range(len(shown))]
        how = {"audio": [(Fraction(0), self.sound)]} | how
        return self.encode(name, video=list(zip(times, shown, strict=True)), **how)


@pytest.fixture(scope="module")
def talk_frames(talk: Any) -> list[Yuv]:
    """Return the decoded frames of the talk."""
    return [frame.yuv() for frame in read_frames(probe(talk.path))]


@pytest.fixture(scope="module")
def talk_face(talk: Any) -> FaceTrack:
    """Return the face track of the talk."""
    return face_track(probe(talk.path))


@pytest.fixture
def guise(encode: Encode, talk_frames: list[Yuv], talk_face: FaceTrack, tone: Any) -> Guise:
    """Return what targets are made of."""
    part = slice(SHOWN, SHOWN + FRAMES)
    closed = talk_frames[int(aperture(measure_mouth(talk_face)).argmin())]
    return Guise(encode, talk_frames[part], talk_face.points[part], closed, tone(FRAMES / 25, 48000))


@pytest.fixture(scope="module")
def mouth(talk_face: FaceTrack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a mouth track that says another part of the talk, from time zero on."""
    path, own = tmp_path_factory.mktemp("mouth") / "mouth.json", track_of(talk_face)
    steps = slice(4 * SAID, 4 * (SAID + FRAMES))
    replace(own, xyz=own.xyz[steps], valid=own.valid[steps]).save(path)
    return path


@pytest.fixture
def speech(talk: Any, tmp_path: Path) -> Callable[[Fraction], Path]:
    """Return the writer of the sound of that part: `speech(length_s)`."""
    samples, rate_hz = soundfile.read(talk.path.with_suffix(".wav"), dtype="float32")

    def write(length_s: Fraction) -> Path:
        first = SAID * rate_hz // 25
        soundfile.write(tmp_path / "speech.wav", samples[first : first + round(length_s * rate_hz)], rate_hz)
        return tmp_path / "speech.wav"

    return write


# Targets --------------------------------------------------------------------------------------------------------------


def _resized(picture: Yuv, size: tuple[int, int], canvas: tuple[int, int]) -> Yuv:
    """Enlarge a picture to `size` and put it into the middle of a grey canvas; an odd edge is a chroma sample of its own."""
    planes = []
    for plane, step, grey in ((picture.y, 1, 110), (picture.u, 2, 128), (picture.v, 2, 128)):
        small = cv2.resize(plane, (size[0] // step, size[1] // step), interpolation=cv2.INTER_CUBIC)
        out = np.full((-(-canvas[1] // step), -(-canvas[0] // step)), grey, np.uint8)
        top, left = (canvas[1] - size[1]) // 4 * 2 // step, (canvas[0] - size[0]) // 4 * 2 // step
        out[top : top + small.shape[0], left : left + small.shape[1]] = small
        planes.append(out)
    return Yuv(*planes)


def _as(picture: Yuv, pix_fmt: str) -> av.VideoFrame:
    """Convert a picture to another pixel format."""
    made = picture.to_picture(BT709).reformat(format=pix_fmt)
    made.color_primaries, made.color_trc, made.colorspace, made.color_range = 1, 1, 1, BT709.range
    return made


def _odd(picture: Yuv, size: tuple[int, int], pix_fmt: str) -> av.VideoFrame:
    """Return a picture of any size; 4:2:0 frames of FFmpeg may be odd, but `Yuv.to_picture` makes them even."""
    wide = _resized(picture, (320, 320), (size[0] + size[0] % 2, size[1] + size[1] % 2)).to_picture(BT709)
    rgb = np.ascontiguousarray(wide.to_ndarray(format="rgb24")[: size[1], : size[0]])
    made = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=pix_fmt, dst_colorspace="ITU709")
    made.colorspace, made.color_range = 1, 1
    return made


def _woven(first: Yuv, second: Yuv) -> Yuv:
    """Interlace two pictures, the first one's lines on top."""
    out = first.copy()
    for own, other in zip(vars(out).values(), vars(second).values(), strict=True):
        own[1::2] = other[1::2]
    return out


def _moved(picture: Yuv, right: int) -> Yuv:
    """Shift a picture to the right, over grey."""
    planes = []
    for plane, step, grey in ((picture.y, 1, 110), (picture.u, 2, 128), (picture.v, 2, 128)):
        out, by = np.full_like(plane, grey), right // step
        out[:, by:] = plane[:, : plane.shape[1] - by]
        planes.append(out)
    return Yuv(*planes)


def _still(guise: Guise) -> Path:
    return guise.write([guise.closed] * FRAMES)


def _five(guise: Guise) -> Path:
    return guise.write(guise.pictures[:5])


def _uhd(guise: Guise) -> Path:
    return guise.write([_resized(p, (2160, 2160), (3840, 2160)) for p in guise.pictures[:6]], options={"preset": "ultrafast"})


def _deep_h264(guise: Guise) -> Path:
    return guise.write([_as(p, "yuv420p10le") for p in guise.pictures], pix_fmt="yuv420p10le")


def _deep_ffv1(guise: Guise) -> Path:
    return guise.write([_as(p, "yuv420p10le") for p in guise.pictures], "target.mkv", pix_fmt="yuv420p10le", codec="ffv1")


def _rotated(guise: Guise, degrees: int) -> Path:
    """Stored lying, shown upright, 240 wide and 320 high."""
    shown = [Yuv(p.y[:, 40:280], p.u[:, 20:140], p.v[:, 20:140]) for p in guise.pictures]
    stored = [Yuv(*(np.rot90(plane, -degrees // 90) for plane in vars(p).values())) for p in shown]
    return guise.write(stored, turn_degrees=degrees)


def _interlaced(guise: Guise) -> Path:
    pairs = zip(guise.pictures, [*guise.pictures[1:], guise.pictures[-1]], strict=True)
    return guise.write([_woven(a, b) for a, b in pairs], options={"x264-params": "tff=1", "flags": "+ildct+ilme"})


def _odd_wide(guise: Guise) -> Path:
    return guise.write([_odd(p, (853, 480), "yuv444p") for p in guise.pictures], "target.mkv", codec="ffv1", pix_fmt="yuv444p")


def _odd_both(guise: Guise) -> Path:
    return guise.write([_odd(p, (451, 325), "yuv420p") for p in guise.pictures], "target.mkv", codec="ffv1")


def _odd_chroma(guise: Guise) -> Path:
    return guise.write([_resized(p, (320, 320), (450, 450)) for p in guise.pictures])


def _motion_jpeg(guise: Guise) -> Path:
    shown = [p.to_picture(BT709).reformat(format="yuvj422p", dst_color_range=2) for p in guise.pictures]
    for frame in shown:
        frame.color_range = 2
    return guise.write(shown, "target.mov", codec="mjpeg", pix_fmt="yuvj422p", colour=Colour(1, 1, 1, 2))


def _mute(guise: Guise) -> Path:
    return guise.write(guise.pictures, audio=[])


def _irregular(guise: Guise) -> Path:
    """10 to 67 ms between frames."""
    ticks = np.cumsum(np.random.default_rng(4).integers(900, 6000, FRAMES)) - 900
    times = [Fraction(int(tick - ticks[0]), 90000) for tick in ticks]
    return guise.write(guise.pictures, times=times, time_base=Fraction(1, 90000))


def _leaving(guise: Guise) -> Path:
    """Out of the picture to the right within 0.6 s, away for 0.2 s, and back."""
    right = np.interp(np.arange(FRAMES), [2, 15, 20, 33], [0, 320, 320, 0])
    return guise.write([_moved(p, int(x) // 2 * 2) for p, x in zip(guise.pictures, right, strict=True)])


def _profile(guise: Guise) -> Path:
    """Turn the head by what the landmarks tell of its depth, exaggerated: the tracker reads some 55 degrees."""
    from scipy.interpolate import griddata

    shown, angle = [], np.radians(75)
    x, y = (a.ravel() for a in np.meshgrid(np.arange(0, 320, 0.25), np.arange(0, 320, 0.5)))
    for picture, points in zip(guise.pictures, guise.points, strict=True):
        bgr = picture.to_picture(BT709).to_ndarray(format="bgr24")
        depth = 1.6 * (griddata(points[:, :2], points[:, 2], (x, y)) - points[:, 2].max())
        middle = points[:, 0].mean()
        goal = np.round(middle + (x - middle) * np.cos(angle) - depth * np.sin(angle))
        away = (x - middle) * np.sin(angle) + depth * np.cos(angle)
        order = np.flatnonzero(np.isfinite(depth) & (goal >= 0) & (goal < 320))
        order = order[np.argsort(-away[order])]  # what is nearest is drawn last
        turned = np.full_like(bgr, 110)
        turned[y[order].astype(int), goal[order].astype(int)] = bgr[y[order].astype(int), x[order].astype(int)]
        holes = (turned == 110).all(2)
        turned[holes] = cv2.medianBlur(turned, 5)[holes]
        shown.append(Yuv.from_bgr(turned))
    return guise.write(shown)


PAINTED: dict[str, Callable[[Guise], Path]] = {
    "still": _still,
    "4k": _uhd,
    "10-bit-h264": _deep_h264,
    "10-bit-ffv1": _deep_ffv1,
    "rotated-90": lambda guise: _rotated(guise, 90),
    "rotated-180": lambda guise: _rotated(guise, 180),
    "interlaced": _interlaced,
    "853x480": _odd_wide,
    "451x325": _odd_both,
    "450x450": _odd_chroma,
    "motion-jpeg": _motion_jpeg,
    "mute": _mute,
    "irregular": _irregular,
}


# Tests ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PAINTED)
def test_an_unusual_target(lipwright: Any, guise: Guise, mouth: Path, speech: Any, tmp_path: Path, kind: str) -> None:
    target = PAINTED[kind](guise)
    own = list(read_frames(probe(target)))
    ran = lipwright(
        "render",
        "--mouth",
        mouth,
        "--target",
        target,
        "--audio",
        speech(own[-1].time + 1 / RATE),
        "--out",
        "out.mp4",
        "--json",
        cwd=tmp_path,
    )
    print(ran)
    assert (ran.code, ran.err) == (0, "")
