"""Key frames: the very pictures and times that decoding it all gives."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lipwright.data.keyframes import frame_times, read_keyframes
from lipwright.data.media import probe, read_frames

Make = Callable[..., Path]


def test_the_times_of_frames_are_those_that_decoding_gives(bars: Make, clock: Any) -> None:
    media = probe(bars(clock))
    np.testing.assert_allclose(frame_times(media), [float(f.time) for f in read_frames(media)], atol=1e-9)


@pytest.mark.parametrize(("options", "gop"), [({"bf": "0"}, 5), ({"bf": "3"}, 8), ({}, 1), ({}, 500)])
@pytest.mark.parametrize("turn_degrees", [0, 90])
def test_pictures_are_those_that_decoding_gives(
    encode: Make, picture: Callable[..., Any], options: dict[str, str], gop: int, turn_degrees: int
) -> None:
    pictures = [(2 + Fraction(k, 25), picture(96, 64, k)) for k in range(40)]
    media = probe(encode("keys.mp4", video=pictures, options=options, gop=gop, turn_degrees=turn_degrees))
    whole = {f.pts: f for f in read_frames(media)}
    keys = list(read_keyframes(media, 0))
    assert [k.pts for k in keys] == [pts for pts, frame in whole.items() if frame.picture.key_frame]
    for key in keys:
        assert key.time == whole[key.pts].time
        np.testing.assert_array_equal(key.rgb(), whole[key.pts].rgb())


def test_key_frames_are_as_far_apart_as_asked(encode: Make, picture: Callable[..., Any]) -> None:
    media = probe(encode("all.mp4", video=[(Fraction(k, 25), picture(96, 64, k)) for k in range(100)], gop=1))
    times = [float(f.time) for f in read_keyframes(media, 0.5)]
    np.testing.assert_allclose(times, np.arange(8) * 0.52, atol=1e-6)


def test_a_file_that_breaks_off_gives_what_there_is(encode: Make, picture: Callable[..., Any], tmp_path: Path) -> None:
    whole = encode("whole.mkv", video=[(Fraction(k, 25), picture(96, 64, k)) for k in range(100)], time_base=Fraction(1, 1000))
    content = whole.read_bytes()
    (tmp_path / "broken.mkv").write_bytes(content[: len(content) // 2])
    media = probe(tmp_path / "broken.mkv")
    assert 20 < len(frame_times(media)) < 80
    assert 2 <= len(list(read_keyframes(media, 0))) < len(list(read_keyframes(probe(whole), 0)))
