"""Video out: H.264 with the timestamps that it is given, and the given sound beside it.

Nothing half-written is left behind: the file grows under a temporary name and gets its own when it is whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np

from lipwright.data.audio import read_blocks
from lipwright.data.errors import InputError
from lipwright.data.media import Colour, Media, VideoStream, Yuv, open_media

CONTAINERS = (".mp4", ".m4v", ".mov", ".mkv")
AAC_RATES_HZ = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)
"""The sampling rates that AAC has a number for."""

AAC_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
"""AAC knows a layout by its number of channels; many files do not state one at all."""

AAC_BITS_PER_CHANNEL = 96_000


class VideoWriter:
    """Write H.264 frames at given times, and a file's sound beside them.

    Parameters
    ----------
    path
        Output; its suffix chooses the container.
    width, height
        Size of the pictures to come. 4:2:0 H.264 has even sizes only: an odd edge is repeated once.
    time_base
        Tick of the output's timestamps, the target's own.
    rate
        Nominal frames a second, for the encoder's rate control.
    colour
        Written into the stream; samples are not converted.
    crf, preset
        x264's quality and speed.
    audio
        Whose sound is written, at its own rate and channels: its packets are copied if it is AAC already, else it is
        encoded to AAC.
    audio_span_s
        Take only the sound between these two times, moved to zero; it is encoded anew.
    tags
        Metadata of the file, such as `comment`.
    """

    def __init__(
        self,
        path: Path,
        *,
        width: int,
        height: int,
        time_base: Fraction,
        rate: Fraction,
        colour: Colour,
        crf: int = 18,
        preset: str = "veryfast",
        audio: Media | None = None,
        audio_span_s: tuple[Fraction, Fraction] | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:
        if path.suffix.lower() not in CONTAINERS:
            raise InputError(f"{path}: cannot write {path.suffix or 'a file without a suffix'}; use {', '.join(CONTAINERS)}")
        self.path = path
        self._partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
        # MP4 notes a late start in ticks of the whole movie, 1 ms unless told: too coarse for exact timestamps.
        ticks = time_base.denominator * -(-90_000 // time_base.denominator)
        options = {"movflags": "+faststart", "movie_timescale": str(ticks)} if path.suffix.lower() != ".mkv" else {}
        self._container = av.open(str(self._partial.absolute()), "w", options=options)
        self._container.metadata.update(tags or {})
        stream: Any = self._container.add_stream("libx264", rate=rate, options={"preset": preset, "crf": str(crf)})
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        stream.time_base = stream.codec_context.time_base = time_base
        context = stream.codec_context
        context.color_primaries, context.color_trc = colour.primaries, colour.transfer
        context.colorspace, context.color_range = colour.matrix, colour.range
        self._video, self._time_base, self._colour = stream, time_base, colour
        self._sound = self._open_sound(audio, audio_span_s) if audio is not None else iter(())
        self._waiting = next(self._sound, None)

    @classmethod
    def like(cls, video: VideoStream, path: Path, **options: Any) -> VideoWriter:
        """Open a writer with the size, clock, rate and colour of a video; `options` as for the class."""
        return cls(
            path,
            width=video.width,
            height=video.height,
            time_base=video.time_base,
            rate=video.average_rate,
            colour=video.colour,
            **options,
        )

    def write(self, picture: Yuv, time: Fraction) -> None:
        """Append a picture (uint8 planes) to be shown from `time` (s) on; times must increase."""
        frame = picture.to_picture(self._colour)
        frame.pts, frame.time_base = round(time / self._time_base), self._time_base
        self._mux_sound(until=time)
        self._container.mux(self._video.encode(frame))

    def _mux_sound(self, until: Fraction | None = None) -> None:
        while self._waiting is not None and (until is None or self._waiting[0] <= until):
            self._container.mux(self._waiting[1])
            self._waiting = next(self._sound, None)

    def _open_sound(self, audio: Media, span_s: tuple[Fraction, Fraction] | None) -> Iterator[tuple[Fraction, Any]]:
        # The stream must exist before the first packet is muxed; its packets come later, one by one.
        if audio.need_audio().codec == "aac" and span_s is None:
            with open_media(audio.path) as source:
                stream: Any = self._container.add_stream_from_template(source.streams.audio[0])
            return _copied(audio, stream)
        return self._encoded(audio, span_s)

    def _encoded(self, audio: Media, span_s: tuple[Fraction, Fraction] | None) -> Iterator[tuple[Fraction, Any]]:
        kind = audio.need_audio()
        rate = min(AAC_RATES_HZ, key=lambda r: (abs(r - kind.rate_hz), -r))
        if kind.channels not in AAC_LAYOUTS:
            raise InputError(f"{audio.path} has {kind.channels} channels, which AAC cannot hold; mix them down to 8 or fewer")
        layout = AAC_LAYOUTS[kind.channels]
        stream: Any = self._container.add_stream("aac", rate=rate, layout=layout)
        stream.bit_rate = AAC_BITS_PER_CHANNEL * kind.channels
        return _encode(audio, stream, rate, layout, span_s)

    def close(self) -> None:
        """Finish the file and give it its name."""
        try:
            self._mux_sound()
            self._container.mux(self._video.encode(None))
            self._container.close()
            self._partial.replace(self.path)
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Drop what was written."""
        self._container.close()
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


def _copied(audio: Media, stream: Any) -> Iterator[tuple[Fraction, Any]]:
    packet: Any
    with open_media(audio.path) as source:
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is None:
                continue
            # Move the sound onto the clock whose zero is the earlier of its file's two streams.
            shift = round(audio.zero / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            time = packet.pts * packet.time_base
            packet.stream = stream
            yield time, packet


def _encode(
    audio: Media, stream: Any, rate: int, layout: str, span_s: tuple[Fraction, Fraction] | None
) -> Iterator[tuple[Fraction, Any]]:
    source_rate = audio.need_audio().rate_hz
    begin, end = span_s if span_s is not None else (Fraction(0), None)
    resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate, frame_size=stream.codec_context.frame_size or 1024)
    for time, block in read_blocks(audio):
        skip = max(0, round((begin - time) * source_rate))
        stop = block.shape[1] if end is None else min(block.shape[1], round((end - time) * source_rate))
        if skip >= stop:
            continue
        packed = np.ascontiguousarray(block[:, skip:stop].T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
        frame.sample_rate, frame.time_base = source_rate, Fraction(1, source_rate)
        frame.pts = round((time - begin) * source_rate) + skip
        for piece in resampler.resample(frame):
            yield from ((p.pts * p.time_base, p) for p in stream.encode(piece))
    for piece in resampler.resample(None):
        yield from ((p.pts * p.time_base, p) for p in stream.encode(piece))
    yield from ((p.pts * p.time_base, p) for p in stream.encode(None))
