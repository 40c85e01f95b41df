"""Key frames: a look into a video here and there, for the time of a few hundred pictures, however long it is."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np

from lipwright.data.media import Frame, Media, open_media, pictures_of


def frame_times(media: Media) -> np.ndarray:
    """Return the times of all frames on the file's clock, seconds, (F,) float64, as the container has them."""
    video = media.need_video()
    with open_media(media.path) as container:
        pts = {packet.pts for packet in _packets(container)}
    return np.array(sorted(pts)) * float(video.time_base) - float(media.zero)


def read_keyframes(media: Media, apart_s: float) -> Iterator[Frame]:
    """Decode key frames that are at least so far apart, in order of time."""
    video = media.need_video()
    last: Fraction | None = None
    with open_media(media.path) as container:
        for packet in _packets(container):
            time = packet.pts * video.time_base - media.zero
            if not packet.is_keyframe or (last is not None and time - last < apart_s):
                continue
            last = time
            packet.stream.codec_context.flush_buffers()
            try:
                pictures = [*packet.decode(), *packet.stream.codec_context.decode(None)]
            except av.error.FFmpegError:
                continue
            if pictures:
                yield Frame(-1, packet.pts, time, pictures[0], video.quarter_turns)


def _packets(container: av.container.InputContainer) -> Iterator[Any]:
    """Read the packets that hold frames to be shown, up to where the file ends or breaks."""
    packets = container.demux(pictures_of(container)[0])
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.error.FFmpegError, OSError):
            return
        if packet.pts is not None and packet.size and not packet.is_discard:
            yield packet
