"""Frames of a video by their numbers, in any order: held, skipped, backwards, from anywhere."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import numpy as np

from lipwright.data.errors import MediaError
from lipwright.data.media import Frame, Media, read_frames
from lipwright.data.threads import trim_heap

BLOCK_BYTES = 96 * 2**20
"""Most that pictures held for playing backwards may take: a group of pictures can only be decoded forwards."""


def _fitting(width: int, height: int, bits_a_pixel: int) -> int:
    """Return how many pictures are held at most."""
    return max(1, BLOCK_BYTES * 8 // (width * height * bits_a_pixel))


class Player:
    """Frames of a video by their numbers, in any order and in bounded memory.

    Going on decodes on, and going back decodes a block forwards and keeps it; anything else seeks.

    Parameters
    ----------
    media
        From `probe`.
    pts : ndarray, shape (F,), int64
        Time stamps of all its frames, increasing.

    Examples
    --------
    >>> with Player(media, track.pts) as player:  # doctest: +SKIP
    ...     pictures = [player(index).yuv() for index in (0, 1, 1, 2, 4, 3)]
    """

    def __init__(self, media: Media, pts: np.ndarray) -> None:
        video = media.need_video()
        self._media, self._pts = media, pts
        self._block = _fitting(video.width, video.height, 12)
        self._held: dict[int, Frame] = {}
        self._reader, self._next = self._read(0), 0

    def __call__(self, index: int) -> Frame:
        """Return a frame by its number.

        Raises
        ------
        IndexError
            There is no such frame.
        MediaError
            The file does not decode that far any more.
        """
        if not 0 <= index < len(self._pts):
            raise IndexError(f"Expected a frame from 0 to {len(self._pts) - 1}, got {index}.")
        if index in self._held:
            return self._held[index]
        first, lowest = index, min(self._held, default=0)
        if lowest - self._block <= index < lowest:  # a step back is seldom alone
            first = max(0, index + 1 - self._block)
        if not self._next <= index < self._next + self._block:
            self._reader.close()
            self._reader, self._next = self._read(first), first
        block = len(self._held) > 1
        self._held.clear()
        if block:
            trim_heap()  # the next one would not fill its holes
        while self._next <= index:
            frame = next(self._reader, None)
            if frame is None:
                raise MediaError(f"{self._media.path} ends before frame {index}, which it had when it was tracked")
            picture = frame.picture
            self._block = _fitting(picture.width, picture.height, picture.format.padded_bits_per_pixel)
            if frame.index >= first:
                self._held[frame.index] = frame
            self._next += 1
        return self._held[index]

    def _read(self, first: int) -> Generator[Frame]:
        """Decode from a frame on; one that this time does not decode is stood in for by the one after it."""
        index = first
        for frame in read_frames(self._media, from_pts=int(self._pts[first]) if first else None):
            while index < len(self._pts) and self._pts[index] <= frame.pts:
                yield replace(frame, index=index)
                index += 1

    def close(self) -> None:
        """Close the file."""
        self._reader.close()
        self._held.clear()

    def __enter__(self) -> Player:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
