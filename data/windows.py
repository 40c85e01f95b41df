"""Clips → training sequences: streams that run through the corpus one second at a time.

`B` streams start at random offsets of the clips; each takes chunks in order, so that the state which the network carries
from chunk to chunk is one that it will meet in use. At a clip's end a stream starts anew, near the start of another. So
every second of the corpus is heard about equally often.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Chunk:
    """What one training step takes from sequences that are laid end to end.

    Attributes
    ----------
    inputs : ndarray, shape (B, S), int64
        Steps whose features are heard.
    targets : ndarray, shape (B, S), int64
        Steps whose mouth is due at each output.
    counts : ndarray, shape (B, S), bool
        Outputs that are due: not those of a time before the stream began, nor past its end.
    fresh : ndarray, shape (B,), bool
        Streams that start here, with an empty state.
    """

    inputs: np.ndarray
    targets: np.ndarray
    counts: np.ndarray
    fresh: np.ndarray


class Streams:
    """An endless supply of chunks.

    Parameters
    ----------
    lengths
        Steps of each sequence; they lie end to end in one array of features and one of mouths.
    streams, chunk
        `B` and `S`.
    delay
        Steps that outputs come late.
    rng
        Chooses clips and offsets.

    Raises
    ------
    ValueError
        No sequence is longer than the delay.
    """

    def __init__(self, lengths: Sequence[int], *, streams: int, chunk: int, delay: int, rng: np.random.Generator) -> None:
        self._starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
        self._lengths = np.array(lengths, np.int64)
        spare = np.maximum(self._lengths - delay, 0)  # offsets from which at least one output is due
        if not spare.any():
            raise ValueError(f"No sequence is longer than the delay of {delay} steps: {max(lengths, default=0) = }.")
        self._chunk, self._delay, self._rng = chunk, delay, rng
        self._clip = rng.choice(len(spare), size=streams, p=spare / spare.sum())
        self._offset = rng.integers(0, spare[self._clip])  # where the stream began, in its clip
        self._next = self._offset.copy()  # where it goes on
        self._usable = np.flatnonzero(spare)

    def _restart(self, which: np.ndarray) -> None:
        """Let streams begin again within a chunk of a clip's start: anywhere in it, and ends would be heard far more often."""
        clip = self._rng.choice(self._usable, size=int(which.sum()))
        offset = self._rng.integers(0, np.minimum(self._lengths[clip] - self._delay, self._chunk))
        self._clip[which], self._offset[which], self._next[which] = clip, offset, offset

    def __iter__(self) -> Iterator[Chunk]:
        while True:
            fresh = self._next == self._offset
            step = self._next[:, None] + np.arange(self._chunk)  # within the clip
            length, start = self._lengths[self._clip, None], self._starts[self._clip, None]
            counts = (step < length) & (step - self._delay >= self._offset[:, None])
            inputs = start + np.minimum(step, length - 1)
            targets = start + np.clip(step - self._delay, 0, length - 1)
            self._next = self._next + self._chunk
            yield Chunk(inputs, targets, counts, fresh)
            self._restart(self._next >= self._lengths[self._clip])
