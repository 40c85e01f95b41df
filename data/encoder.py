"""Pictures → packets, span by span: each span can be decoded by itself, and spans stand one after another in a file.

A span is made by an encoder of its own. So it begins with a key frame, and nothing in it refers to another span: spans
are made in any order, kept on disk, and joined without encoding anything anew (`lipwright.data.writer`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import av
import numpy as np
from av.codec.context import Flags

from lipwright.data.media import FULL_RANGE, UNSPECIFIED, Colour, VideoStream, Yuv

Codec = Literal["h264", "hevc", "prores", "png"]
"""H.264 and HEVC: 8-bit 4:2:0. ProRes 4444 and PNG: with alpha, every picture for itself."""

ENCODERS = {"h264": "libx264", "hevc": "libx265", "prores": "prores_ks", "png": "png"}
PIXELS = {"h264": "yuv420p", "hevc": "yuv420p", "prores": "yuva444p10le", "png": "rgba"}
INTRA: tuple[Codec, ...] = ("prores", "png")
"""Codecs whose every picture is a key frame, and that hold alpha."""

CRF = {"h264": 18, "hevc": 20}
"""Quality where none is asked for: about the same PSNR (docs/formats.md)."""

LIMITED_RANGE = 1  # AVCOL_RANGE_MPEG

SPAN_FRAMES = 250
"""Frames of a span. x264 and x265 begin anew after so many at the latest anyway: the key frame costs nothing."""

SPAN_FRAMES_INTRA = 10
"""The same for ProRes and PNG, a frame of which can take 10 MB."""

REORDER = 2
"""So many frames may stand in a stream before one that is shown earlier: x264 and x265 use B-frames as references."""


@dataclass(frozen=True)
class Layer:
    """A picture to lay over another one."""

    yuv: Yuv
    alpha: np.ndarray
    """(H, W) uint8, straight (colours are not multiplied by it): 0 shows what is below, 255 hides it."""

    def to_picture(self, colour: Colour) -> av.VideoFrame:
        """Return the planes as a picture for FFmpeg."""
        height, width = self.alpha.shape
        picture = av.VideoFrame(width, height, "yuva420p")
        plane: Any
        for plane, values in zip(picture.planes, (self.yuv.y, self.yuv.u, self.yuv.v, self.alpha), strict=True):
            np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width] = values
        picture.color_primaries, picture.color_trc = colour.primaries, colour.transfer
        picture.colorspace, picture.color_range = colour.matrix, colour.range
        return picture


@dataclass(frozen=True)
class Encoding:
    """What pictures are encoded as."""

    width: int
    """Of the upright pictures to come; for H.264 and HEVC an odd edge is repeated once, since 4:2:0 has even sizes only."""
    height: int
    time_base: Fraction
    """Tick of the timestamps."""
    rate: Fraction
    """Nominal frames a second, for the encoder's rate control."""
    colour: Colour
    """Of the pictures. H.264 and HEVC state it and change no sample; ProRes is brought to limited range, PNG to RGB."""
    codec: Codec = "h264"
    crf: int | None = None
    """Quality of H.264 and HEVC, the lower the better; None: `CRF`."""
    preset: str = "veryfast"
    """Speed of H.264 and HEVC."""

    @classmethod
    def like(
        cls, video: VideoStream, *, codec: Codec | None = None, crf: int | None = None, preset: str = "veryfast"
    ) -> Encoding:
        """Return the size, clock, rate and colour of a video, and by default HEVC if it is HEVC, else H.264."""
        codec = codec or ("hevc" if video.codec == "hevc" else "h264")
        return cls(video.width, video.height, video.time_base, video.average_rate, video.colour, codec, crf, preset)

    @property
    def span_frames(self) -> int:
        """Most frames that a span should have."""
        return SPAN_FRAMES_INTRA if self.codec in INTRA else SPAN_FRAMES

    @property
    def reorder(self) -> int:
        """By how many frames decoding is ahead of showing."""
        return 0 if self.codec in INTRA else REORDER

    @property
    def step(self) -> int:
        """Ticks from one frame to the next at the nominal rate."""
        return max(1, round(1 / (self.rate * self.time_base)))

    def configure(self, context: Any) -> None:
        """Set up an encoder that is not open yet."""
        even = 1 if self.codec in INTRA else 2
        context.width, context.height = (-(-edge // even) * even for edge in (self.width, self.height))
        context.pix_fmt, context.time_base, context.framerate = PIXELS[self.codec], self.time_base, self.rate
        context.flags |= Flags.global_header  # stands once in front of all spans
        context.thread_type = "AUTO"  # else x264 cuts frames into slices, one a thread
        quality = {"preset": self.preset, "crf": str(CRF.get(self.codec) if self.crf is None else self.crf)}
        context.options = {
            "h264": quality,
            "hevc": quality | {"x265-params": "log-level=error:open-gop=0"},
            "prores": {"profile": "4444", "vendor": "apl0"},
            "png": {"compression_level": "1"},
        }[self.codec]
        if self.codec != "png":
            context.color_primaries, context.color_trc = self.colour.primaries, self.colour.transfer
            context.colorspace = self.colour.matrix
            context.color_range = LIMITED_RANGE if self.codec == "prores" else self.colour.range

    def open(self) -> Any:
        """Return an encoder, open."""
        context: Any = av.CodecContext.create(ENCODERS[self.codec], "w")
        self.configure(context)
        context.open()
        return context

    def fingerprint(self) -> str:
        """Return a short hash of what a span depends on beside its pictures and their PTS: settings, encoder, and threads."""
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        encoder = (self, av.__version__, self.open().extradata, threads)
        return hashlib.sha256(repr(encoder).encode()).hexdigest()[:16]

    def frame(self, picture: Yuv | Layer, pts: int) -> av.VideoFrame:
        """Return a picture as the encoder takes it; its PTS in ticks."""
        planes = picture.yuv if isinstance(picture, Layer) else picture
        if planes.y.shape != (self.height, self.width):
            raise ValueError(f"Expected pictures of {self.width}x{self.height}, got {planes.y.shape[1]}x{planes.y.shape[0]}.")
        if isinstance(picture, Layer) and self.codec not in INTRA:
            raise ValueError(f"Expected pictures without alpha for {self.codec}, got a Layer.")
        if self.codec not in INTRA:
            frame = picture.to_picture(self.colour)
        else:
            layer = picture if isinstance(picture, Layer) else Layer(picture, np.full_like(picture.y, 255))
            span = FULL_RANGE if self.codec == "png" else LIMITED_RANGE
            frame = layer.to_picture(self.colour).reformat(format=PIXELS[self.codec], dst_color_range=span)
        plane: Any
        if self.codec == "png":  # a stated gamma would change how viewers show it
            frame.color_primaries = frame.color_trc = frame.colorspace = UNSPECIFIED
        elif self.codec == "prores":  # FFmpeg makes 255 of 8 bits 1020 of 10, a little transparent
            plane = frame.planes[3]
            rows = np.frombuffer(plane, np.uint16).reshape(-1, plane.line_size // 2)
            rows[: self.height, : self.width] = (layer.alpha.astype(np.uint32) * 1023 + 127) // 255
        frame.pts, frame.time_base = pts, self.time_base
        return frame


@dataclass(frozen=True)
class Packets:
    """A span of encoded pictures in decoding order, P of them, that can be decoded without any other."""

    pts: np.ndarray
    """(P,) int64, ticks on the output's clock."""
    ends: np.ndarray
    """(P,) int64: where the bytes of each end in `data`; they begin where those before end."""
    data: np.ndarray
    """(ends[-1],) uint8."""
    key: np.ndarray
    """(P,) bool: key frames; the first is one."""


def encode(encoding: Encoding, pictures: Iterable[tuple[Yuv | Layer, int]]) -> Packets:
    """Encode one span.

    Parameters
    ----------
    encoding
        As what.
    pictures
        Pictures of the encoding's size, each with its PTS in ticks of `encoding.time_base` on the output's clock;
        increasing. `encoding.span_frames` of them at most: the packets are held in memory.

    Returns
    -------
    Packets
        The same, bit for bit, for the same pictures on the same machine.

    Raises
    ------
    ValueError
        There is no picture, one of another size, or one with alpha for a codec that has none.
    """
    context = encoding.open()
    packets = [packet for picture, pts in pictures for packet in context.encode(encoding.frame(picture, pts))]
    packets += context.encode(None)
    if not packets:
        raise ValueError("Expected a span of at least one picture, got none.")
    return Packets(
        pts=np.array([p.pts for p in packets], np.int64),
        ends=np.cumsum([p.size for p in packets], dtype=np.int64),
        data=np.frombuffer(b"".join(bytes(p) for p in packets), np.uint8),
        key=np.array([p.is_keyframe for p in packets]),
    )
