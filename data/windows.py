"""Clips → training sequences: streams that run through the corpus one chunk at a time.

`B` streams start at random offsets of the clips; each takes chunks in order, so that the state which the network carries
from chunk to chunk is one that it will meet in use. At a clip's end a stream starts anew, near the start of another. So
every second of the corpus is heard about equally often. A clip no longer than a chunk is always heard from its start.

What the streams will hear is drawn ahead, for many training steps, as three numbers a chunk. They are moved to where the
sequences are and spread out to steps there: where the whole set lives on the device, nothing crosses over in a training step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Chunk:
    """What one training step takes from sequences that are laid end to end.

    Attributes
    ----------
    inputs : Tensor, shape (B, S), int64
        Steps whose features are heard.
    targets : Tensor, shape (B, S), int64
        Steps whose mouth is due at each output.
    counts : Tensor, shape (B, S), bool
        Outputs that are due: not those of a time before the stream began, nor past its end.
    fresh : Tensor, shape (B,), bool
        Streams that start here, with an empty state.
    lengths : Tensor, shape (B,), int64
        Steps of the chunk that lie in the clip; the inputs after them repeat the last one.
    """

    inputs: Tensor
    targets: Tensor
    counts: Tensor
    fresh: Tensor
    lengths: Tensor


@dataclass(frozen=True)
class Lessons:
    """The chunks of `N` training steps.

    Attributes
    ----------
    first, began, last : Tensor, shape (N, B), int64
        A chunk's first step, the step at which its stream began, and the last step of its clip.
    size, delay
        Steps of a chunk, and steps that outputs come late; or early, if it is negative.
    """

    first: Tensor
    began: Tensor
    last: Tensor
    size: int
    delay: int

    def __len__(self) -> int:
        return len(self.first)

    def share(self, rank: int, ranks: int, device: torch.device | str = "cpu") -> Lessons:
        """Return every `ranks`-th stream from the `rank`-th on, on a device."""
        first, began, last = (t[:, rank::ranks].to(device) for t in (self.first, self.began, self.last))
        return Lessons(first, began, last, self.size, self.delay)

    def __iter__(self) -> Iterator[Chunk]:
        ahead = torch.arange(self.size, device=self.first.device)
        for first, began, last in zip(self.first, self.began, self.last, strict=True):
            heard = first[:, None] + ahead  # (B, S)
            due = heard - self.delay
            yield Chunk(
                inputs=torch.minimum(heard, last[:, None]),
                targets=torch.maximum(due, began[:, None]).minimum(last[:, None]),
                counts=(torch.maximum(heard, due) <= last[:, None]) & (due >= began[:, None]),
                fresh=first == began,
                lengths=(last - first + 1).clamp(max=self.size),
            )


class Streams:
    """An endless supply of chunks.

    Parameters
    ----------
    lengths
        Steps of each sequence; they lie end to end in one array of features and one of mouths.
    streams, chunk
        `B` and `S`.
    delay
        Steps that outputs come late; or early, if it is negative.
    rng
        Chooses clips and offsets.
    weights
        How often a second of each sequence is heard, against others; by default all are alike.

    Raises
    ------
    ValueError
        No sequence is longer than the delay.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        streams: int,
        chunk: int,
        delay: int,
        rng: np.random.Generator,
        weights: Sequence[float] | None = None,
    ) -> None:
        self._starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
        self._lengths = np.array(lengths, np.int64)
        spare = np.maximum(self._lengths - abs(delay), 0)  # offsets from which at least one output is due
        if not spare.any():
            raise ValueError(f"No sequence is longer than the delay of {delay} steps: {max(lengths, default=0) = }.")
        self._chunk, self._delay, self._rng = chunk, delay, rng
        self._offsets = np.where(self._lengths <= chunk, np.minimum(spare, 1), spare)
        # A stream that runs is on a clip for as long as it is; how often one is entered must not count length again.
        share = np.where(spare > 0, np.ones(len(spare)) if weights is None else np.array(weights, float), 0.0)
        entries = np.cumsum(share / share.sum())
        self._enter = entries / entries[-1]
        self._clip = rng.choice(len(spare), size=streams, p=share * spare / (share * spare).sum())
        self._offset = rng.integers(0, self._offsets[self._clip])  # where the stream began, in its clip
        self._next = self._offset.copy()  # where it goes on

    def _restart(self, which: np.ndarray) -> None:
        """Let streams begin again within a chunk of a clip's start: anywhere in it, and ends would be heard far more often."""
        clip = self._enter.searchsorted(self._rng.random(int(which.sum())), side="right")
        offset = self._rng.integers(0, np.minimum(self._offsets[clip], self._chunk))
        self._clip[which], self._offset[which], self._next[which] = clip, offset, offset

    def take(self, count: int) -> Lessons:
        """Draw the chunks of the next `count` training steps."""
        drawn = np.empty((3, count, len(self._clip)), np.int64)
        for k in range(count):
            start, length = self._starts[self._clip], self._lengths[self._clip]
            drawn[:, k] = start + self._next, start + self._offset, start + length - 1
            self._next = self._next + self._chunk
            self._restart(self._next >= length)
        first, began, last = torch.from_numpy(drawn)
        return Lessons(first, began, last, self._chunk, self._delay)
