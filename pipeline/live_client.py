"""One client of live mouths: what it wishes, what it sent and waits to be heard, the work, and what waits to be sent to it."""

from __future__ import annotations

import asyncio
import json
import math
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from time import monotonic
from typing import TYPE_CHECKING, Any

from lipwright.data.audio import SAMPLE_RATE_HZ
from lipwright.data.features import STEP_HZ
from lipwright.data.mouth import aperture
from lipwright.data.pcm import Form, PcmReader
from lipwright.pipeline.stream import LiveMouth, LiveSteps

if TYPE_CHECKING:
    from lipwright.pipeline.render.live import LiveFace, LiveFrame

PART = SAMPLE_RATE_HZ // 4
"""Samples that are worked on together: what comes of them is sent, and a client who is gone is noticed."""

MOST_MESSAGES, MOST_BYTES = 256, 1 << 20
"""What a client may have sent before it is heard: then it has to wait."""

LATE_S = 0.1
"""If so much sound waits that came no faster than it was spoken, pictures are not painted."""

MOST_STEPS, MOST_FRAMES = 30 * STEP_HZ, 25
"""What waits for a slow reader at most: half a minute of steps, a second of pictures."""

STEPS_A_MESSAGE = STEP_HZ

JPEG_QUALITY = 85


class BadRequest(Exception):
    """A client asked for what there is not."""


@dataclass(frozen=True)
class Wish:
    """What a client sends and wants, from its first message."""

    rate: int = 48_000
    """Of its sound, Hz."""
    format: str = "s16le"
    channels: int = 1
    points: bool = False
    blendshapes: bool = False
    visemes: bool = True
    face: bool = False

    @classmethod
    def read(cls, message: str | bytes) -> Wish:
        """Read a client's first message.

        Raises
        ------
        BadRequest
            It is no JSON object, or has fields or values that there are not.
        """
        try:
            asked = json.loads(message) if isinstance(message, str) else None
        except (ValueError, RecursionError):
            asked = None
        if not isinstance(asked, dict):
            raise BadRequest("the first message is a JSON object that says what is sent and wanted")
        kinds = {field.name: type(field.default) for field in fields(cls)}
        if unknown := [name for name in asked if name not in kinds]:
            raise BadRequest(f"there is no {unknown[0][:40]!r}; there are {', '.join(kinds)}")
        for name, value in asked.items():
            if type(value) is not kinds[name]:
                raise BadRequest(f"{name} is {json.dumps(value)[:40]}, not {_KINDS[kinds[name]]}")
        wish = cls(**asked)
        if wish.format not in list(Form):
            raise BadRequest(f"format is {wish.format[:40]!r}, not one of {', '.join(Form)}")
        try:
            wish.reader()
        except ValueError as error:
            raise BadRequest(str(error)) from None
        return wish

    @property
    def bytes_a_second(self) -> int:
        """Return how many bytes a second of its sound takes."""
        return self.rate * self.reader().frame_bytes

    def reader(self) -> PcmReader:
        """Return what reads its sound."""
        return PcmReader(self.rate, Form(self.format), self.channels)


_KINDS = {int: "a whole number", str: "a text", bool: "true or false"}

Rows = list[dict[str, Any]]


class Session:
    """The work for one client, in its thread: sound in, rows and pictures out.

    Parameters
    ----------
    wish
        What it wants.
    mouth
        Its own.
    face
        That mouths are painted on, if there is one.
    is_late
        Tells whether the work is behind its sound: then pictures are left out.
    """

    def __init__(self, wish: Wish, mouth: LiveMouth, face: LiveFace | None, is_late: Callable[[], bool]) -> None:
        self._wish, self._mouth, self._reader = wish, mouth, wish.reader()
        self._face = face if wish.face else None
        self._painting = self._face.session() if self._face else None
        self._is_late = is_late
        self.missed_frames = 0
        """Pictures that were left out."""

    def ready(self) -> dict[str, Any]:
        """Say what will be sent."""
        speaker, face = self._mouth.speaker, self._face
        return {
            "ready": True,
            "step_hz": STEP_HZ,
            "lookahead_ms": round(1000 * self._mouth.lookahead_s),
            "speaker": {"neutral_aperture": round(float(aperture(speaker.neutral)), 5), "scale": speaker.scale},
            "face": face and {"width": face.size[0], "height": face.size[1], "rate": float(face.rate)},
        }

    def hear(self, data: bytes) -> Iterator[Rows | bytes]:
        """Hear the next sound; yield rows of steps (`LiveSteps.rows`), and pictures as they are sent."""
        samples = self._reader.push_whole(data)
        for start in range(0, len(samples), PART):
            yield from self._show(self._mouth.push(samples[start : start + PART]))

    def finish(self) -> Iterator[Rows | bytes]:
        """Hear that nothing more comes; yield the rest."""
        yield from self._show(self._mouth.push(self._reader.finish()))
        yield from self._show(self._mouth.finish())
        if self._painting:
            yield from self._pictures(self._painting.finish())

    def close(self) -> None:
        """Be done."""
        if self._painting:
            self._painting.close()

    def _show(self, steps: LiveSteps) -> Iterator[Rows | bytes]:
        if not len(steps.times_s):
            return
        yield steps.rows(self._mouth.speaker, points=self._wish.points)
        if self._painting:
            yield from self._pictures(self._painting.push(steps))

    def _pictures(self, frames: Iterable[LiveFrame]) -> Iterator[bytes]:
        for frame in frames:
            if self._is_late():
                self.missed_frames += 1
            else:
                yield _picture(frame)


def _picture(frame: LiveFrame) -> bytes:
    """Return what is sent of a frame: its time as 8 bytes, then a JPEG."""
    import cv2

    _, jpeg = cv2.imencode(".jpg", frame.paint(), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return struct.pack("<d", frame.time_s) + jpeg.tobytes()


class Inbox:
    """What a client has sent and waits to be heard, within bounds: beyond them its sender has to wait.

    Parameters
    ----------
    bytes_a_second
        Of its sound.
    """

    def __init__(self, bytes_a_second: int) -> None:
        self._bytes_a_second = bytes_a_second
        self._messages, self._bytes = deque[str | bytes](), 0
        self._since_s, self._came = math.nan, 0  # when one first had to wait, and the bytes that have come after it
        self._idle, self._ended = True, False
        self._news, self._room = asyncio.Event(), asyncio.Event()

    async def put(self, message: str | bytes) -> None:
        """Add a message, as soon as there is room."""
        while self._messages and (len(self._messages) >= MOST_MESSAGES or self._bytes + len(message) > MOST_BYTES):
            self._since_s = math.inf  # it is sent faster than it can be heard
            self._room.clear()
            await self._room.wait()
        if self._idle:
            self._idle, self._since_s, self._came = False, monotonic(), 0
        else:
            self._came += len(message)
        self._messages.append(message)
        self._bytes += len(message)
        self._news.set()

    def end(self) -> None:
        """Nothing more comes."""
        self._ended = True
        self._news.set()

    def is_late(self) -> bool:
        """Tell whether sound waits that came in time.

        What is sent faster than it is spoken waits, too, but is not late.
        """
        waits_s, came_s = self._bytes / self._bytes_a_second, self._came / self._bytes_a_second
        return waits_s > LATE_S and came_s <= monotonic() - self._since_s + LATE_S

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        """Yield the messages to hear."""
        while True:
            while self._messages:
                message = self._messages.popleft()
                self._bytes -= len(message)
                self._room.set()
                yield message
            if self._ended:
                break
            self._idle = True
            self._news.clear()
            await self._news.wait()


class Outbox:
    """What waits to be sent, within bounds: if a reader is slow, it misses the oldest of it.

    Steps go before pictures, which are many times as large: those are missed first.
    """

    def __init__(self) -> None:
        self._rows, self._frames = deque[dict[str, Any]](), deque[bytes]()
        self._steps = self._dropped_steps = self._dropped_frames = 0
        self._ended = False
        self._news = asyncio.Event()

    def put(self, item: Rows | bytes) -> None:
        """Add rows of steps, or a picture."""
        if isinstance(item, bytes):
            self._frames.append(item)
        else:
            self._rows.extend(item)
            self._steps += len(item)
        while len(self._frames) > MOST_FRAMES:
            self._frames.popleft()
            self._dropped_frames += 1
        while len(self._rows) > MOST_STEPS:
            self._rows.popleft()
            self._dropped_steps += 1
        self._news.set()

    def end(self, missed_frames: int = 0) -> None:
        """Nothing more comes; so many pictures never did."""
        self._dropped_frames += missed_frames
        self._ended = True
        self._news.set()

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        """Yield the messages to send, the last of which says that it is."""
        while True:
            while self._rows or self._frames:
                if self._rows:
                    some = [self._rows.popleft() for _ in range(min(len(self._rows), STEPS_A_MESSAGE))]
                    yield json.dumps({"steps": some})
                else:
                    yield self._frames.popleft()
            if self._ended:
                break
            self._news.clear()
            await self._news.wait()
        counts = {"steps": self._steps, "dropped_steps": self._dropped_steps, "dropped_frames": self._dropped_frames}
        yield json.dumps({"end": True} | counts)
