"""What a client may ask for, and what it misses if it reads slowly."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from lipwright.pipeline import live_client
from lipwright.pipeline.live_client import (
    MOST_BYTES,
    MOST_FRAMES,
    MOST_MESSAGES,
    MOST_STEPS,
    STEPS_A_MESSAGE,
    BadRequest,
    Inbox,
    Outbox,
    Wish,
)


def test_all_is_optional() -> None:
    assert Wish.read("{}") == Wish()
    asked = {
        "rate": 8000,
        "format": "f32le",
        "channels": 2,
        "points": True,
        "blendshapes": True,
        "visemes": False,
        "face": True,
    }
    assert vars(Wish.read(json.dumps(asked))) == asked


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b"{}", "first message is a JSON object"),
        ("", "first message is a JSON object"),
        ("[]", "first message is a JSON object"),
        ("null", "first message is a JSON object"),
        ("{", "first message is a JSON object"),
        ("[" * 200_000, "first message is a JSON object"),
        ('{"rate": ' + "9" * 5000 + "}", "first message is a JSON object"),
        ('{"rate": 1}', "rate is 1 Hz, not one from 8,000 to 192,000"),
        ('{"rate": -48000}', "rate is -48000 Hz"),
        ('{"rate": 1e5}', "rate is 100000.0, not a whole number"),
        ('{"rate": NaN}', "rate is NaN, not a whole number"),
        ('{"rate": true}', "rate is true, not a whole number"),
        ('{"rate": "48000"}', 'rate is "48000", not a whole number'),
        ('{"rate": null}', "rate is null, not a whole number"),
        ('{"format": "mp3"}', "format is 'mp3', not one of s16le, f32le"),
        ('{"format": 7}', "format is 7, not a text"),
        ('{"channels": 9}', "9 channels, not 1 to 8"),
        ('{"points": 1}', "points is 1, not true or false"),
        ('{"face": "yes"}', 'face is "yes", not true or false'),
        ('{"gain": 1}', "there is no 'gain'; there are rate, format"),
        (json.dumps({"x" * 100_000: 1}), f"there is no '{'x' * 40}'"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_there_is_not_is_said_in_words(message: Any, words: str) -> None:
    with pytest.raises(BadRequest) as error:
        Wish.read(message)
    assert words in str(error.value)
    assert len(str(error.value)) < 200


def rows(first: int, count: int) -> list[dict[str, Any]]:
    return [{"t": k / 100} for k in range(first, first + count)]


async def read(outbox: Outbox) -> list[str | bytes]:
    return [message async for message in outbox]


def test_what_is_read_in_time_is_whole() -> None:
    outbox = Outbox()
    outbox.put(rows(0, 250))
    outbox.put(b"picture")
    outbox.end()
    *steps, picture, end = asyncio.run(read(outbox))
    assert picture == b"picture"
    assert max(len(json.loads(message)["steps"]) for message in steps) == STEPS_A_MESSAGE
    assert [row for message in steps for row in json.loads(message)["steps"]] == rows(0, 250)
    assert json.loads(end) == {"end": True, "steps": 250, "dropped_steps": 0, "dropped_frames": 0}


def test_a_slow_reader_misses_pictures_first_and_then_the_oldest_steps() -> None:
    outbox = Outbox()
    for k in range(60):
        outbox.put(rows(100 * k, 100))
        outbox.put(b"%d" % k)
    outbox.end()
    messages = asyncio.run(read(outbox))
    kept = [row for m in messages[:-1] if isinstance(m, str) for row in json.loads(m)["steps"]]
    assert kept == rows(6000 - MOST_STEPS, MOST_STEPS)
    assert [m for m in messages if isinstance(m, bytes)] == [b"%d" % k for k in range(60 - MOST_FRAMES, 60)]
    assert json.loads(messages[-1]) == {
        "end": True, "steps": 6000, "dropped_steps": 6000 - MOST_STEPS, "dropped_frames": 60 - MOST_FRAMES,
    }  # fmt: skip


def test_what_comes_is_read_as_it_comes() -> None:
    async def talk() -> list[str | bytes]:
        outbox = Outbox()
        reading = asyncio.create_task(read(outbox))
        for k in range(3):
            outbox.put(rows(k, 1))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        outbox.end()
        return await reading

    assert [json.loads(m)["steps"] for m in asyncio.run(talk())] == [rows(0, 1), rows(1, 1), rows(2, 1), 3]


def test_sound_waits_within_bounds_and_comes_out_in_order() -> None:
    """Whoever sends more than may wait has to wait: of many messages, and of large ones."""

    async def talk(messages: list[bytes]) -> tuple[int, int]:
        inbox, most, held, got = Inbox(32_000), 0, 0, list[str | bytes]()

        async def send() -> None:
            nonlocal most, held
            for message in messages:
                await inbox.put(message)
                held += len(message)
                most = max(most, held)
            inbox.end()

        sending = asyncio.create_task(send())
        async for message in inbox:
            held -= len(message)
            got.append(message)
            await asyncio.sleep(0)
        await sending
        assert got == messages
        return most, len(got)

    assert asyncio.run(talk([bytes([k]) * 300_000 for k in range(20)]))[0] <= MOST_BYTES
    assert asyncio.run(talk([bytes([k % 256]) for k in range(3000)]))[0] <= MOST_MESSAGES + 1
    assert asyncio.run(talk([bytes(2 * MOST_BYTES), b"x"]))[1] == 2
    assert asyncio.run(talk([b""] * 3000))[1] == 3000


@pytest.mark.parametrize(
    ("pace", "heard", "late"),
    [(1.0, 1.0, False), (1.0, 0.5, True), (1.001, 0.5, True), (20.0, 0.5, False), (1.0, 0.9, True), (0.5, 0.4, True)],
)
def test_work_is_late_where_sound_that_came_in_time_waits(
    monkeypatch: pytest.MonkeyPatch, pace: float, heard: float, late: bool
) -> None:
    """Three seconds of sound that comes `pace` times as fast as spoken, of which `heard` can be worked on in a second."""
    clock = 0.0
    monkeypatch.setattr(live_client, "monotonic", lambda: clock)
    block_s = 0.02

    async def talk() -> bool:
        nonlocal clock
        inbox, came = Inbox(MOST_BYTES // 2), 0
        block, blocks = bytes(int(block_s * MOST_BYTES // 2)), aiter(inbox)
        taken, put = asyncio.ensure_future(anext(blocks)), asyncio.ensure_future(inbox.put(block))
        while clock < 3:
            await asyncio.wait([taken, put], timeout=0.001)
            if put.done() and came * block_s <= clock * pace:
                put, came = asyncio.ensure_future(inbox.put(block)), came + 1
            elif taken.done():
                taken, clock = asyncio.ensure_future(anext(blocks)), clock + block_s / heard
            else:
                clock += block_s / 10
        taken.cancel()
        put.cancel()
        return inbox.is_late()

    assert asyncio.run(talk()) is late
