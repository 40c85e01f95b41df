"""Video in: what a file holds, and its frames with their exact times.

One clock serves the whole file: container PTS in seconds, with zero at the earlier of the two streams' first
decoded samples, so that picture and sound keep the offset that the file gives them. Times are `Fraction`.

Frames stay in the video's own YUV planes. A renderer that changes the mouth alone can then leave every other
sample exactly as it was decoded, and colour metadata needs no interpretation to be written back.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.format import formats_available

from lipwright.data.errors import MediaError

log = logging.getLogger(__name__)

RATE_JITTER_S = 0.002
"""Frame intervals within this of each other are one constant rate: containers in milliseconds round to 1 ms."""

MOST_DROPPED = 0.01
"""A rate is constant although up to this share of its frames was dropped."""

SEEK_BACK_S = (0, 1, 4, 16)
"""How far before the wanted frame to seek, in turn, until a frame before it decodes."""

FULL_RANGE = 2  # AVCOL_RANGE_JPEG
UNSPECIFIED = 2  # AVCOL_SPC/PRI/TRC_UNSPECIFIED


@dataclass(frozen=True)
class Colour:
    """How the samples of a video are to be understood, in FFmpeg's numbers (ITU-T H.273)."""

    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    matrix: int = UNSPECIFIED
    range: int = 0


@dataclass(frozen=True)
class VideoStream:
    """The picture of a media file, upright: rotation metadata is already taken into `width` and `height`."""

    width: int
    height: int
    quarter_turns: int
    """Counter-clockwise quarter turns that bring a decoded frame upright."""
    average_rate: Fraction
    """Frames a second as the container states them; timestamps decide, this is for encoders and progress."""
    time_base: Fraction
    start: Fraction
    """PTS of the first decoded frame, in container seconds."""
    codec: str
    duration_s: float
    """Length as the container states it; 0 where it does not."""
    colour: Colour

    @property
    def frames(self) -> int:
        """About how many frames there are, for progress; 0 where the container does not say."""
        return round(self.duration_s * self.average_rate)


@dataclass(frozen=True)
class AudioStream:
    """The sound of a media file."""

    rate_hz: int
    channels: int
    codec: str
    start: Fraction
    """PTS of the first decoded sample, in container seconds (after codec priming is dropped)."""


@dataclass(frozen=True)
class Media:
    """What a media file holds."""

    path: Path
    video: VideoStream | None
    audio: AudioStream | None
    zero: Fraction
    """Container seconds at which the file's clock reads zero."""
    broken: frozenset[str] = frozenset()
    """Of ``"video"`` and ``"audio"``, which are there, but nothing of them can be decoded."""

    def need_video(self) -> VideoStream:
        """Return the picture stream, or raise `MediaError` if there is none."""
        if self.video is None and "video" in self.broken:
            raise MediaError(f"no frame of {self.path} can be decoded; copy it again, or export it as H.264")
        if self.video is None:
            raise MediaError(f"{self.path} has no video stream; give a video that shows a face")
        return self.video

    def need_audio(self) -> AudioStream:
        """Return the sound stream, or raise `MediaError` if there is none."""
        if self.audio is None and "audio" in self.broken:
            raise MediaError(f"no sound of {self.path} can be decoded; copy it again, or export it with AAC")
        if self.audio is None:
            raise MediaError(f"{self.path} has no audio stream; give a file with speech")
        return self.audio


@dataclass(frozen=True)
class Yuv:
    """One upright picture as 8-bit 4:2:0 planes: `y` (H, W), `u` and `v` (⌈H/2⌉, ⌈W/2⌉), uint8."""

    y: np.ndarray
    u: np.ndarray
    v: np.ndarray

    def copy(self) -> Yuv:
        """Return planes of one's own, to paint on."""
        return Yuv(self.y.copy(), self.u.copy(), self.v.copy())

    def to_picture(self, colour: Colour) -> av.VideoFrame:
        """Return the planes as a picture for FFmpeg; an odd edge is repeated once, since 4:2:0 H.264 has even sizes only."""
        height, width = self.y.shape
        y = np.pad(self.y, ((0, height % 2), (0, width % 2)), mode="edge") if height % 2 or width % 2 else self.y
        picture = av.VideoFrame(y.shape[1], y.shape[0], "yuv420p")
        plane: Any
        for plane, values in zip(picture.planes, (y, self.u, self.v), strict=True):
            rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
            rows[: plane.height, : plane.width] = values
        picture.color_primaries, picture.color_trc = colour.primaries, colour.transfer
        picture.colorspace, picture.color_range = colour.matrix, colour.range
        return picture

    @staticmethod
    def from_bgr(bgr: np.ndarray) -> Yuv:
        """Convert a BGR image (H, W, 3) uint8 to BT.709 limited-range planes."""
        picture = av.VideoFrame.from_ndarray(bgr, format="bgr24").reformat(
            format="yuv420p", dst_colorspace="ITU709", src_color_range=FULL_RANGE, dst_color_range=1
        )
        return Yuv(*(_plane(p) for p in picture.planes))


BT709 = Colour(primaries=1, transfer=1, matrix=1, range=1)
"""What `Yuv.from_bgr` makes."""


@dataclass(frozen=True)
class Frame:
    """One decoded frame: its number, its PTS, its time on the file's clock, and its picture."""

    index: int
    pts: int
    time: Fraction
    picture: av.VideoFrame
    quarter_turns: int

    def yuv(self) -> Yuv:
        """Return the upright picture as 8-bit 4:2:0 planes, untouched where the video is stored so."""
        picture = self.picture
        if picture.format.name not in ("yuv420p", "yuvj420p"):
            picture = picture.reformat(format="yuv420p")
        return Yuv(*(_upright(_plane(p), self.quarter_turns) for p in picture.planes))

    def rgb(self) -> np.ndarray:
        """Return the upright picture as C-contiguous RGB, (H, W, 3) uint8, full range."""
        return _upright(to_rgb(self.picture), self.quarter_turns)


def to_rgb(picture: av.VideoFrame) -> np.ndarray:
    """Convert a picture to C-contiguous full-range RGB, (H, W, 3) uint8, by the matrix that it states."""
    rgb = picture.reformat(format="rgb24", src_color_range=picture.color_range or None, dst_color_range=FULL_RANGE)
    # to_ndarray pads the rows of many widths; MediaPipe finds no face in padded rows.
    return np.ascontiguousarray(rgb.to_ndarray())


def _plane(plane: Any) -> np.ndarray:
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return np.ascontiguousarray(rows[: plane.height, : plane.width])


def _upright(image: np.ndarray, quarter_turns: int) -> np.ndarray:
    return np.ascontiguousarray(np.rot90(image, quarter_turns) if quarter_turns else image)


REFERRING = frozenset(
    ["concat", "dash", "hls", "image2", "imf", "lavfi", "rtp", "rtsp", "sap", "sdp", "vobsub", "webm_dash_manifest"]
)
"""Formats whose files name other files, or addresses, to be opened in their place."""


@cache
def _read_formats() -> str:
    """Return the formats that are read: all that FFmpeg knows but those that name what else to open."""
    return ",".join(sorted(formats_available - REFERRING))


@contextmanager
def open_media(path: Path) -> Iterator[av.container.InputContainer]:
    """Open a media file for reading and turn FFmpeg's errors into `MediaError`."""
    if not path.is_file():
        what = "is a folder, not a media file" if path.is_dir() else "does not exist; check the path"
        raise MediaError(f"{path} {what}")
    if path.stat().st_size == 0:
        raise MediaError(f"{path} is empty (0 bytes); copy or record it again")
    try:
        # A bare "10:30.mp4" reads as a protocol; titles may be in any encoding.
        container = av.open(str(path.absolute()), metadata_errors="replace", options={"format_whitelist": _read_formats()})
    except (av.error.FFmpegError, OSError) as error:
        raise MediaError(
            f"{path} cannot be read as video or audio ({error.strerror or error}); it may be truncated or of another kind"
        ) from None
    with container:
        yield container


def pictures_of(container: av.container.InputContainer) -> list[Any]:
    """Return the video streams of a file. A cover image is a stream of one frame: not a video."""
    return [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]


def decode(container: av.container.InputContainer, stream: Any) -> Iterator[Any]:
    """Decode a stream, passing over packets that cannot be decoded, up to where the file ends or breaks."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except (av.error.FFmpegError, OSError) as error:
            log.warning("%s breaks off: %s", container.name, error)
            return
        try:
            yield from packet.decode()
        except av.error.EOFError:
            return
        except av.error.FFmpegError as error:
            log.debug("%s: a packet at %s cannot be decoded: %s", container.name, packet.pts, error)


def _first(container: av.container.InputContainer, stream: Any) -> Any:
    return next((f for f in decode(container, stream) if f.pts is not None), None)


def probe(path: Path | str) -> Media:
    """Look into a media file.

    Raises
    ------
    MediaError
        The file is missing, empty, broken, or holds neither video nor audio that decodes.
    """
    path = Path(path)
    stream: Any
    video: VideoStream | None = None
    audio: AudioStream | None = None
    there = set()
    with open_media(path) as container:
        pictures = pictures_of(container)
        there |= {"video"} if pictures else set()
        if pictures and (frame := _first(container, stream := pictures[0])) is not None:
            turns = round(frame.rotation / 90) % 4
            width, height = (frame.height, frame.width) if turns % 2 else (frame.width, frame.height)
            video = VideoStream(
                width=width,
                height=height,
                quarter_turns=turns,
                average_rate=stream.average_rate or stream.guessed_rate or Fraction(25),
                time_base=stream.time_base,
                start=frame.pts * frame.time_base,
                codec=stream.codec_context.name,
                duration_s=float((stream.duration or 0) * stream.time_base),
                colour=Colour(frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range),
            )
    with open_media(path) as container:
        there |= {"audio"} if container.streams.audio else set()
        if container.streams.audio and (frame := _first(container, stream := container.streams.audio[0])) is not None:
            audio = AudioStream(
                rate_hz=frame.sample_rate,
                channels=frame.layout.nb_channels,
                codec=stream.codec_context.name,
                start=frame.pts * frame.time_base,
            )
    if video is None and audio is None:
        raise MediaError(f"{path} holds no video or audio that can be decoded; it may be truncated or of another kind")
    found = {"video": video, "audio": audio}
    zero = min(stream.start for stream in found.values() if stream is not None)
    return Media(path, video, audio, zero, frozenset(kind for kind in there if found[kind] is None))


def read_frames(media: Media, *, threads: int = 0, from_pts: int | None = None) -> Iterator[Frame]:
    """Decode the frames of a video in order of time.

    Parameters
    ----------
    media
        From `probe`.
    threads
        Decoder threads; 0 lets FFmpeg choose. Worker processes pass 1.
    from_pts
        Start at the frame with this PTS rather than at the first. `Frame.index` then counts from there.

    Yields
    ------
    Frame
        With strictly increasing times: a frame without a later PTS than the one before it is dropped.
    """
    video = media.need_video()
    stored = (video.height, video.width) if video.quarter_turns % 2 else (video.width, video.height)
    last, index = None, 0
    for picture in _pictures(media, threads, from_pts):
        pts = picture.pts
        if (last is not None and pts <= last) or (from_pts is not None and pts < from_pts):
            continue
        last = pts
        if (picture.width, picture.height) != stored:  # recorders of calls change it midway
            picture = picture.reformat(*stored)
        yield Frame(index, pts, pts * video.time_base - media.zero, picture, video.quarter_turns)
        index += 1


def _pictures(media: Media, threads: int, from_pts: int | None) -> Iterator[Any]:
    """Decode pictures that have a PTS, from one at or before `from_pts` on."""
    ticks_a_second = round(1 / media.need_video().time_base)
    # Seeking may land too late: transport streams have no index, and the first pictures of an open group of pictures
    # are shown before their key frame. Then from further back; None is the very start.
    for back_s in (None,) if from_pts is None else (*SEEK_BACK_S, None):
        with open_media(media.path) as container:
            stream = pictures_of(container)[0]
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = threads
            if from_pts is not None and back_s is not None:
                try:
                    container.seek(from_pts - back_s * ticks_a_second, stream=stream, backward=True)
                except (av.error.FFmpegError, OSError):
                    continue
            pictures = (p for p in decode(container, stream) if p.pts is not None)
            first = next(pictures, None)
            if first is not None and (from_pts is None or back_s is None or first.pts <= from_pts):
                yield first
                yield from pictures
                return


def rate_of(times_s: np.ndarray) -> Fraction | None:
    """Return the constant frame rate that sorted `times_s` (F,) have, or None if it varies.

    The usual rates (whole numbers and their 1000/1001) are recognised; others come out with a denominator of at
    most 1001.
    """
    if len(times_s) < 2:
        return None
    steps = np.diff(times_s)
    usual = float(np.median(steps))
    multiples = np.maximum(np.round(steps / usual), 1)
    if np.abs(steps - multiples * usual).max() > 2 * RATE_JITTER_S or np.mean(multiples > 1) > MOST_DROPPED:
        return None
    rate = multiples.sum() / float(times_s[-1] - times_s[0])
    for ntsc in (Fraction(round(rate)), Fraction(round(rate * 1.001) * 1000, 1001)):
        if abs(rate / float(ntsc) - 1) < 1e-4:
            return ntsc
    return Fraction(rate).limit_denominator(1001)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
