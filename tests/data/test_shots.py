"""Shots: every hard cut is found, at its own frame; motion, light and noise are none; frames pass through as they came."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest

from lipwright.data.shots import BEHIND, mark_shots

Frames = list[tuple[Fraction, np.ndarray]]


def scene(seed: int, width: int = 320, height: int = 180) -> np.ndarray:
    """A picture of soft coloured patches."""
    import cv2

    patches = np.random.default_rng(seed).integers(0, 256, (5, 8, 3), np.uint8)
    return cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC)


def shoot(lengths: list[int], *, noise: float = 2.0, size: tuple[int, int] = (320, 180)) -> Frames:
    """Scenes one after the other, so many frames of each, as a camera in a hand would see them."""
    rng = np.random.default_rng(9)
    pictures: list[np.ndarray] = []
    for number, length in enumerate(lengths):
        still = scene(number, *size).astype(float)
        for k in range(length):
            moved = np.roll(still, (k // 2, k), (0, 1))
            pictures.append(np.clip(moved + rng.normal(0, noise, still.shape), 0, 255).astype(np.uint8))
    return [(Fraction(k, 25), picture) for k, picture in enumerate(pictures)]


def shots(frames: Frames) -> list[int]:
    return [shot for shot, _, _ in mark_shots(frames)]


@pytest.mark.parametrize("lengths", [[40], [20, 20], [10, 30, 5, 40, 8], [3, 20, 3]])
@pytest.mark.parametrize("size", [(320, 180), (180, 320), (64, 64)])
def test_each_cut_is_found_where_it_is(lengths: list[int], size: tuple[int, int]) -> None:
    assert shots(shoot(lengths, size=size)) == [n for n, length in enumerate(lengths) for _ in range(length)]


def test_light_that_changes_slowly_is_no_cut() -> None:
    frames = shoot([60])
    dimmed = [(t, (picture * (0.3 + 0.7 * k / 60)).astype(np.uint8)) for k, (t, picture) in enumerate(frames)]
    assert set(shots(dimmed)) == {0}


def test_a_still_picture_is_one_shot() -> None:
    still = scene(1)
    assert set(shots([(Fraction(k), still) for k in range(20)])) == {0}


@pytest.mark.parametrize("count", range(6))
def test_frames_pass_through_as_they_came(count: int) -> None:
    frames = shoot([6])[:count]
    out = list(mark_shots(frames))
    assert [time for _, time, _ in out] == [time for time, _ in frames]
    assert all(a is b for (_, _, a), (_, b) in zip(out, frames, strict=True))


def test_no_more_frames_are_held_than_it_takes() -> None:
    taken = 0

    def watched() -> Iterator[tuple[Fraction, np.ndarray]]:
        nonlocal taken
        for frame in shoot([30]):
            taken += 1
            yield frame

    for given, _ in enumerate(mark_shots(watched()), 1):
        assert taken - given <= BEHIND
