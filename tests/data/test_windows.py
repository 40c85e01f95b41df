"""Training sequences: streams that run on, start anew where told, count only what is due, and can be shared out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from lipwright.data.windows import Lessons, Streams

LENGTHS = [730, 95, 1210, 18, 400]


def streams(lengths: list[int] = LENGTHS, *, count: int = 5, chunk: int = 100, delay: int = 18, seed: int = 0) -> Streams:
    return Streams(lengths, streams=count, chunk=chunk, delay=delay, rng=np.random.default_rng(seed))


@dataclass(frozen=True)
class Heard:
    """A `Chunk` in NumPy: of all streams, or of one."""

    inputs: np.ndarray
    targets: np.ndarray
    counts: np.ndarray
    fresh: np.ndarray
    lengths: np.ndarray

    def of(self, b: int) -> Heard:
        return Heard(**{name: values[b] for name, values in vars(self).items()})


def arrays(lessons: Lessons) -> Iterator[Heard]:
    for chunk in lessons:
        yield Heard(**{name: t.numpy() for name, t in vars(chunk).items()})


def take(source: Streams, chunks: int) -> list[Heard]:
    return list(arrays(source.take(chunks)))


def clip_of(steps: np.ndarray, lengths: list[int]) -> np.ndarray:
    """Which sequence each step, of those laid end to end, belongs to."""
    return np.searchsorted(np.cumsum(lengths), steps, side="right")


def lives(source: Streams, chunks: int, b: int) -> Iterator[list[Heard]]:
    """The chunks of stream `b`, from one fresh start to the next."""
    own: list[Heard] = []
    for chunk in take(source, chunks):
        if chunk.fresh[b] and own:
            yield own
            own = []
        own.append(chunk.of(b))


def same(a: list[Heard], b: list[Heard]) -> bool:
    pairs = zip(a, b, strict=True)
    return all(np.array_equal(x, y) for p, q in pairs for x, y in zip(vars(p).values(), vars(q).values(), strict=True))


# A chunk --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [-150, -7, 0, 1, 18, 150])
def test_shapes_types_and_ranges(delay: int) -> None:
    for chunk in take(streams(delay=delay), 60):
        assert chunk.inputs.shape == chunk.targets.shape == chunk.counts.shape == (5, 100)
        assert chunk.fresh.shape == chunk.lengths.shape == (5,)
        assert chunk.inputs.dtype == chunk.targets.dtype == chunk.lengths.dtype == np.int64
        assert chunk.counts.dtype == chunk.fresh.dtype == np.bool_
        for steps in (chunk.inputs, chunk.targets):
            assert steps.min() >= 0
            assert steps.max() < sum(LENGTHS)
        clip = clip_of(chunk.inputs, LENGTHS)
        np.testing.assert_array_equal(clip, clip[:, :1] * np.ones((1, 100)))  # a chunk hears one clip
        np.testing.assert_array_equal(clip_of(chunk.targets, LENGTHS), clip)


@pytest.mark.parametrize("delay", [-7, 0, 18])
@pytest.mark.parametrize("chunk", [1, 100, 2000])
def test_lengths_say_where_the_clip_ends(delay: int, chunk: int) -> None:
    for heard in take(streams(chunk=chunk, delay=delay), 60):
        ends = np.cumsum(LENGTHS)[clip_of(heard.inputs[:, 0], LENGTHS)]
        for steps, length, end in zip(heard.inputs, heard.lengths, ends, strict=True):
            assert length == min(chunk, end - steps[0]) > 0
            np.testing.assert_array_equal(steps[:length], steps[0] + np.arange(length))
            assert (steps[length:] == end - 1).all()  # the rest repeats the clip's last step


def test_everything_is_fresh_at_first() -> None:
    assert take(streams(), 1)[0].fresh.all()


# A stream -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [-7, 0, 18, 150])
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
        assert sum(c.lengths for c in life) == within
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


@pytest.mark.parametrize("early", [1, 7, 150])
def test_of_outputs_that_come_early_the_last_have_no_mouth(early: int) -> None:
    for life in lives(streams(delay=-early), 200, 1):
        heard = np.concatenate([c.inputs for c in life])
        targets, counts = np.concatenate([c.targets for c in life]), np.concatenate([c.counts for c in life])
        within = np.cumsum(LENGTHS)[clip_of(heard[:1], LENGTHS)[0]] - heard[0]
        assert counts[: within - early].all()
        assert not counts[within - early :].any()
        np.testing.assert_array_equal(targets[counts], heard[counts] + early)
        assert counts.any()


@pytest.mark.parametrize("delay", [-7, 0, 18])
def test_a_clip_no_longer_than_a_chunk_is_heard_from_its_start(delay: int) -> None:
    lengths, chunk = [60, 100, 101, 99, 400], 100
    starts = np.cumsum([0, *lengths])
    offsets: dict[int, set[int]] = {k: set() for k in range(len(lengths))}
    for heard in [*take(streams(lengths, count=40, delay=delay), 150), *take(streams(lengths, count=400, delay=delay), 1)]:
        clips = clip_of(heard.inputs[:, 0], lengths)
        for k, fresh, steps, length in zip(clips, heard.fresh, heard.inputs, heard.lengths, strict=True):
            if lengths[k] <= chunk:
                assert fresh
                assert steps[0] == starts[k]
                assert length == lengths[k]
            if fresh:
                offsets[k].add(int(steps[0] - starts[k]))
    assert [len(offsets[k]) for k in (0, 1, 3)] == [1, 1, 1]
    assert min(len(offsets[k]) for k in (2, 4)) > 40  # one step longer, and it is entered anywhere


# The corpus -----------------------------------------------------------------------------------------------------------


def test_every_step_that_can_be_due_is_sooner_or_later() -> None:
    early = 20  # steps at a clip's very start are due only to streams that begin before them, so seldom
    due = np.zeros(sum(LENGTHS), int)
    heard = np.zeros(sum(LENGTHS), int)
    for chunk in take(streams(count=20), 400):
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
    for chunk in arrays(streams(lengths, count=50).take(3000)):
        np.add.at(heard, chunk.inputs[chunk.counts], 1)
    starts = np.cumsum([0, *lengths])[:-1]
    # Where a stream begins, within a chunk of a clip's start, it has to warm up: heard less, by design.
    settled = np.concatenate([heard[start + 118 : start + length] for start, length in zip(starts, lengths, strict=True)])
    assert settled.min() > 0.8 * settled.mean()
    assert settled.max() < 1.2 * settled.mean()


def test_offsets_are_spread_over_the_clip() -> None:
    offsets = take(streams([1000], count=4000, delay=100), 1)[0].inputs[:, 0]
    assert offsets.min() < 10
    assert 885 < offsets.max() < 900
    assert np.histogram(offsets, 9, (0, 900))[0].min() > 350


def test_streams_begin_in_a_clip_as_often_as_it_is_long() -> None:
    lengths = [300, 3000, 900, 18]
    first = take(streams(lengths, count=8000, delay=18), 1)[0].inputs[:, 0]
    shares = np.bincount(clip_of(first, lengths), minlength=4) / 8000
    usable = np.array([282, 2982, 882, 0])
    np.testing.assert_allclose(shares, usable / usable.sum(), atol=0.02)


@pytest.mark.parametrize(("lengths", "delay"), [([18, 5], 18), ([18, 5], -18), ([10], 50), ([0, 0], 0), ([], 0)])
def test_clips_without_anything_due_are_refused(lengths: list[int], delay: int) -> None:
    with pytest.raises(ValueError, match=str(delay)):
        streams(lengths, delay=delay)


def test_clips_no_longer_than_the_delay_are_never_chosen() -> None:
    for chunk in take(streams([18, 19, 5], count=3), 30):
        assert (clip_of(chunk.inputs, [18, 19, 5]) == 1).all()
        assert chunk.counts.sum(1).tolist() == [1, 1, 1]


# Lessons --------------------------------------------------------------------------------------------------------------


def test_the_seed_decides() -> None:
    assert same(take(streams(seed=1), 20), take(streams(seed=1), 20))
    assert not same(take(streams(seed=1), 20), take(streams(seed=2), 20))


@pytest.mark.parametrize(("first", "then"), [(1, 39), (20, 20), (33, 7), (0, 40)])
def test_taking_twice_equals_taking_both_at_once(first: int, then: int) -> None:
    source = streams(seed=3)
    assert same(take(source, first) + take(source, then), take(streams(seed=3), first + then))


def test_lessons_say_the_same_each_time() -> None:
    lessons = streams().take(17)
    assert len(lessons) == 17
    first = list(arrays(lessons))
    assert len(first) == 17
    assert same(first, list(arrays(lessons)))


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_shares_are_all_streams_and_each_once(ranks: int) -> None:
    lessons = streams().take(30)
    whole = list(arrays(lessons))
    seen = np.zeros((30, 5), int)
    for rank in range(ranks):
        share = lessons.share(rank, ranks)
        assert len(share) == 30
        rows = np.arange(5)[rank::ranks]
        seen[:, rows] += 1
        own = list(arrays(share))
        assert same(own, [Heard(**{name: values[rows] for name, values in vars(chunk).items()}) for chunk in whole])
        assert own[0].inputs.shape == (len(rows), 100)
    assert (seen == 1).all()
    everything = torch.cat([lessons.share(rank, ranks).first for rank in range(ranks)], 1)
    assert torch.equal(everything.sort(1).values, lessons.first.sort(1).values)
