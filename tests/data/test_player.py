"""Frames in any order: whatever is asked for is what decoding in order gives, with little decoding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lipwright.data import player as player_module
from lipwright.data.errors import MediaError
from lipwright.data.media import Frame, Media, probe, read_frames
from lipwright.data.player import Player

Make = Callable[..., Path]
PICTURE_BYTES = 64 * 48 * 3 // 2


def _opened(path: Path) -> tuple[Media, np.ndarray, list[Frame]]:
    media = probe(path)
    frames = list(read_frames(media))
    return media, np.array([f.pts for f in frames], np.int64), frames


def _assert_same(frame: Frame, other: Frame) -> None:
    assert (frame.index, frame.pts, frame.time) == (other.index, other.pts, other.time)
    for ours, theirs in zip(vars(frame.yuv()).values(), vars(other.yuv()).values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def _wander(count: int, steps: int, seed: int) -> np.ndarray:
    """Runs forth and back at changing paces, holds, and jumps to anywhere."""
    rng, at, pace, out = np.random.default_rng(seed), 0, 1, []
    for _ in range(steps):
        out.append(at)
        if rng.random() < 0.1:
            pace = rng.choice([-2, -1, 0, 1, 1, 2])
        at = int(rng.integers(count)) if rng.random() < 0.05 else int(np.clip(at + pace, 0, count - 1))
    return np.array(out)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Frames decoded by each opening of the file."""
    counts: list[int] = []

    def counting(*args: Any, **kwargs: Any) -> Iterator[Frame]:
        counts.append(0)
        for frame in read_frames(*args, **kwargs):
            counts[-1] += 1
            yield frame

    monkeypatch.setattr(player_module, "read_frames", counting)
    return counts


OPEN_GROUPS = {"x264-params": "open-gop=1:bframes=3:b-adapt=0:scenecut=0"}


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {}),
        ("open.mp4", "libx264", OPEN_GROUPS),
        ("open.mkv", "libx264", OPEN_GROUPS),
        ("open.ts", "libx264", OPEN_GROUPS),
        ("a.mp4", "libx265", {}),
        ("a.webm", "libvpx-vp9", {}),
    ],
)
@pytest.mark.parametrize("block_frames", [1, 7, 1000])
def test_any_order_gives_the_pictures_of_decoding_in_order(
    encode: Make,
    picture: Any,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    codec: str,
    options: dict[str, str],
    block_frames: int,
) -> None:
    shown = [(Fraction(k, 25), picture(64, 48, k)) for k in range(30)]
    path = encode(name, video=shown, codec=codec, options=options, gop=9, time_base=Fraction(1, 90000))
    media, pts, frames = _opened(path)
    assert len(frames) == 30
    monkeypatch.setattr(player_module, "BLOCK_BYTES", block_frames * PICTURE_BYTES)
    with Player(media, pts) as player:
        for index in [*range(29, -1, -1), *_wander(30, 120, block_frames)]:
            _assert_same(player(index), frames[index])


def test_any_order_at_any_rate(bars: Make, clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    media, pts, frames = _opened(bars(clock))
    monkeypatch.setattr(player_module, "BLOCK_BYTES", 5 * PICTURE_BYTES)
    with Player(media, pts) as player:
        for index in _wander(len(frames), 200, 1):
            _assert_same(player(index), frames[index])


def test_one_frame_is_held(bars: Make) -> None:
    media, pts, frames = _opened(bars(frames=1))
    with Player(media, pts) as player:
        for _ in range(3):
            _assert_same(player(0), frames[0])


def test_going_on_decodes_every_frame_once(bars: Make, opened: list[int]) -> None:
    media, pts, _ = _opened(bars(frames=40))
    with Player(media, pts) as player:
        for index in [0, 1, 1, 2, 4, 5, 5, *range(6, 40)]:
            assert player(index).index == index
    assert opened == [40]


@pytest.mark.parametrize("block_frames", [4, 10])
def test_going_back_decodes_block_by_block(
    bars: Make, monkeypatch: pytest.MonkeyPatch, opened: list[int], block_frames: int
) -> None:
    media, pts, _ = _opened(bars(frames=40))
    monkeypatch.setattr(player_module, "BLOCK_BYTES", block_frames * PICTURE_BYTES)
    order = [*range(40), *range(38, -1, -1)]
    with Player(media, pts) as player:
        assert [player(index).index for index in order] == order
        assert len(opened) == 1 + -(-39 // block_frames)
        assert max(opened[1:]) <= block_frames
        assert [player(index).index for index in range(40)] == list(range(40))
        assert len(opened) == 1 + -(-39 // block_frames)  # where the last block ends, its decoder goes on


def test_a_far_frame_is_sought_and_what_follows_it_is_not(
    bars: Make, opened: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    media, pts, _ = _opened(bars(frames=60))
    monkeypatch.setattr(player_module, "BLOCK_BYTES", 10 * PICTURE_BYTES)
    order = [0, 50, 51, 20, 21, 22, 30]
    with Player(media, pts) as player:
        assert [player(index).index for index in order] == order
    assert opened == [1, 2, 11]


def test_a_frame_that_does_not_decode_is_stood_in_for(bars: Make) -> None:
    media, pts, frames = _opened(bars(frames=12))
    with Player(media, np.sort(np.append(pts, pts[5] + 1))) as player:
        shown = [player(index) for index in (5, 6, 7, 6, 12)]
    assert [f.index for f in shown] == [5, 6, 7, 6, 12]
    for frame, number in zip(shown, (5, 6, 6, 6, 11), strict=True):
        np.testing.assert_array_equal(frame.yuv().y, frames[number].yuv().y)


def test_what_is_not_there_says_so(bars: Make) -> None:
    media, pts, _ = _opened(bars(frames=12))
    with Player(media, np.append(pts, pts[-1] + 1000)) as player:
        for index in (-1, 13):
            with pytest.raises(IndexError, match=f"from 0 to 12, got {index}"):
                player(index)
        with pytest.raises(MediaError, match=r"bars\.mp4 ends before frame 12"):
            player(12)


def test_the_first_frame_begins_only_when_asked_for(bars: Make, opened: list[int]) -> None:
    media, pts, _ = _opened(bars(frames=12))
    with Player(media, pts):
        pass
    assert opened == []
