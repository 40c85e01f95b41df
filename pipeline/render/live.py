"""A face that speaks live: frames of a video, forth and back, with the mouth that is being said.

What takes long is done once, and kept: the video is tracked and its bank collected; frames for some seconds are held in memory,
and shared by all who are served. A frame then costs its painting alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from threadpoolctl import ThreadpoolController

from lipwright.data.features import STEP_HZ
from lipwright.data.landmarks import FaceTrack, face_track
from lipwright.data.media import Colour, Media, Yuv, file_sha256, probe, to_rgb
from lipwright.data.mouth import Speaker, interpolate
from lipwright.data.player import Player
from lipwright.pipeline.progress import Progress, told_as
from lipwright.pipeline.render.choose import Chooser, Joined, paint_strength
from lipwright.pipeline.render.composite import Painted
from lipwright.pipeline.render.painting import Canvas
from lipwright.pipeline.render.portrait import portrait_of
from lipwright.pipeline.render.reading import bank_for
from lipwright.pipeline.render.roles import NEVER_OPEN, require_paintable, require_reach, speaker_of
from lipwright.pipeline.stream import LiveSteps

RATE = Fraction(25)
"""Frames a second."""

SIDE = 512
"""Most pixels of width and height: that much is painted in a quarter of a frame's time."""

HELD_BYTES = 160 * 2**20
"""Most that the frames may take that are held: 17 s of them at 512x512."""

AHEAD = 3
"""Frames that are known before the windows of one are chosen: fewer switch more often, more come later (docs/streaming.md)."""

TOLERANCE_S = 1e-6
"""Times that differ by less are meant equal."""

CLOSING_S = 0.2
"""In so long the mouth comes to rest when the sound has ended."""


@dataclass(frozen=True)
class _Loop:
    """The frames that are shown, forth and back.

    Attributes
    ----------
    canvas
        They, as mouths are painted on them.
    pictures
        One for each; a picture that is shown twice is held once.
    colour
        How they are to be understood.
    speaker
        Whose mouth it is.
    """

    canvas: Canvas
    pictures: list[Yuv]
    colour: Colour
    speaker: Speaker

    def place(self, number: int) -> int:
        """Return which of them comes as the one of this number."""
        last = len(self.pictures) - 1
        return last - abs(last - number % (2 * last)) if last else 0

    def paint(self, number: int, mouth: np.ndarray, joined: Joined | None) -> np.ndarray:
        """Paint a mouth as asked, (40, 3), onto a frame: BGR, (H, W, 3) uint8."""
        at = self.place(number)
        shown = self.canvas.paint(at, self.pictures[at], mouth, joined)
        picture = shown.picture if isinstance(shown, Painted) else shown
        height, width = picture.y.shape
        return cv2.cvtColor(to_rgb(picture.to_picture(self.colour)), cv2.COLOR_RGB2BGR)[:height, :width]


class LiveFace:
    """A face that speaks live, for any number of listeners.

    Parameters
    ----------
    target
        Video of it. Of one that is larger than `SIDE`, a square round the head is shown.
    bank
        Footage of the same person to take mouths from; by default the target itself.
    progress
        Called with (what, done, in all).

    Attributes
    ----------
    speaker
        Whose mouth it is: for `lipwright.pipeline.stream.LiveMouth`.
    size
        Width and height of the pictures.
    rate
        Frames a second.

    Raises
    ------
    InputError
        A video cannot be used, or shows no face that a mouth can be painted on.

    Examples
    --------
    >>> face = LiveFace("interview.mp4")  # doctest: +SKIP
    >>> mouth, session = LiveMouth(speaker=face.speaker), face.session()  # doctest: +SKIP
    >>> for frame in session.push(mouth.push(samples)):  # doctest: +SKIP
    ...     cv2.imshow("face", frame.paint())
    """

    rate = RATE

    def __init__(self, target: Path | str, *, bank: Path | str | None = None, progress: Progress | None = None) -> None:
        given, media, sha256 = Path(target), probe(target), file_sha256(Path(target))
        track = face_track(media, sha256=sha256, progress=told_as(progress, "track"))
        self.speaker = speaker_of(track, given)
        if max(track.width, track.height) > SIDE:
            media = probe(portrait_of(media, track, sha256, SIDE, progress))
            sha256 = file_sha256(media.path)
            track = face_track(media, sha256=sha256, progress=told_as(progress, "track portrait"))
            self.speaker = speaker_of(track, given)
        faces = bank_for(media, track, sha256, None if bank is None else Path(bank), progress=progress)
        require_paintable(track, faces, given)
        require_reach(faces, self.speaker.scale or 2 * NEVER_OPEN, Path(bank or target))
        self.size = (track.width, track.height)
        most = HELD_BYTES * 2 // (3 * track.width * track.height)
        rows = loop_rows(track, paint_strength(track.pose, faces) > 0, most)
        self._loop = _Loop(Canvas.of(track, rows, faces), _read(media, track, rows), media.need_video().colour, self.speaker)

    def session(self) -> FaceSession:
        """Return a face for one listener; what the frames take is shared."""
        return FaceSession(self._loop)


@dataclass(frozen=True)
class LiveFrame:
    """A frame that can be shown. Whoever is late does not paint it, which saves the most of its cost.

    Attributes
    ----------
    time_s : float
        When it belongs, on the sound's clock, s.
    paint : callable
        Returns the picture: BGR, (H, W, 3) uint8.
    """

    time_s: float
    paint: Callable[[], np.ndarray]


class FaceSession:
    """A face that says one listener's sound: made by `LiveFace.session`."""

    def __init__(self, loop: _Loop) -> None:
        self._loop = loop
        self._chooser = Chooser(loop.canvas.bank, AHEAD)
        self._threads = ThreadpoolController()  # once: it looks through all libraries of the process
        self._times_s, self._xyz = np.zeros(0), np.zeros((0, *loop.speaker.neutral.shape), np.float32)  # mouths to come
        self._next = 0  # frame
        self._asked: deque[np.ndarray] = deque()  # mouths of the last frames before it: their windows are not chosen yet

    def push(self, steps: LiveSteps) -> Iterator[LiveFrame]:
        """Hear the next mouths.

        Parameters
        ----------
        steps
            From `LiveMouth.push`, one after the other.

        Returns
        -------
        iterator of LiveFrame
            The frames that can be shown now. They are `AHEAD` frames behind the steps.
        """
        self._times_s = np.concatenate([self._times_s, steps.times_s])
        self._xyz = np.concatenate([self._xyz, steps.xyz])
        return self._due()

    def finish(self) -> Iterator[LiveFrame]:
        """Hear that nothing more comes: return the last frames, as `push` does. In the end the mouth is at rest."""
        if len(self._times_s):
            share = np.linspace(0, 1, round(CLOSING_S * STEP_HZ))[1:]
            times_s = self._times_s[-1] + np.arange(1, len(share) + 1) / STEP_HZ
            last, rest = self._xyz[-1], self._loop.speaker.neutral
            yield from self.push(LiveSteps(times_s, (last + share[:, None, None] * (rest - last)).astype(np.float32)))
        yield from self._shown(self._chooser.finish())

    def close(self) -> None:
        """Let go of what is held for this listener."""
        self._asked.clear()
        self._times_s, self._xyz = self._times_s[:0], self._xyz[:0]

    def _due(self) -> Iterator[LiveFrame]:
        while len(self._times_s) and (time_s := float(self._next / RATE)) <= self._times_s[-1] + TOLERANCE_S:
            known = np.ones(len(self._times_s), bool)
            mouth, valid = interpolate(self._times_s, self._xyz, known, np.array([time_s]))
            canvas, at = self._loop.canvas, np.array([self._loop.place(self._next)])
            asked = canvas.asked(mouth, at)[0]
            self._asked.append(asked)
            self._next += 1
            passed = self._times_s < time_s - TOLERANCE_S
            self._times_s, self._xyz = self._times_s[~passed], self._xyz[~passed]
            with self._threads.limit(limits=1):
                joined = self._chooser.push(asked, canvas.pose[at], bool(valid[0] and canvas.strength[at[0]] > 0))
            yield from self._shown(joined)

    def _shown(self, joined: list[Joined | None]) -> Iterator[LiveFrame]:
        for windows in joined:
            number = self._next - len(self._asked)
            yield LiveFrame(float(number / RATE), partial(self._paint, number, self._asked.popleft(), windows))

    def _paint(self, number: int, mouth: np.ndarray, windows: Joined | None) -> np.ndarray:
        with self._threads.limit(limits=1):
            return self._loop.paint(number, mouth, windows)


def loop_rows(track: FaceTrack, painted: np.ndarray, most: int) -> np.ndarray:
    """Choose the frames of a video that are shown live.

    Parameters
    ----------
    track
        Of F frames.
    painted : ndarray, shape (F,), bool
        Those that a mouth can be painted on.
    most
        So many at most.

    Returns
    -------
    ndarray, shape (N,), int64
        One for each tick of `RATE`, from one shot: the one, and the part of it, with the most that are painted.
    """
    best, chosen = -1, np.zeros(1, np.int64)
    for first, end in pairwise([*track.shots, len(track.pts)]):
        times_s = track.times_s[first:end]
        ticks_s = times_s[0] + np.arange(int((times_s[-1] - times_s[0]) * RATE + TOLERANCE_S) + 1) / float(RATE)
        middles_s = (times_s[1:] + times_s[:-1]) / 2
        rows = first + np.searchsorted(middles_s, ticks_s)
        count = min(most, len(rows))
        seen = np.concatenate([[0], np.cumsum(painted[rows])])
        inside = seen[count:] - seen[:-count]
        if inside.max() > best:
            best, start = int(inside.max()), int(inside.argmax())
            chosen = rows[start : start + count]
    return chosen


def _read(media: Media, track: FaceTrack, rows: np.ndarray) -> list[Yuv]:
    """Read frames, (N,) int64, in order."""
    pictures: list[Yuv] = []
    with Player(media, track.pts) as player:
        for k, row in enumerate(rows):
            pictures.append(pictures[-1] if k and row == rows[k - 1] else player(int(row)).yuv())
    return pictures
