"""A render in spans: runs of frames that are painted and encoded each by itself, and kept under what they were made from.

So no work is done twice: a render that was killed goes on where it was, and one with another edit paints what the edit changes.
Both give the very frames that an undisturbed render gives, since no span knows what was done before it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import chain, groupby
from math import floor
from operator import itemgetter
from pathlib import Path
from typing import NoReturn

import numpy as np
from threadpoolctl import threadpool_limits

from lipwright.data import cache
from lipwright.data.ahead import ahead
from lipwright.data.encoder import Encoding, Layer, Packets, encode
from lipwright.data.errors import InputError
from lipwright.data.files import whole_file
from lipwright.data.landmarks import TRACKER_VERSION
from lipwright.data.media import Media, Yuv
from lipwright.data.mouth import LIPS
from lipwright.data.player import Player
from lipwright.data.threads import trim_heap
from lipwright.pipeline.progress import Progress
from lipwright.pipeline.render.composite import Painted
from lipwright.pipeline.render.painting import outside_difference, painted_frames
from lipwright.pipeline.render.retime import Plan
from lipwright.pipeline.render.roles import Role
from lipwright.pipeline.render.views import BLUE, ORANGE, draw_label, draw_lips, half_size, mouth_layer
from lipwright.pipeline.settings import RenderSettings

SPAN_VERSION = "2"
"""Part of what a kept span is named by: raised when the same mouths would be painted or encoded otherwise."""

MARGIN = 25
"""Frames before and after a span that have a say in which windows are chosen in it, so that neighbours choose alike."""

AHEAD = 8
"""Frames that may be painted before they are encoded."""


@dataclass(frozen=True)
class Span:
    """A finished span.

    Attributes
    ----------
    packets
        Its encoded pictures.
    outside_max_abs
        Greatest difference to the target outside the masks, levels.
    mask_shares : ndarray, shape (P,), float32
        The mask's share of the face, of each painting.
    painted
        It was made now, and not kept from before.
    """

    packets: Packets
    outside_max_abs: int
    mask_shares: np.ndarray
    painted: bool = False

    @staticmethod
    def load(path: Path) -> Span | None:
        """Read a span; None if there is no whole one."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            arrays = load_file(path)
            worst, shares = int(arrays.pop("outside_max_abs")[0]), arrays.pop("mask_shares")
            packets = Packets(**arrays)
        except (OSError, SafetensorError, LookupError, TypeError):
            return None
        count = len(packets.pts)
        whole = count and len(packets.ends) == len(packets.key) == count and packets.ends[-1] == len(packets.data)
        return Span(packets, worst, shares) if whole else None

    def save(self, path: Path) -> None:
        """Write the span, whole or not at all; `OSError` names the file."""
        from safetensors.numpy import save

        own = {"outside_max_abs": np.array([self.outside_max_abs]), "mask_shares": self.mask_shares}
        try:
            with whole_file(path) as partial:
                partial.write_bytes(save(vars(self.packets) | own))
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error


@dataclass(frozen=True)
class _Shown:
    """A frame on its way: as it is now, each painting with the pixels of its unit of face space, and what it did outside."""

    picture: Yuv
    painted: tuple[tuple[Painted, float], ...] = ()
    outside_max_abs: int = 0


@dataclass(frozen=True, eq=False)
class _Given:
    """What a span follows from: its place in the plan, its PTS, each role's mouths (F, 40, 3) around it, and where valid."""

    first: int
    end: int
    ticks: list[int]
    around: slice
    mouths: list[tuple[np.ndarray, np.ndarray]]
    key: str

    @property
    def inside(self) -> slice:
        """Which of the frames around are the span's own."""
        return slice(self.first - self.around.start, self.end - self.around.start)


@dataclass(frozen=True)
class Film:
    """All that a render's frames follow from.

    Attributes
    ----------
    media, sha256
        The target.
    plan
        Which of its frames is shown when.
    start_s
        When in the plan's time the output begins.
    roles
        Who is given what mouth.
    encoding
        Of the output.
    settings
        How it is to be shown.
    """

    media: Media
    sha256: str
    plan: Plan
    start_s: Fraction
    roles: Sequence[Role]
    encoding: Encoding
    settings: RenderSettings

    def spans(self, progress: Progress | None = None) -> Generator[Span]:
        """Yield the spans in order: those that are kept, and the others as they are made."""
        with (
            threadpool_limits(1),  # the arrays are small: more threads would wait for each other, and for the encoder's
            closing(ahead(self._work(), AHEAD)) as work,
        ):
            for given, items in groupby(work, key=itemgetter(0)):
                first = next(items)[1]
                if isinstance(first, Path):
                    span = Span.load(first) or _gone(first)
                else:
                    frames = chain([first], (frame for _, frame in items if isinstance(frame, _Shown)))
                    span = self._encode(given, frames, progress)
                if progress:
                    progress("render", given.end, len(self.plan))
                yield span

    def _work(self) -> Iterator[tuple[_Given, Path | _Shown]]:
        """Yield where each span is kept, or its painted frames."""
        with Player(self.media, self.roles[0].track.pts) as player:
            for first in range(0, len(self.plan), self.encoding.span_frames):
                given = self._given(first)
                file = _file(given.key)
                for item in [file] if Span.load(file) else self._painted(given, player):
                    yield given, item

    @cached_property
    def _fingerprint(self) -> str:
        return self.encoding.fingerprint()

    def _given(self, first: int) -> _Given:
        end = min(first + self.encoding.span_frames, len(self.plan))
        around = slice(max(first - MARGIN, 0), min(end + MARGIN, len(self.plan)))
        times_s = self.plan.times_s[around]
        mouths, ticks = [role.mouth.at(times_s) for role in self.roles], self._ticks(first, end)
        head = {
            "version": [SPAN_VERSION, TRACKER_VERSION],
            "target": self.sha256,
            "roles": [role.name for role in self.roles],
            "encoding": self._fingerprint,
            "view": [self.settings.preview, self.settings.overlay, self.settings.alpha, self.settings.label],
            "ticks": ticks,
        }
        content = hashlib.sha256(json.dumps(head).encode())
        for values in chain([self.plan.frames[around]], *mouths):
            content.update(values.tobytes())
        return _Given(first, end, ticks, around, mouths, content.hexdigest())

    def _ticks(self, first: int, end: int) -> list[int]:
        # Halves upwards, all of them: of a coarse clock, no two frames may fall onto one tick.
        times = ((self.plan.time(k) - self.start_s) / self.encoding.time_base for k in range(first, end))
        return [max(0, floor(time + Fraction(1, 2))) for time in times]

    def _painted(self, given: _Given, player: Player) -> Iterator[_Shown]:
        rows = self.plan.frames[given.around]
        shown: Iterator[_Shown] = (_Shown(player(int(index)).yuv()) for index in rows[given.inside])
        for role, (mouths, valid) in zip(self.roles, given.mouths, strict=True):
            shown = _paint(shown, role, rows, mouths, valid, given.inside)
        yield from self._drawn_over(shown, given, rows) if self.settings.overlay else shown

    def _drawn_over(self, shown: Iterable[_Shown], given: _Given, rows: np.ndarray) -> Iterator[_Shown]:
        for k, each in enumerate(shown, given.inside.start):
            picture = each.picture
            for role, (mouths, valid) in zip(self.roles, given.mouths, strict=True):
                pose = role.track.pose[rows[k : k + 1]]
                unit = float(pose.scale[0])
                if not np.isfinite(unit):
                    continue
                picture = draw_lips(picture, role.track.points[int(rows[k])][LIPS, :2], BLUE, unit)
                if valid[k]:
                    picture = draw_lips(picture, pose.to_pixels(mouths[k])[0, :, :2], ORANGE, unit)
            yield replace(each, picture=picture)

    def _encode(self, given: _Given, frames: Iterable[_Shown], progress: Progress | None) -> Span:
        worst = 0
        shares: list[float] = []

        def pictures() -> Iterator[tuple[Yuv | Layer, int]]:
            nonlocal worst
            for k, (frame, ticks) in enumerate(zip(frames, given.ticks, strict=True), given.first + 1):
                worst = max(worst, frame.outside_max_abs)
                shares.extend(painted.mask_share for painted, _ in frame.painted)
                picture = mouth_layer(frame.picture, frame.painted) if self.settings.alpha else frame.picture
                picture = half_size(picture) if self.settings.preview else picture
                yield draw_label(picture) if self.settings.label and isinstance(picture, Yuv) else picture, ticks
                if progress:
                    progress("render", k, len(self.plan))

        span = Span(encode(self.encoding, pictures()), worst, np.array(shares, np.float32), painted=True)
        span.save(_file(given.key))
        trim_heap()  # pictures that are held and let go in two threads leave holes, more with every span
        return span


def _gone(file: Path) -> NoReturn:
    raise InputError(f"{file} was there and is not any more; render again")


def _file(key: str) -> Path:
    return cache.cached_path("spans", f"{key}.safetensors")


def _paint(
    shown: Iterable[_Shown], role: Role, rows: np.ndarray, mouths: np.ndarray, valid: np.ndarray, inside: slice
) -> Iterator[_Shown]:
    """Paint one role's mouth onto frames."""
    current: list[_Shown] = []

    def pictures() -> Iterator[Yuv]:
        for each in shown:
            current[:] = [each]
            yield each.picture

    results = painted_frames(pictures(), role.track, rows, mouths, valid, role.bank, inside=inside)
    for result, row in zip(results, rows[inside], strict=True):
        each = current[0]
        if isinstance(result, Painted):
            worst = max(each.outside_max_abs, outside_difference(each.picture, result))
            unit = float(role.track.pose.scale[row])
            each = _Shown(result.picture, (*each.painted, (result, unit)), worst)
        yield each
