"""A server of live mouths in this process: pictures, slow readers, and who asks for its work to be stopped."""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import Callable, Coroutine, Iterator
from fractions import Fraction
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from lipwright.data.errors import InputError
from lipwright.data.mouth import Speaker, aperture
from lipwright.pipeline import server as server_module
from lipwright.pipeline.live_client import LATE_S, MOST_FRAMES, MOST_STEPS, STEPS_A_MESSAGE
from lipwright.pipeline.render.live import LiveFrame
from lipwright.pipeline.server import LiveServer
from lipwright.pipeline.stream import LiveSteps

SIDE = 256
RATE = Fraction(25)


class Noise:
    """Paints noise that is as bright as the mouth is open: a picture of it is large, and says what it is of."""

    rate, size = RATE, (SIDE, SIDE)

    def __init__(self, speaker: Speaker) -> None:
        self.speaker, self.open, self.finished, self.closed, self.slow_s = speaker, 0, 0, 0, 0.0

    def session(self) -> NoiseSession:
        self.open += 1
        return NoiseSession(self)


class NoiseSession:
    def __init__(self, painter: Noise) -> None:
        self._painter, self._rng, self._next = painter, np.random.default_rng(0), 0

    def push(self, steps: LiveSteps) -> Iterator[LiveFrame]:
        for time_s, opening in zip(steps.times_s, steps.aperture, strict=True):
            if time_s >= self._next / RATE - 1e-9:
                yield LiveFrame(float(time_s), partial(self._paint, opening))
                self._next += 1

    def finish(self) -> Iterator[LiveFrame]:
        yield LiveFrame(float(self._next / RATE), lambda: np.zeros((SIDE, SIDE, 3), np.uint8))
        self._painter.finished += 1

    def _paint(self, opening: float) -> np.ndarray:
        time.sleep(self._painter.slow_s)
        noise = self._rng.integers(-40, 40, (SIDE, SIDE, 3))
        return np.clip(128 + 200 * opening + noise, 0, 255).astype(np.uint8)

    def close(self) -> None:
        self._painter.closed += 1


@pytest.fixture
def painter(resting: np.ndarray) -> Noise:
    return Noise(Speaker(resting, 0.2))


def served(server: LiveServer, visit: Callable[[str], Coroutine[Any, Any, None]]) -> None:
    """Serve while somebody visits."""

    async def serve() -> None:
        async with server.open() as url:
            await visit(f"ws://{urlsplit(url).netloc}/live")

    asyncio.run(asyncio.wait_for(serve(), 120))


async def begin(client: ClientConnection, **wish: Any) -> dict[str, Any]:
    await client.send(json.dumps(wish))
    return json.loads(await client.recv())


def s16le(samples: np.ndarray) -> bytes:
    return np.round(32767 * samples).astype("<i2").tobytes()


def test_pictures_come_with_their_times(painter: Noise, babble: Callable[..., np.ndarray]) -> None:
    rows: list[dict[str, Any]] = []
    pictures: list[tuple[float, np.ndarray]] = []

    async def visit(url: str) -> None:
        async with connect(url, max_size=None) as client:
            ready = await begin(client, rate=16000, face=True)
            assert ready["face"] == {"width": SIDE, "height": SIDE, "rate": 25.0}
            assert ready["speaker"]["scale"] == 0.2
            assert ready["speaker"]["neutral_aperture"] == pytest.approx(aperture(painter.speaker.neutral), abs=1e-5)
            await client.send(s16le(babble(3.0)))
            await client.send('{"end": true}')
            async for message in client:
                if isinstance(message, bytes):
                    bgr = cv2.imdecode(np.frombuffer(message[8:], np.uint8), cv2.IMREAD_COLOR)
                    pictures.append((struct.unpack("<d", message[:8])[0], bgr))
                elif "end" not in (said := json.loads(message)):
                    rows.extend(said["steps"])
                else:
                    assert said == {"end": True, "steps": 301, "dropped_steps": 0, "dropped_frames": 0}
        async with connect(url) as other:
            assert (await begin(other, rate=16000))["face"] is None

    served(LiveServer(port=0, gain_db=3.0, face=painter), visit)
    assert [row["t"] for row in rows] == [round(k / 100, 2) for k in range(301)]
    *painted, (_, last) = pictures
    assert [time_s for time_s, _ in painted] == pytest.approx(np.arange(76) / 25)
    assert last.max() < 10  # what a face says at the end is sent, too
    openings = [rows[round(100 * time_s)]["aperture"] for time_s, _ in painted]
    assert np.corrcoef(openings, [bgr.mean() for _, bgr in painted])[0, 1] > 0.95
    assert (painter.open, painter.closed) == (1, 1)  # who does not ask for a face has none


def test_a_slow_reader_misses_pictures_then_steps_and_is_told(painter: Noise, babble: Callable[..., np.ndarray]) -> None:
    length_s = 60
    frames, steps, end = 0, list[dict[str, Any]](), dict[str, Any]()

    async def visit(url: str) -> None:
        nonlocal frames, end
        async with connect(url, max_size=None) as client:
            await begin(client, rate=16000, face=True, points=True)
            for _ in range(length_s // 10):
                await client.send(s16le(babble(10.0)))
            await client.send('{"end": true}')
            while not painter.finished:  # the server has heard it all; nothing has been read
                await asyncio.sleep(0.05)
            async for message in client:
                if isinstance(message, bytes):
                    frames += 1
                elif "end" in (said := json.loads(message)):
                    end = said
                else:
                    assert len(said["steps"]) <= STEPS_A_MESSAGE
                    steps.extend(said["steps"])

    served(LiveServer(port=0, gain_db=3.0, face=painter), visit)
    assert end["steps"] == 100 * length_s + 1
    assert end["dropped_steps"] == end["steps"] - len(steps) > 0
    assert end["dropped_frames"] == 25 * length_s + 2 - frames > MOST_FRAMES
    times = [row["t"] for row in steps]
    assert times == sorted(times)
    assert times[-MOST_STEPS:] == [round(k / 100, 2) for k in range(end["steps"] - MOST_STEPS, end["steps"])]


def test_pictures_are_left_out_where_painting_is_slower_than_speech(painter: Noise, babble: Callable[..., np.ndarray]) -> None:
    """A machine that paints 12 pictures a second: the mouth keeps up with the sound, and so does what is painted."""
    painter.slow_s, length_s = 0.08, 4.0
    behind: dict[str, list[float]] = {"steps": [], "frames": []}
    end = dict[str, Any]()

    async def visit(url: str) -> None:
        async with connect(url, max_size=None) as client:
            await begin(client, rate=16000, face=True, visemes=False)
            sound, began, loop = s16le(babble(length_s)), asyncio.get_running_loop().time(), asyncio.get_running_loop()

            async def send() -> None:
                for k in range(0, len(sound), 640):  # 20 ms
                    await asyncio.sleep(began + k / 32000 - loop.time())
                    await client.send(sound[k : k + 640])
                await client.send('{"end": true}')

            sending = asyncio.create_task(send())
            async for message in client:
                now = loop.time() - began
                if isinstance(message, bytes):
                    behind["frames"].append(now - struct.unpack("<d", message[:8])[0])
                elif "end" in (said := json.loads(message)):
                    end.update(said)
                else:
                    behind["steps"].append(now - said["steps"][-1]["t"])
            await sending

    served(LiveServer(port=0, gain_db=3.0, face=painter), visit)
    assert end["steps"] == 100 * length_s + 1
    assert end["dropped_steps"] == 0
    assert end["dropped_frames"] == 25 * length_s + 2 - len(behind["frames"]) > 20
    assert len(behind["frames"]) > 20
    for late in behind.values():  # were every picture painted, 4 s of sound would end 4 s behind
        assert np.median(late) < 0.45 + LATE_S + 0.6


def test_who_sends_faster_than_speech_is_waited_for(
    painter: Noise, babble: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left out, and nobody is thought gone whose answers stand behind the sound that they sent."""
    monkeypatch.setattr(server_module, "SILENT_S", 0.2)
    painter.slow_s = 0.02
    frames, end = 0, dict[str, Any]()

    async def visit(url: str) -> None:
        nonlocal frames
        async with connect(url, max_size=None) as client:
            await begin(client, rate=192_000, face=True)
            sound = s16le(np.repeat(babble(1.0), 12))
            for _ in range(8):  # 3 MB: more than an inbox holds
                await client.send(sound)
            await client.send('{"end": true}')
            async for message in client:
                frames += isinstance(message, bytes)
                if isinstance(message, str) and "end" in (said := json.loads(message)):
                    end.update(said)

    served(LiveServer(port=0, gain_db=3.0, face=painter), visit)
    assert end == {"end": True, "steps": 801, "dropped_steps": 0, "dropped_frames": 0}
    assert frames == 202


@pytest.mark.parametrize("is_there", [True, False])
def test_a_client_who_says_nothing_stays_as_long_as_it_is_there(
    painter: Noise, babble: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    monkeypatch.setattr(server_module, "SILENT_S", 0.3)

    async def visit(url: str) -> None:
        async with connect(url, max_size=None) as client:
            await begin(client, rate=16000)
            if not is_there:
                client.transport.pause_reading()  # its network is gone
            await asyncio.sleep(1.5)
            client.transport.resume_reading()
            if is_there:
                await client.send('{"end": true}')
                assert json.loads(await client.recv())["end"]
            else:
                with pytest.raises(ConnectionClosed):
                    await client.recv()
                assert client.close_reason == "nothing came for 1 s"

    served(LiveServer(port=0, gain_db=3.0), visit)


def test_a_client_that_goes_away_half_way_ends_its_work(painter: Noise, babble: Callable[..., np.ndarray]) -> None:
    async def visit(url: str) -> None:
        client = await connect(url, max_size=None)
        await begin(client, rate=16000, face=True)
        for _ in range(4):
            await client.send(s16le(babble(30.0)))
        client.transport.abort()
        until = asyncio.get_running_loop().time() + 60
        while not painter.closed:
            assert asyncio.get_running_loop().time() < until
            await asyncio.sleep(0.02)

    served(LiveServer(port=0, gain_db=3.0, face=painter), visit)
    assert (painter.open, painter.closed) == (1, 1)


def test_a_client_that_reads_nothing_gives_its_place_up(
    painter: Noise, babble: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lipwright.pipeline.server.PATIENCE_S", 1.0)

    async def visit(url: str) -> None:
        async with connect(url, max_size=None, max_queue=1) as client:
            await begin(client, rate=16000, face=True, points=True)
            sound = s16le(babble(10.0))
            with pytest.raises(ConnectionClosed):
                for _ in range(40):
                    await client.send(sound)
                await asyncio.sleep(5)
                await client.send(sound)
            until = asyncio.get_running_loop().time() + 30
            while not painter.closed:
                assert asyncio.get_running_loop().time() < until
                await asyncio.sleep(0.02)

    served(LiveServer(port=0, gain_db=3.0, face=painter), visit)


def test_a_face_that_fails_is_told_in_words(painter: Noise, babble: Callable[..., np.ndarray], caplog: Any) -> None:
    class Broken(NoiseSession):
        def push(self, steps: LiveSteps) -> Iterator[LiveFrame]:
            raise InputError("the target's file is gone")

    painter.session = lambda: Broken(painter)  # type: ignore[method-assign]

    async def visit(url: str) -> None:
        async with connect(url, max_size=None) as client:
            await begin(client, rate=16000, face=True)
            await client.send(s16le(babble(2.0)))
            said = {}
            with pytest.raises(ConnectionClosed):
                while True:
                    said = json.loads(await client.recv())
            assert said == {"error": "the target's file is gone"}
            assert client.close_code == 1011

    served(LiveServer(port=0, face=painter), visit)
    assert painter.closed == 1
    assert "a client's work ended" in caplog.text
