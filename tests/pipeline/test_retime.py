"""The target's frames along the sound: its own timestamps, then forth and back with its own intervals, then cut."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lipwright.data.media import Media, probe, read_frames
from lipwright.pipeline.render.retime import plan_frames, play_frames


def _opened(path: Path) -> tuple[Media, np.ndarray, list[Fraction], list[np.ndarray]]:
    media = probe(path)
    frames = [(f.pts, f.time, f.yuv().y) for f in read_frames(media)]
    pts, times, pictures = zip(*frames, strict=True)
    return media, np.array(pts, np.int64), list(times), list(pictures)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0, 2.7, 5.2])
def test_frames_keep_their_times_and_then_run_forth_and_back(bars: Callable[..., Path], clock: Any, share: float) -> None:
    media, pts, times, _ = _opened(bars(clock))
    until = times[0] + (times[-1] - times[0]) * Fraction(share)
    indices, shown = plan_frames(media, pts, until)
    own = [t for t in times if t < until] or times[:1]
    assert shown[: len(own)] == own
    assert indices[: len(own)].tolist() == list(range(len(own)))
    assert (np.abs(np.diff(indices)) == 1).all()  # every neighbour in time is a neighbour in the footage
    ticks = np.abs(np.diff(pts[indices])) * media.need_video().time_base
    assert [b - a for a, b in pairwise(shown)] == list(ticks)
    assert all(t < until for t in shown[1:])
    # The next frame would have begun at the end of the sound or after it: the length is right to within one frame.
    forward = 0 <= 2 * indices[-1] - (indices[-2] if len(indices) > 1 else -1) < len(pts)
    following = 2 * indices[-1] - (indices[-2] if len(indices) > 1 else -1) if forward else indices[-2]
    assert shown[-1] + abs(int(pts[following]) - int(pts[indices[-1]])) * media.need_video().time_base >= until


@pytest.mark.parametrize("rate", ["25", "30000/1001"])
def test_a_single_frame_is_held_at_its_own_rate(bars: Callable[..., Path], rate: str) -> None:
    media, pts, _, pictures = _opened(bars(rate, frames=1))
    indices, shown = plan_frames(media, pts, 0.5)
    assert set(indices.tolist()) == {0}
    assert shown == [k / Fraction(rate) for k in range(len(shown))]
    assert shown[-1] < 0.5 <= shown[-1] + 1 / Fraction(rate)
    played = list(play_frames(media, pts, indices))
    assert len(played) == len(indices)
    assert all(np.array_equal(frame.yuv().y, pictures[0]) for frame in played)


def test_frames_come_in_the_order_of_the_plan(bars: Callable[..., Path], clock: Any) -> None:
    media, pts, times, pictures = _opened(bars(clock))
    indices, _ = plan_frames(media, pts, times[0] + 3.4 * (times[-1] - times[0]))
    played = list(play_frames(media, pts, indices))
    assert [f.pts for f in played] == pts[indices].tolist()
    assert [f.index for f in played] == indices.tolist()
    assert all(np.array_equal(f.yuv().y, pictures[i]) for f, i in zip(played, indices, strict=True))


def test_two_frames_alternate(bars: Callable[..., Path]) -> None:
    media, pts, _, _ = _opened(bars("25", frames=2))
    indices, _ = plan_frames(media, pts, 0.39)
    assert indices.tolist() == [0, 1] * 5
    assert [f.index for f in play_frames(media, pts, indices)] == indices.tolist()


def test_a_late_start_is_kept(bars: Callable[..., Path], tone: Callable[..., Any], wav: Callable[..., Path]) -> None:
    """A picture that begins after its sound begins so in the output, too."""
    path = bars("25", start=Fraction(2, 25), audio=probe(wav(tone(1.0))))
    media, pts, times, _ = _opened(path)
    assert times[0] == Fraction(2, 25)
    _, shown = plan_frames(media, pts, 2)
    assert shown[0] == times[0]
