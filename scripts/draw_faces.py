"""Figures about faces: face space, the bank, and the blend; all of a photograph that was made to talk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import soundfile
from drawing import BLUE, GOLD, INK, PALE, QUIET, RED, sheet, show
from matplotlib import patheffects
from matplotlib.colors import to_rgba

from lipwright.data.articulation import articulate
from lipwright.data.audio import read_speech
from lipwright.data.encoder import Encoding
from lipwright.data.face_space import ANCHORS, CANONICAL, fit_pose
from lipwright.data.follower import track_images
from lipwright.data.landmarks import FaceTrack, face_track
from lipwright.data.media import BT709, Yuv, file_sha256, probe, read_frames, to_rgb
from lipwright.data.mouth import LIPS, OUTER_LIPS, aperture, measure_mouth, measure_speaker, width
from lipwright.data.speech import Speech, synthesize
from lipwright.data.talker import Head, Talker, astronaut, talking_frames
from lipwright.data.writer import VideoWriter
from lipwright.pipeline.predict import base_model, predict_mouth
from lipwright.pipeline.render.bank import Bank, Window
from lipwright.pipeline.render.choose import Joined, choose_windows
from lipwright.pipeline.render.composite import EDGES, Painted, paint_mouth
from lipwright.pipeline.render.painting import Canvas, outside_difference
from lipwright.pipeline.render.reading import bank_for
from lipwright.pipeline.render.shape import lower_face
from lipwright.pipeline.render.texture import mouth_texture

SIZE, RATE, VOICE = 512, Fraction(25), "gmw/en-US+f3"
FILMED = """
Watch how the lips close for people, baby, maple and remember. They must meet, however fast the words go by.
Who would choose to move a blue balloon through a room full of spoons? Rounded vowels push the lips forward.
She sees three green trees beside the sea, and he keeps sheep. Father started the car in the dark.
"""
NEW = "Please bring my brown umbrella, because the weather above the valley may change."
HEADS = Head(dx_px=-14, roll_rad=-0.1), Head(dx_px=16, dy_px=8, roll_rad=0.13, scale=0.88)
ARROW = {"arrowstyle": "-|>", "lw": 1.8, "shrinkA": 0, "shrinkB": 0}
CROPS = 7
"""Mouths that are shown of a sentence."""

MOMENT_S = 1.3
"""Whose candidates are shown."""

NOSE = 2


@dataclass(frozen=True)
class Scene:
    """Footage of the talker, its bank, and what is to be said on it."""

    pictures: list[Yuv]
    track: FaceTrack
    bank: Bank
    canvas: Canvas
    asked: np.ndarray
    joined: list[Joined]
    """Of the first frames of the footage, (F, 40, 3) mouths and the windows that they are painted from."""


@cache
def scene(folder: Path) -> Scene:
    """Film the talker, collect the bank, predict the new sentence's mouth, and choose its windows."""
    film, wav = _film(folder / "filmed", FILMED), folder / "new.wav"
    _sound(wav, NEW)
    media = probe(film)
    sha256 = file_sha256(film)
    track = face_track(media, sha256=sha256)
    speaker = measure_speaker(measure_mouth(track))
    mouth = predict_mouth(base_model(), read_speech(probe(wav)), speaker)
    rows = np.flatnonzero(track.times_s <= mouth.times_s[-1])
    asked, valid = mouth.at(track.times_s[rows])
    bank = bank_for(media, track, sha256, None)
    canvas = Canvas.of(track, rows, bank)
    pictures = [frame.yuv() for frame, _ in zip(read_frames(media), rows, strict=False)]
    joined = [each for each in choose_windows(bank, asked, canvas.pose, valid) if each is not None]
    if len(joined) < len(rows):
        raise SystemExit("a frame of the talker cannot be painted; the figures want all of them")
    return Scene(pictures, track, bank, canvas, asked, joined)


def draw_face_space(folder: Path) -> Any:
    """Face space: one mouth in two poses, and where both are when the head does not move."""
    talker = Talker.from_photo(astronaut(SIZE))
    speech = _sound(folder / "word.wav", "Father.")
    opening = articulate(speech.phones, np.arange(0, speech.duration_s, 0.01))
    mouth = opening[opening[:, 0].argmax()]
    pictures = [talker.frame(mouth, head=head) for head in HEADS]
    points = np.concatenate([track_images([(Fraction(0), np.ascontiguousarray(p[..., ::-1]))])[0] for p in pictures])
    pose = fit_pose(points)
    lips = pose.to_face(points[:, LIPS].astype(np.float64))
    figure = sheet(8.4)
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 0.98])
    for axes, picture, found, k, colour in zip(top.subplots(1, 2), pictures, points, (0, 1), (BLUE, RED), strict=True):
        show(axes, np.ascontiguousarray(picture[..., ::-1]), ("one head", "the same, tilted and farther away")[k])
        axes.plot(*found[:, :2].T, ".", color="white", markersize=1.2, alpha=0.7)
        axes.plot(*found[ANCHORS, :2].T, "o", color=GOLD, markersize=5, markeredgecolor=INK, markeredgewidth=0.6)
        _lips(axes, found[LIPS, :2], colour)
        origin, *ends = pose[k : k + 1].to_pixels(np.array([[0, 0, 0], [0.9, 0, 0], [0, 0.9, 0]]))[0, :, :2]
        for end, name in zip(ends, "xy", strict=True):
            axes.annotate("", end, origin, arrowprops=ARROW | {"color": "white"})
            at = end + 0.12 * (end - origin)
            edge = [patheffects.withStroke(linewidth=3, foreground=INK)]
            axes.text(*at, name, color="white", ha="center", va="center", fontsize=15, path_effects=edge)
        axes.set(xlim=(85, 465), ylim=(455, 75))
    axes = bottom.subplots()
    axes.set_title("face space: both, in distances of the outer corners of the eyes")
    still = np.array(list(CANONICAL.values()))
    axes.plot(*still[:, :2].T, "o", color=GOLD, mec=INK, mew=0.6, label="15 points that speech leaves still")
    for each, colour, label in zip(lips, (BLUE, RED), ("40 points of the lips", None), strict=True):
        _lips(axes, each[:, :2], colour, label)
    for measure, name, ends, height in ((aperture, "aperture", (13, 14), 0.95), (width, "width", (61, 291), 0.7)):
        a, b = (lips[0, list(LIPS).index(point), :2] for point in ends)
        axes.annotate("", b, a, arrowprops=ARROW | {"arrowstyle": "<->", "color": INK})
        words = f"{name} {measure(lips[0]):.2f}, {measure(lips[1]):.2f}"
        axes.annotate(words, a + 0.62 * (b - a), (0.5, height), va="center", arrowprops={"arrowstyle": "-", "color": QUIET})
    for end, name in (((0.26, 0), "x"), ((0, 0.26), "y")):
        axes.annotate("", end, (0, 0), arrowprops=ARROW | {"color": INK})
        axes.annotate(name, end, (6, -6), textcoords="offset points", va="top")
    axes.set(xlim=(-1.2, 1.2), ylim=(1.2, -0.72), aspect="equal")
    axes.legend(loc="upper right", bbox_to_anchor=(1.28, 1), fontsize=11.5, handletextpad=0.3)
    return figure


def draw_bank(folder: Path) -> Any:
    """The bank: what mouths the footage has, and which of them a new sentence takes, when."""
    s = scene(folder)
    opening, wide = aperture(s.bank.mouths), width(s.bank.mouths)
    asked, led = aperture(s.asked), np.array([joined.windows[0] for joined in s.joined])
    figure = sheet(9.8)
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=[1.25, 1.0, 0.86])
    axes = top.subplots()
    axes.plot(wide, opening, ".", color=PALE, markersize=7, label=f"the footage's {len(opening)} mouths")
    axes.plot(width(s.asked), asked, "-", color=GOLD, linewidth=1.6, label="the new sentence's, as predicted")
    axes.plot(wide[led], opening[led], "o", color=BLUE, markersize=4, alpha=0.7, label="those that lead")
    k = round(MOMENT_S * float(RATE))
    for window in s.joined[k].windows:
        axes.plot((width(s.asked[k]), wide[window]), (asked[k], opening[window]), "-", color=RED, linewidth=1)
    label = f"at {MOMENT_S:g} s, and the {len(s.joined[k].windows)} that are merged"
    axes.plot(width(s.asked[k]), asked[k], "D", color=RED, markersize=8, label=label)
    axes.set(xlabel="width", ylabel="aperture", title="which mouths there are", ylim=(-0.01, 1.5 * opening.max()))
    axes.legend(fontsize=11.5, loc="upper left", handletextpad=0.4)

    above, below = middle.subplots(2, 1, sharex=True)
    times_s, taken_s = s.track.times_s[: len(led)], s.track.times_s[s.bank.frames[led]]
    above.plot(times_s, asked, color=GOLD, linewidth=2.2)
    above.plot(times_s, opening[led], ".", color=BLUE, markersize=5)
    above.set(ylabel="aperture", title="which of them lead, along the sentence")
    left = np.flatnonzero(np.abs(np.diff(s.bank.frames[led])) > 1) + 1
    for run in np.split(np.arange(len(led)), left):
        below.plot(times_s[run], taken_s[run], "-", color=BLUE, linewidth=3.5, solid_capstyle="round")
    below.set(xlabel="time of the sentence (s)", ylabel="filmed at (s)", xlim=(0, times_s[-1]))

    rows = bottom.subplots(2, CROPS)
    for column, part in enumerate(np.array_split(np.arange(len(led)), CROPS)):
        at = int(part[asked[part].argmin() if column % 2 else asked[part].argmax()])
        window = s.bank.window(int(led[at]))
        painted = s.canvas.paint(at, s.pictures[at], s.asked[at], s.joined[at])
        assert isinstance(painted, Painted)
        lips = s.canvas.pose[at : at + 1].to_pixels(s.asked[at])[0, :, :2]
        show(rows[0, column], _mouth(filmed(window), s.bank.points[led[at], LIPS, :2] - window.corner), f"{times_s[at]:.1f} s")
        show(rows[1, column], _mouth(_rgb(painted.picture), lips))
    for row, word in zip(rows[:, 0], ("filmed", "painted"), strict=True):
        row.text(-0.08, 0.5, word, transform=row.transAxes, rotation=90, ha="right", va="center")
    return figure


def draw_blend(folder: Path) -> Any:
    """The blend: from a frame and the mouths of others to the same frame with a new mouth."""
    s = scene(folder)
    k = int((aperture(s.asked) - aperture(s.canvas.own)).argmax())
    joined, picture, pose, points = s.joined[k], s.pictures[k], s.canvas.pose[k : k + 1], s.canvas.points[k]
    to, starts, mask = lower_face(points, pose, s.asked[k], s.bank, joined, (SIZE, SIZE))
    left, top, right, bottom = mask.box
    pasted = picture.copy()
    pasted.y[top:bottom, left:right], half = mouth_texture(s.bank, joined, to, starts, mask.box)
    for plane, values in ((pasted.u, half[..., 1]), (pasted.v, half[..., 2])):
        plane[top // 2 : bottom // 2, left // 2 : right // 2] = np.clip(values, 0, 255)
    painted = paint_mouth(picture, points, pose, s.asked[k], s.bank, joined)
    source, result = _rgb(picture), _rgb(painted.picture)
    inside = np.zeros((SIZE, SIZE), bool)
    inside[top:bottom, left:right] = painted.mask
    depth = np.zeros((SIZE, SIZE), np.float32)
    depth[top:bottom, left:right] = cv2.resize(mask.depth, (right - left, bottom - top))
    veil = 0.5 * inside[..., None]
    change = sum(cv2.absdiff(own, new).astype(int) for own, new in _planes(picture, painted.picture))
    window = s.bank.window(int(joined.windows[0]))

    figure = sheet(5.9)
    low, high = (left - 30, top - 50), (right + 30, bottom + 15)
    view = np.s_[low[1] : high[1], low[0] : high[0]]
    moved = np.round(s.bank.points[joined.windows[0], NOSE, :2] - points[NOSE, :2] - window.corner).astype(int)
    x, y = np.maximum(moved + low, 0)
    tiles = {
        "the frame": source[view],
        "a mouth, as filmed": filmed(window)[y : y + high[1] - low[1], x : x + high[0] - low[0]],
        "eight, warped, merged": _rgb(pasted)[view],
        "the mask, and its depth": (source * (1 - veil) + veil * 255 * np.array(to_rgba(GOLD)[:3])).astype(np.uint8)[view],
        "the result": result[view],
        "what has changed": 255 - np.clip(2 * change, 0, 255).astype(np.uint8)[view],
    }
    for axes, (title, tile) in zip(figure.subplots(2, 3).ravel(), tiles.items(), strict=True):
        show(axes, tile, title, cmap="gray", vmin=0, vmax=255)
        if title.startswith("the mask"):
            axes.contour(depth[view], EDGES, colors=[INK], linewidths=1)
    axes.contour(inside[view], [0.5], colors=[GOLD], linewidths=1.5)
    worst = outside_difference(picture, painted)
    axes.text(0.5, 0.04, f"outside: {worst}", transform=axes.transAxes, ha="center")
    return figure


def _film(path: Path, text: str) -> Path:
    """Write the talker saying a text."""
    speech = _sound(path.with_suffix(".wav"), text)
    talker = Talker.from_photo(astronaut(SIZE))
    film = path.with_suffix(".mp4")
    with VideoWriter(
        film, Encoding(SIZE, SIZE, Fraction(1, 12800), RATE, BT709), audio=probe(path.with_suffix(".wav"))
    ) as writer:
        for time, picture in talking_frames(talker, speech, rate=RATE):
            writer.write(Yuv.from_bgr(picture), time)
    return film


def _sound(path: Path, text: str) -> Speech:
    speech = synthesize(" ".join(text.split()), voice=VOICE)
    soundfile.write(path, speech.samples, speech.rate_hz, subtype="PCM_16")
    return speech


def _rgb(picture: Yuv) -> np.ndarray:
    return to_rgb(picture.to_picture(BT709))


def _lips(axes: Any, lips: np.ndarray, colour: str, label: str | None = None) -> None:
    """Draw the 40 points of a mouth, (40, 2), and its two rings."""
    for ring in (lips[: len(OUTER_LIPS)], lips[len(OUTER_LIPS) :]):
        axes.plot(*np.concatenate([ring, ring[:1]]).T, ".-", color=colour, linewidth=1.4, markersize=5, label=label)
        label = None


def filmed(window: Window) -> np.ndarray:
    """Return a window of the bank as RGB."""
    return _rgb(Yuv(window.y, *cv2.split(window.uv)))


def _mouth(picture: np.ndarray, lips: np.ndarray) -> np.ndarray:
    """Cut the mouth out of a picture, RGB."""
    middle, reach = lips.mean(0), 0.75 * np.ptp(lips[:, 0])
    (x0, y0), (x1, y1) = np.maximum(middle - reach, 0).astype(int), (middle + reach).astype(int)
    return picture[y0:y1, x0:x1]


def _planes(*pictures: Yuv) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield the planes of pictures side by side, all as large as the first."""
    for planes in zip(*(vars(picture).values() for picture in pictures), strict=True):
        yield tuple(cv2.resize(plane, (SIZE, SIZE), interpolation=cv2.INTER_NEAREST) for plane in planes)
