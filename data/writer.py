"""Video out: encoded spans joined with the timestamps that they are given, and the given sound beside them.

Nothing half-written is left behind: what is written grows under a temporary name and gets its own when it is whole.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np

from lipwright.data.encoder import ENCODERS, INTRA, Codec, Encoding, Layer, Packets
from lipwright.data.errors import InputError
from lipwright.data.files import SEALED, own_name, sweep
from lipwright.data.media import Media, Yuv
from lipwright.data.mix import Mix
from lipwright.data.soundtrack import sound_packets

log = logging.getLogger(__name__)

HOLDS: dict[str, tuple[Codec, ...]] = {
    ".mp4": ("h264", "hevc"),
    ".m4v": ("h264", "hevc"),
    ".mov": ("h264", "hevc", "prores"),
    ".mkv": ("h264", "hevc"),
    "": ("png",),
}
"""What an output of each suffix holds; without one it is a folder of pictures, 000000.png and so on."""

CONTAINERS = tuple(suffix for suffix in HOLDS if suffix)


def codec_for(path: Path, *, alpha: bool = False) -> Codec | None:
    """Return what an output's name asks for: ProRes or a folder of PNG for layers with alpha; None, any, for a video.

    Raises
    ------
    InputError
        Nothing of the kind can be written under this name.
    """
    codec: Codec | None = None if not alpha else "prores" if path.suffix else "png"
    _require_holds(path, codec or "h264")
    return codec


def _require_holds(path: Path, codec: Codec) -> None:
    suffix = path.suffix.lower()
    if suffix not in HOLDS:
        raise InputError(
            f"{path}: cannot write {path.suffix}; use {', '.join(CONTAINERS)}, or no suffix for a folder of PNG pictures"
        )
    if codec not in HOLDS[suffix]:
        what = "a layer with alpha" if codec in INTRA else "a video"
        use = ".mov (ProRes 4444), or no suffix (a folder of PNG pictures)" if codec in INTRA else ", ".join(CONTAINERS)
        raise InputError(f"{path}: cannot write {what} to {path.suffix or 'a folder of pictures'}; use {use}")


class VideoWriter:
    """Write a video: spans that are encoded already, or pictures one by one, and sound beside them.

    Parameters
    ----------
    path
        Output; its suffix chooses the container. Without one it is a folder of PNG pictures, and `audio` is left out.
    encoding
        What the pictures are encoded as.
    audio
        Sound to write, at its own rate and channels. A file's packets are copied where common players read its codec in
        the container (`COPIED`), else it is encoded to AAC.
    audio_span_s
        Take only the sound between these two times, moved to zero; it is encoded to AAC.
    tags
        Metadata of the file, such as `comment`.
    seal
        Called last, before the file has its name: with the whole file, and with where to put what is to have the name in its
        stead, signed, say. Not for a folder of pictures.

    Raises
    ------
    InputError
        The container does not hold what is to be written.
    OSError
        `path` cannot be written (by any method): no room is left, say.
    """

    def __init__(
        self,
        path: Path,
        encoding: Encoding,
        *,
        audio: Media | Mix | None = None,
        audio_span_s: tuple[Fraction, Fraction] | None = None,
        tags: dict[str, str] | None = None,
        seal: Callable[[Path, Path], None] | None = None,
    ) -> None:
        _require_holds(path, encoding.codec)
        sweep(path)
        self.path, self.encoding = path, encoding
        self._partial, self._sealed, self._seal = own_name(path), own_name(path, SEALED), seal
        suffix = path.suffix.lower()
        if not suffix:
            _require_pictures(path)
            self._partial.mkdir()
            pattern = str(self._partial.absolute()).replace("%", "%%") + "/%06d.png"
            self._container = av.open(pattern, "w", format="image2", options={"start_number": "0"})
        else:
            # MP4 notes a late start in ticks of the whole movie, 1 ms unless told: too coarse for exact timestamps.
            ticks = encoding.time_base.denominator * -(-90_000 // encoding.time_base.denominator)
            options = {"movflags": "+faststart", "movie_timescale": str(ticks)} if suffix != ".mkv" else {}
            form = {".mkv": "matroska", ".mov": "mov"}.get(suffix, "mp4")  # what FFmpeg makes of .m4v has no HEVC
            self._container = av.open(str(self._partial.absolute()), "w", format=form, options=options)
        self._container.metadata.update(tags or {})
        self._video: Any = self._container.add_stream(ENCODERS[encoding.codec], rate=encoding.rate)
        self._video.time_base = encoding.time_base
        encoding.configure(self._video.codec_context)
        if encoding.codec == "hevc" and suffix != ".mkv":
            self._video.codec_context.codec_tag = "hvc1"  # QuickTime plays no hev1
        self._last: int | None = None
        self._dts: deque[int] = deque()
        self._sound = sound_packets(self._container, suffix, audio, audio_span_s) if audio is not None and suffix else iter(())
        self._waiting = next(self._sound, None)

    def append(self, packets: Packets) -> None:
        """Append a span; its PTS are later than those before. Not beside `write`."""
        self._show(np.sort(packets.pts).tolist())
        begin = 0
        for pts, end, key in zip(packets.pts.tolist(), packets.ends.tolist(), packets.key.tolist(), strict=True):
            packet = av.Packet(packets.data[begin:end].tobytes())
            packet.pts, packet.time_base, packet.stream, packet.is_keyframe = pts, self.encoding.time_base, self._video, key
            self._put(packet)
            begin = end

    def write(self, picture: Yuv | Layer, time: Fraction) -> None:
        """Encode a picture and append it, to be shown from `time` (s) on; times must increase."""
        pts = round(time / self.encoding.time_base)
        self._show([pts])
        for packet in self._video.encode(self.encoding.frame(picture, pts)):
            self._put(packet)

    def _show(self, pts: list[int]) -> None:
        """Note the PTS to come, increasing."""
        if self._last is None:
            self._dts.extend(pts[0] - k * self.encoding.step for k in range(self.encoding.reorder, 0, -1))
        elif pts[0] <= self._last:
            raise ValueError(f"Expected times that increase, got tick {pts[0]} after {self._last} for {self.path}.")
        self._dts.extend(pts)
        self._last = pts[-1]

    def _put(self, packet: Any) -> None:
        # Each span's encoder counts DTS for itself: over a join they would not increase. One rule serves the whole
        # stream: packets are decoded at the times at which pictures are shown, `reorder` pictures earlier.
        packet.dts, packet.duration = self._dts.popleft(), self.encoding.step
        self._mux_sound(until=packet.dts * self.encoding.time_base)
        self._mux(packet)

    def _mux(self, packet: Any) -> None:
        try:
            self._container.mux(packet)
        except OSError as error:
            raise self._named(error) from error

    def _named(self, error: OSError) -> OSError:
        return OSError(error.errno, error.strerror, str(self.path))

    def _mux_sound(self, until: Fraction | None = None) -> None:
        while self._waiting is not None and (until is None or self._waiting[0] <= until):
            try:
                self._mux(self._waiting[1])
            except av.error.InvalidDataError as error:
                log.debug("%s: a packet of sound at %s s is left out: %s", self.path, self._waiting[0], error)
            self._waiting = next(self._sound, None)

    def close(self) -> None:
        """Finish what is written and give it its name."""
        try:
            for packet in self._video.encode(None):
                self._put(packet)
            self._mux_sound()
            self._container.close()
            if not self.path.suffix:
                _make_way(self.path)
            elif self._seal:
                self._seal(self._partial, self._sealed)
                self._sealed.replace(self._partial)
            self._partial.replace(self.path)
        except OSError as error:
            self.discard()
            raise self._named(error) from error
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Drop what was written."""
        if self.path.suffix:
            self._sealed.unlink(missing_ok=True)
            self._partial.unlink(missing_ok=True)  # first: closing would move all of it once more
        with suppress(OSError, av.error.FFmpegError):
            self._container.close()
        if not self.path.suffix:
            shutil.rmtree(self._partial, ignore_errors=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


def _require_pictures(path: Path) -> None:
    """Refuse to replace a folder that holds anything but numbered pictures."""
    other = next((p for p in path.iterdir() if not re.fullmatch(r"\d{6,}\.png", p.name)), None) if path.is_dir() else None
    if other is not None:
        raise InputError(f"{path} holds other files ({other.name}) and is not replaced; choose another --out")


def _make_way(path: Path) -> None:
    if path.is_dir():
        _require_pictures(path)
        shutil.rmtree(path)
