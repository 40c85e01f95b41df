"""Targets as people have them, through the real command: each is painted as asked, or refused in a line that names it.

The talking photograph is shown in every guise: huge, odd, deep, rotated, interlaced, mute, irregular, still, turned, leaving.
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
from lipwright.data.media import BT709, Frame, Media, Yuv, probe, read_frames
from lipwright.data.mouth import INNER_LIPS, aperture, load_track, measure_mouth, track_of
from lipwright.pipeline.render import render_video

Encode = Callable[..., Path]
Render = Callable[..., Any]
RATE = Fraction(25)
FRAMES = 36
SHOWN, SAID = 19, 65
"""First frames of two stretches of the talk: what targets show, and what they are to say; both have open mouths."""

LEAST_R = 0.8
"""Least correlation of the aperture that was asked for and the one that is read."""

SAME = 3.0
"""Mean difference, in levels, that the encoder may make where nothing is painted."""

OPEN = 0.12
"""Aperture from which a mouth shows its inside."""

DARK = 0.55
"""The inside of an open mouth is darker than this share of what is round it; lips drawn apart are not."""

STREAK = 14.0
"""Levels between neighbouring rows beside the mouth that no cheek has: the talk's own stay below 11."""


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
    closed, widest
        Frames of the talk: with the mouth closed, and as open as it gets.
    sound : ndarray, shape (1, N), float32
        As long as the frames, at 48 kHz.
    """

    encode: Encode
    pictures: list[Yuv]
    points: np.ndarray
    closed: Yuv
    widest: Yuv
    sound: np.ndarray

    def write(self, shown: list[Any], name: str = "target.mp4", times: list[Fraction] | None = None, **how: Any) -> Path:
        """Encode frames, at 25 a second unless `times` are given, with sound unless `how` says otherwise."""
        times = times or [k / RATE for k in range(len(shown))]
        how = {"audio": [(Fraction(0), self.sound)]} | how
        return self.encode(name, video=list(zip(times, shown, strict=True)), **how)


@pytest.fixture
def guise(encode: Encode, talk_pictures: list[Yuv], talk_track: FaceTrack, tone: Any) -> Guise:
    """Return what targets are made of."""
    part = slice(SHOWN, SHOWN + FRAMES)
    opening = aperture(measure_mouth(talk_track))
    closed, widest = talk_pictures[int(opening.argmin())], talk_pictures[int(opening.argmax())]
    return Guise(encode, talk_pictures[part], talk_track.points[part], closed, widest, tone(float(FRAMES / RATE), 48000))


@pytest.fixture(scope="module")
def mouth(talk_track: FaceTrack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a mouth track that says another part of the talk, from time zero on."""
    path, own = tmp_path_factory.mktemp("mouth") / "mouth.json", track_of(talk_track)
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


@pytest.fixture
def render(lipwright: Any, mouth: Path, speech: Callable[[Fraction], Path], tmp_path: Path) -> Render:
    """Return a function that renders a target to ``out.mp4`` and looks at what every render has to do.

    `render(target)` makes the sound as long as the target, `length_s` makes it so long; with `may_refuse`, the answer may be
    one or two lines in place of a file.
    """

    def run(target: Path, length_s: Fraction | None = None, *, may_refuse: bool = False) -> Any:
        own = [frame.time for frame in read_frames(probe(target))]
        sound = speech(length_s or own[-1] + Fraction(1, 200))
        before = {p.name for p in tmp_path.iterdir()}
        ran = lipwright(
            "render",
            "--mouth",
            mouth,
            "--target",
            target,
            "--audio",
            sound,
            "--out",
            "out.mp4",
            "--no-retime",
            "--json",
            cwd=tmp_path,
        )
        new = {p.name for p in tmp_path.iterdir()} - before
        if may_refuse and ran.code == 3:
            lines = ran.err.splitlines()
            assert ran.out == ""
            assert 1 <= len(lines) <= 2, ran.err
            assert lines[0].startswith("lipwright: ")
            assert target.name in ran.err
            assert new == set()
            return ran
        assert (ran.code, ran.err) == (0, "")
        assert new == {"out.mp4"}
        assert ran.json["outside_max_abs"] == 0
        media = probe(tmp_path / "out.mp4")
        assert media.need_audio().rate_hz == soundfile.info(str(sound)).samplerate
        shown = [frame.time for frame in read_frames(media)]
        assert len(shown) == ran.json["frames"]
        assert shown[: len(own)] == own
        assert length_s or len(shown) == len(own)
        return ran

    return run


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


def _uhd(guise: Guise) -> Path:
    return guise.write([_resized(p, (2160, 2160), (3840, 2160)) for p in guise.pictures[:5]], options={"preset": "ultrafast"})


def _deep(guise: Guise) -> Path:
    return guise.write([_as(p, "yuv420p10le") for p in guise.pictures], pix_fmt="yuv420p10le")


def _rotated(guise: Guise) -> Path:
    """Stored lying, shown upright, 240 wide and 320 high."""
    shown = [Yuv(p.y[:, 40:280], p.u[:, 20:140], p.v[:, 20:140]) for p in guise.pictures]
    stored = [Yuv(*(np.rot90(plane, -1) for plane in vars(p).values())) for p in shown]
    return guise.write(stored, turn_degrees=90)


def _interlaced(guise: Guise) -> Path:
    pairs = zip(guise.pictures, [*guise.pictures[1:], guise.pictures[-1]], strict=True)
    return guise.write([_woven(a, b) for a, b in pairs], options={"x264-params": "tff=1", "flags": "+ildct+ilme"})


def _odd_wide(guise: Guise) -> Path:
    return guise.write([_odd(p, (853, 480), "yuv444p") for p in guise.pictures], "target.mkv", codec="ffv1", pix_fmt="yuv444p")


def _odd_both(guise: Guise) -> Path:
    return guise.write([_odd(p, (451, 325), "yuv420p") for p in guise.pictures], "target.mkv", codec="ffv1")


def _odd_chroma(guise: Guise) -> Path:
    return guise.write([_resized(p, (320, 320), (450, 450)) for p in guise.pictures])


def _mute(guise: Guise) -> Path:
    return guise.write(guise.pictures, audio=[])


def _irregular(guise: Guise) -> Path:
    """10 to 67 ms between frames."""
    ticks = np.cumsum(np.random.default_rng(4).integers(900, 6000, FRAMES)) - 900
    times = [Fraction(int(tick - ticks[0]), 90000) for tick in ticks]
    return guise.write(guise.pictures, times=times, time_base=Fraction(1, 90000))


def _leaving(guise: Guise) -> Path:
    """Out of the picture to the right, slowly where its edge cuts the mouth, and back; only there is the mouth wide open."""
    right = np.interp(np.arange(FRAMES), [2, 9, 13, 17, 23, 27], [0, 140, 152, 320, 320, 0])
    shown = [guise.widest if 9 <= k <= 13 else guise.pictures[10 + k % 16] for k in range(FRAMES)]
    return guise.write([_moved(p, int(x) // 2 * 2) for p, x in zip(shown, right, strict=True)])


def _profile(guise: Guise) -> Path:
    """Turn the head by what the landmarks tell of its depth, exaggerated: the tracker reads some 55 degrees."""
    from scipy.interpolate import griddata

    shown, angle = [], np.radians(65)
    x, y = (a.ravel() for a in np.meshgrid(np.arange(0, 320, 0.25), np.arange(0, 320, 0.5)))
    for picture, points in zip(guise.pictures, guise.points, strict=True):
        bgr = picture.to_picture(BT709).to_ndarray(format="bgr24")
        depth = 1.6 * (griddata(points[:, :2], points[:, 2], (x, y)) - points[:, 2].max())
        middle = points[:, 0].mean()
        goal = np.round(160 + (x - middle) * np.cos(angle) - depth * np.sin(angle))
        away = (x - middle) * np.sin(angle) + depth * np.cos(angle)
        order = np.flatnonzero(np.isfinite(depth) & (goal >= 0) & (goal < 320))
        order = order[np.argsort(-away[order])]  # what is nearest is drawn last
        turned = np.full_like(bgr, 110)
        turned[y[order].astype(int), goal[order].astype(int)] = bgr[y[order].astype(int), x[order].astype(int)]
        holes = (turned == 110).all(2)
        turned[holes] = cv2.medianBlur(turned, 7)[holes]
        shown.append(Yuv.from_bgr(turned))
    return guise.write(shown)


KINDS: dict[str, tuple[Callable[[Guise], Path], Callable[[Media, Frame], bool]]] = {
    "4k": (_uhd, lambda _, frame: (frame.picture.width, frame.picture.height) == (3840, 2160)),
    "10-bit": (_deep, lambda _, frame: frame.picture.format.name == "yuv420p10le"),
    "rotated": (_rotated, lambda media, _: media.need_video().quarter_turns == 1),
    "interlaced": (_interlaced, lambda _, frame: frame.picture.interlaced_frame),
    "853x480": (_odd_wide, lambda _, frame: (frame.picture.width, frame.picture.height) == (853, 480)),
    "451x325": (_odd_both, lambda _, frame: (frame.picture.width, frame.picture.height) == (451, 325)),
    "450x450": (_odd_chroma, lambda _, frame: (frame.picture.width, frame.picture.height) == (450, 450)),
    "mute": (_mute, lambda media, _: media.audio is None),
    "irregular": (_irregular, lambda media, _: media.need_video().time_base == Fraction(1, 90000)),
}
"""How each target is made, and what makes it that."""


# What is seen ---------------------------------------------------------------------------------------------------------


def _lumas(path: Path) -> list[np.ndarray]:
    """Return the luma of every frame."""
    return [frame.yuv().y for frame in read_frames(probe(path))]


def _difference(own: np.ndarray, shown: np.ndarray) -> float:
    """Return the mean difference of two pictures; the output's may have an edge more."""
    return float(cv2.absdiff(own, np.ascontiguousarray(shown[: own.shape[0], : own.shape[1]])).mean())


def _read_r(path: Path, mouth: Path) -> float:
    """Return the correlation of the aperture that is read from a video with the one that was asked for."""
    shown = face_track(probe(path))
    asked, valid = load_track(mouth).at(shown.times_s)
    good = valid & shown.found
    return float(np.corrcoef(aperture(measure_mouth(shown))[good], aperture(asked)[good])[0, 1])


def _darkness(path: Path) -> float:
    """Return the luma of what is inside a video's open mouths, as a share of what is round them: the median over the frames."""
    lumas, track, shares = _lumas(path), face_track(probe(path)), []
    for k in np.flatnonzero(np.nan_to_num(aperture(measure_mouth(track))) > OPEN):
        inside = np.zeros_like(lumas[k])
        cv2.fillConvexPoly(inside, track.points[k][list(INNER_LIPS), :2].round().astype(np.int32), 1)
        reach = max(2, round(float(np.ptp(track.points[k][:, 0])) / 20))
        round_it = cv2.dilate(inside, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) > inside
        shares.append(np.percentile(lumas[k][inside > 0], 20) / np.median(lumas[k][round_it]))
    assert shares, "no mouth is read as open"
    return float(np.median(shares))


def _streak(luma: np.ndarray, points: np.ndarray) -> float:
    """Return the greatest step between neighbouring rows just beside the mouth, on either side that is in the picture."""
    unit, worst = float(np.linalg.norm(points[33, :2] - points[263, :2])), 0.0
    for corner, side in ((points[61], -1), (points[291], 1)):
        left, right = sorted((int(corner[0] + side * 0.04 * unit), int(corner[0] + side * 0.16 * unit)))
        if right < luma.shape[1]:
            rows = luma[int(corner[1] - 0.2 * unit) : int(corner[1] + 0.25 * unit), left:right].mean(1)
            worst = max(worst, float(np.abs(np.diff(rows)).max()))
    return worst


# Tests ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_an_unusual_target_is_painted(render: Render, guise: Guise, mouth: Path, tmp_path: Path, kind: str) -> None:
    """The mouth moves as asked, the rest of the picture stays upright, whole and where it was."""
    make, is_it = KINDS[kind]
    target = make(guise)
    media = probe(target)
    assert is_it(media, next(read_frames(media)))
    ran = render(target)
    assert 0 < ran.json["mask_share"] < 1
    own, out = media.need_video(), probe(tmp_path / "out.mp4")
    made = out.need_video()
    assert (made.width, made.height) == (own.width + own.width % 2, own.height + own.height % 2)
    assert (made.quarter_turns, made.colour) == (0, own.colour)
    before, after = _lumas(target), _lumas(tmp_path / "out.mp4")
    above = own.height // 4  # no mouth reaches there
    assert max(_difference(a[:above], b[:above]) for a, b in zip(before, after, strict=True)) < SAME
    assert face_track(out).found.all()
    assert _read_r(tmp_path / "out.mp4", mouth) > LEAST_R
    assert _darkness(tmp_path / "out.mp4") < DARK


def test_five_frames_play_forth_and_back(render: Render, guise: Guise, mouth: Path, tmp_path: Path) -> None:
    """Five frames are enough to paint from, and are shown at their own rate for as long as there is sound."""
    ran = render(guise.write(guise.pictures[:5]), FRAMES / RATE - Fraction(1, 200))
    assert ran.json["mask_share"] > 0
    out = probe(tmp_path / "out.mp4")
    assert [frame.time for frame in read_frames(out)] == [k / RATE for k in range(FRAMES)]
    assert _read_r(tmp_path / "out.mp4", mouth) > LEAST_R
    assert _darkness(tmp_path / "out.mp4") < DARK


def test_a_still_photograph_opens_a_mouth_or_is_refused(render: Render, guise: Guise, mouth: Path, tmp_path: Path) -> None:
    """A target without one open mouth holds no inside of a mouth: that is said, or something better than lips is shown."""
    if render(guise.write([guise.closed] * FRAMES), may_refuse=True).code == 0:
        assert _read_r(tmp_path / "out.mp4", mouth) > LEAST_R
        assert _darkness(tmp_path / "out.mp4") < DARK


def test_a_still_photograph_takes_mouths_from_other_footage(
    guise: Guise, talk: Any, mouth: Path, speech: Callable[[Fraction], Path], tmp_path: Path
) -> None:
    """What the target lacks, footage of the same person gives."""
    target = guise.write([guise.closed] * FRAMES)
    sound = speech(FRAMES / RATE - Fraction(1, 200))
    report = render_video(target, sound, tmp_path / "out.mp4", mouth=mouth, bank=talk.path)
    assert (report["frames"], report["outside_max_abs"]) == (FRAMES, 0)
    assert _read_r(tmp_path / "out.mp4", mouth) > LEAST_R
    assert _darkness(tmp_path / "out.mp4") < DARK


def test_a_face_that_leaves_and_comes_back(render: Render, guise: Guise, tmp_path: Path) -> None:
    """Frames without the face stay as they are; a mouth that was cut by the picture's edge is not painted on a whole face."""
    target = _leaving(guise)
    track = face_track(probe(target))
    assert track.found[[0, -1]].all()
    assert not track.found[16:24].any()
    assert render(target).json["mask_share"] > 0
    before, after, shown = _lumas(target), _lumas(tmp_path / "out.mp4"), face_track(probe(tmp_path / "out.mp4"))
    assert max(_difference(before[k], after[k]) for k in np.flatnonzero(~track.found)) < SAME
    streaks = {int(k): round(_streak(after[k], shown.points[k]), 1) for k in np.flatnonzero(shown.found)}
    assert {k: step for k, step in streaks.items() if step > STREAK} == {}


def test_a_face_in_profile_throughout_is_refused_or_left_whole(render: Render, guise: Guise, tmp_path: Path) -> None:
    """Turned away throughout, the face is refused in a line, or the file is finished and as the target away from the mouth."""
    target = _profile(guise)
    track = face_track(probe(target))
    yaw, _ = fit_pose(track.points[track.found]).angles_deg().T
    assert np.abs(yaw).min() > 40  # where it is seen at all
    if render(target, may_refuse=True).code == 0:
        pairs = zip(_lumas(target), _lumas(tmp_path / "out.mp4"), strict=True)
        assert max(_difference(own[:120], shown[:120]) for own, shown in pairs) < SAME
