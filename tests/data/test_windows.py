"""Training sequences: streams that run on, start anew where told, and count only what is due."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest

from lipwright.data.windows import Chunk, Streams

LENGTHS = [730, 95, 1210, 18, 400]


def streams(lengths: list[int] = LENGTHS, *, count: int = 5, chunk: int = 100, delay: int = 18, seed: int = 0) -> Streams:
    return Streams(lengths, streams=count, chunk=chunk, delay=delay, rng=np.random.default_rng(seed))


def clip_of(steps: np.ndarray, lengths: list[int]) -> np.ndarray:
    """Which sequence each step, of those laid end to end, belongs to."""
    return np.searchsorted(np.cumsum(lengths), steps, side="right")


def lives(source: Streams, chunks: int, b: int) -> Iterator[list[Chunk]]:
    """The chunks of stream `b`, from one fresh start to the next."""
    own: list[Chunk] = []
    for chunk in islice(source, chunks):
        if chunk.fresh[b] and own:
            yield own
            own = []
        own.append(Chunk(chunk.inputs[b], chunk.targets[b], chunk.counts[b], chunk.fresh[b]))


@pytest.mark.parametrize("delay", [0, 1, 18, 150])
def test_shapes_and_ranges(delay: int) -> None:
    for chunk in islice(streams(delay=delay), 60):
        assert chunk.inputs.shape == chunk.targets.shape == chunk.counts.shape == (5, 100)
        assert chunk.fresh.shape == (5,)
        for steps in (chunk.inputs, chunk.targets):
            assert steps.min() >= 0
            assert steps.max() < sum(LENGTHS)
        same = clip_of(chunk.inputs, LENGTHS)
        np.testing.assert_array_equal(same, same[:, :1] * np.ones((1, 100)))  # a chunk hears one clip
        np.testing.assert_array_equal(clip_of(chunk.targets, LENGTHS), same)


def test_everything_is_fresh_at_first() -> None:
    assert next(iter(streams())).fresh.all()


@pytest.mark.parametrize("delay", [0, 18, 150])
@pytest.mark.parametrize("b", [0, 3])
def test_a_stream_hears_its_clip_in_order_to_the_end(delay: int, b: int) -> None:
    seen = 0
    for life in lives(streams(delay=delay), 200, b):
        seen += 1
        heard = np.concatenate([c.inputs for c in life])
        clip = clip_of(heard[:1], LENGTHS)[0]
        end = np.cumsum(LENGTHS)[clip]
        within = end - heard[0]
        np.testing.assert_array_equal(heard[:within], np.arange(heard[0], end))  # no step is left out or heard twice
        assert 0 <= len(heard) - within < 100  # and it starts anew as soon as the clip ends
        assert life[0].fresh
        assert not any(c.fresh for c in life[1:])
    assert seen > 5


@pytest.mark.parametrize("delay", [0, 1, 18, 150])
def test_what_counts_is_what_is_due(delay: int) -> None:
    for life in lives(streams(delay=delay), 200, 1):
        heard = np.concatenate([c.inputs for c in life])
        targets, counts = np.concatenate([c.targets for c in life]), np.concatenate([c.counts for c in life])
        end = np.cumsum(LENGTHS)[clip_of(heard[:1], LENGTHS)[0]]
        within = end - heard[0]
        assert not counts[:delay].any()  # nothing is due before the network has heard far enough ahead
        assert counts[delay:within].all()
        assert not counts[within:].any()
        np.testing.assert_array_equal(targets[counts], heard[:within][: within - delay])  # in order, late by the delay
        np.testing.assert_array_equal(targets[counts], heard[counts] - delay)
        assert counts.any()  # a stream always teaches something


def test_every_step_that_can_be_due_is_sooner_or_later() -> None:
    early = 20  # steps at a clip's very start are due only to streams that begin before them, so seldom
    due = np.zeros(sum(LENGTHS), int)
    heard = np.zeros(sum(LENGTHS), int)
    for chunk in islice(streams(count=20), 400):
        np.add.at(due, chunk.targets[chunk.counts], 1)
        np.add.at(heard, chunk.inputs[chunk.counts], 1)
    starts = np.cumsum([0, *LENGTHS])
    for length, start in zip(LENGTHS, starts[:-1], strict=True):
        usable = max(length - 18, 0)
        assert (due[start : start + usable][early:] > 0).all()
        assert not due[start + usable : start + length].any()
        assert not heard[start : start + min(18, length)].any()


@pytest.mark.parametrize("lengths", [[5000], [1000, 3000], [730, 95, 1210, 400]])
def test_every_second_is_heard_about_equally_often(lengths: list[int]) -> None:
    heard = np.zeros(sum(lengths))
    for chunk in islice(streams(lengths, count=50), 3000):
        np.add.at(heard, chunk.inputs[chunk.counts], 1)
    starts = np.cumsum([0, *lengths])[:-1]
    # Where a stream begins, within a chunk of a clip's start, it has to warm up: heard less, by design.
    settled = np.concatenate([heard[start + 118 : start + length] for start, length in zip(starts, lengths, strict=True)])
    assert settled.min() > 0.8 * settled.mean()
    assert settled.max() < 1.2 * settled.mean()


def test_offsets_are_spread_over_the_clip() -> None:
    offsets = next(iter(streams([1000], count=4000, delay=100))).inputs[:, 0]
    assert offsets.min() < 10
    assert 885 < offsets.max() < 900
    assert np.histogram(offsets, 9, (0, 900))[0].min() > 350


def test_the_seed_decides() -> None:
    def first(seed: int) -> np.ndarray:
        return np.array([c.inputs for c in islice(streams(seed=seed), 20)])

    np.testing.assert_array_equal(first(1), first(1))
    assert (first(1) != first(2)).any()


@pytest.mark.parametrize(("lengths", "delay"), [([18, 5], 18), ([10], 50), ([0, 0], 0), ([], 0)])
def test_clips_without_anything_due_are_refused(lengths: list[int], delay: int) -> None:
    with pytest.raises(ValueError, match=str(delay)):
        streams(lengths, delay=delay)


def test_clips_no_longer_than_the_delay_are_never_chosen() -> None:
    for chunk in islice(streams([18, 19, 5], count=3), 30):
        assert (clip_of(chunk.inputs, [18, 19, 5]) == 1).all()
        assert chunk.counts.sum(1).tolist() == [1, 1, 1]
