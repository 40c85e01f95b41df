"""Sound of a video that is written: a file's packets as they are, or AAC.

The packets are made one by one as the picture asks for them: memory does not grow with their number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from lipwright.data.audio import GAP_S, read_blocks
from lipwright.data.errors import InputError
from lipwright.data.media import Media, open_media
from lipwright.data.mix import Mix

PCM = frozenset(f"pcm_{kind}" for kind in ("u8", "s16le", "s16be", "s24le", "s24be", "s32le", "s32be", "f32le", "f64le"))
COPIED = {
    # What Chrome and QuickTime play both. Chrome has no AC-3 and no ALAC, QuickTime no Opus in MP4.
    ".mp4": frozenset({"aac", "mp3", "flac"}),
    ".m4v": frozenset({"aac", "mp3", "flac"}),
    ".mov": frozenset({"aac", "mp3", "alac", "ac3", "eac3"}) | PCM,
    ".mkv": frozenset({"aac", "mp3", "alac", "ac3", "eac3", "flac", "opus", "vorbis"}) | PCM,
}
"""Sound that is copied as it is, packet by packet; all other becomes AAC."""

PREROLL_S = Fraction(1, 10)
"""Decoders want at most so much before the first sample that is heard; what a file hides before that is not copied."""

MP3_RATE_HZ = 16_000
"""MP4 has no number for MP3 of a lower rate."""

AAC_RATES_HZ = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)
"""The sampling rates that AAC has a number for."""

AAC_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
"""AAC knows a layout by its number of channels; many files do not state one at all."""

AAC_BITS_PER_CHANNEL = 96_000

Blocks = Iterator[tuple[Fraction, np.ndarray]]
"""Of sound: the time of the first sample on the output's clock in seconds, and the samples, (channels, n) float32."""


Packet = tuple[Fraction, Any]
"""A packet of a stream, and its time on the output's clock."""


def sound_packets(
    container: Any, suffix: str, audio: Media | Mix, span_s: tuple[Fraction, Fraction] | None = None
) -> Iterator[Packet]:
    """Add a stream of sound to a container, and return its packets, made as they are asked for.

    Parameters
    ----------
    container
        Open for writing, its header not yet written.
    suffix
        The container's, in lower case; it decides what is copied (`COPIED`).
    audio
        A file, or sound that is made as it is written.
    span_s
        Take only what is between these two times, moved to zero, and encode it.

    Raises
    ------
    MediaError
        The file has no sound, or is gone.
    InputError
        There are more channels than AAC can hold.
    """
    if not isinstance(audio, Media):
        mixed = audio.blocks() if span_s is None else _cut(audio.blocks(), audio.rate_hz, *span_s)
        return _encoded(container, mixed, audio.rate_hz, audio.channels, "the mixed sound")
    kind = audio.need_audio()
    if span_s is not None:
        return _encoded(container, _cut(read_blocks(audio), kind.rate_hz, *span_s), kind.rate_hz, kind.channels, audio.path)
    with open_media(audio.path) as source:
        own = source.streams.audio[0]
        if _is_copied(own, suffix):
            stream = container.add_stream_from_template(own)
            packets = _copied(audio, stream)
            return _without_gaps(packets, kind.codec, stream) if suffix == ".mov" and kind.codec in PCM else packets
    return _encoded(container, read_blocks(audio), kind.rate_hz, kind.channels, audio.path)


def _is_copied(stream: Any, suffix: str) -> bool:
    codec = stream.codec_context.codec.canonical_name
    if codec == "mp3" and suffix in (".mp4", ".m4v") and stream.codec_context.sample_rate < MP3_RATE_HZ:
        return False
    return codec in COPIED[suffix]


def _copied(audio: Media, stream: Any) -> Iterator[Packet]:
    packet: Any
    with open_media(audio.path) as source:
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is None:
                continue
            # Move the sound onto the clock whose zero is the earlier of its file's two streams.
            shift = round(audio.zero / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            if (packet.pts + (packet.duration or 0)) * packet.time_base < -PREROLL_S:
                continue
            packet.stream = stream
            yield packet.pts * packet.time_base, packet


def _without_gaps(packets: Iterable[Packet], codec: str, stream: Any) -> Iterator[Packet]:
    """Fill gaps in the times of PCM with silence: MOV plays the samples that it holds without pause."""
    rate = stream.codec_context.sample_rate
    width = int(re.sub(r"\D", "", codec)) // 8 * stream.codec_context.channels
    zero = b"\x80" if codec == "pcm_u8" else b"\0"
    end: Fraction | None = None
    for time, packet in packets:
        if end is None:
            end = time
        if time - end > GAP_S:
            missing = round((time - end) * rate)
            for first in range(0, missing, rate):
                silence: Any = av.Packet(zero * (width * min(rate, missing - first)))
                silence.pts = silence.dts = round(end * rate) + first
                silence.time_base, silence.stream = Fraction(1, rate), stream
                yield silence.pts * silence.time_base, silence
            end += Fraction(missing, rate)
        end += Fraction(packet.size, width * rate)
        yield time, packet


def _cut(blocks: Iterable[tuple[Fraction, np.ndarray]], rate_hz: int, begin: Fraction, end: Fraction) -> Blocks:
    for time, block in blocks:
        first = max(0, round((begin - time) * rate_hz))
        stop = min(block.shape[1], round((end - time) * rate_hz))
        if first < stop:
            yield time - begin + Fraction(first, rate_hz), block[:, first:stop]


def _encoded(container: Any, blocks: Blocks, rate_hz: int, channels: int, name: Path | str) -> Iterator[Packet]:
    # The stream must exist before the first packet is muxed: this is no generator.
    if channels not in AAC_LAYOUTS:
        raise InputError(f"{name} has {channels} channels, which AAC cannot hold; mix them down to 8 or fewer")
    rate = min(AAC_RATES_HZ, key=lambda r: (abs(r - rate_hz), -r))
    stream = container.add_stream("aac", rate=rate, layout=AAC_LAYOUTS[channels])
    stream.bit_rate = AAC_BITS_PER_CHANNEL * channels
    return _encode(blocks, rate_hz, stream, AAC_LAYOUTS[channels])


def _encode(blocks: Blocks, source_rate_hz: int, stream: Any, layout: str) -> Iterator[Packet]:
    size = stream.codec_context.frame_size or 1024
    resampler = av.AudioResampler(format="fltp", layout=layout, rate=stream.codec_context.sample_rate, frame_size=size)
    for time, block in blocks:
        skip = max(0, round(-time * source_rate_hz))  # what would be before zero
        if skip >= block.shape[1]:
            continue
        packed = np.ascontiguousarray(block[:, skip:].T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
        frame.sample_rate, frame.time_base = source_rate_hz, Fraction(1, source_rate_hz)
        frame.pts = round(time * source_rate_hz) + skip
        for piece in resampler.resample(frame):
            yield from ((p.pts * p.time_base, p) for p in stream.encode(piece))
    for piece in resampler.resample(None):
        yield from ((p.pts * p.time_base, p) for p in stream.encode(piece))
    yield from ((p.pts * p.time_base, p) for p in stream.encode(None))
