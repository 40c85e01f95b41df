"""Moments of judged videos that a model does best and worst, and a film of each: source, result and drawn lips abreast."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from lipwright.data.encoder import Encoding
from lipwright.data.features import STEP_HZ
from lipwright.data.landmarks import FaceTrack
from lipwright.data.media import Media, Yuv
from lipwright.data.mouth import LIPS, MouthTrack
from lipwright.data.writer import VideoWriter
from lipwright.pipeline.excerpts import SPEECH_DB, loudness_of
from lipwright.pipeline.provenance import synthetic_tags
from lipwright.pipeline.render.bank import Bank
from lipwright.pipeline.render.views import BLUE, ORANGE, cut_square, draw_lips
from lipwright.pipeline.result import Shown, results

MOMENT_S = 3

LEAST_SEEN = 0.8
"""The mouth is seen for so much of a moment."""

LEAST_SPOKEN = 0.5
"""Somebody speaks for so much of it: a mouth that rests is easy."""

PANEL_PX = 288
"""Height and width of a panel."""

AROUND = 1.25
"""A panel shows the face and a quarter more."""

BELOW = 0.1
"""So much, of half a panel, stays below the chin."""

PANELS = ("source", "result: synthetic", "lips over it: synthetic")
STRIP_PX = 24
"""Height of the words above each panel."""

FILM_CRF = 26
WHITE, BLACK = 235, 16


@dataclass(frozen=True)
class Moment:
    """Three seconds of a judged video.

    Attributes
    ----------
    media, sha256, track
        The video.
    start_s
        On its clock.
    lmd
        Mean distance of the model's 40 points to the measured ones, units of face space.
    said
        The model's mouth around it.
    """

    media: Media
    sha256: str
    track: FaceTrack
    start_s: float
    lmd: float
    said: MouthTrack

    @property
    def rows(self) -> np.ndarray:
        """Which frames of the video it has, (F,) int64."""
        first, end = np.searchsorted(self.track.times_s, (self.start_s, self.start_s + MOMENT_S))
        return np.arange(first, end)


def moments_of(
    media: Media, sha256: str, track: FaceTrack, samples: np.ndarray, distance: np.ndarray, valid: np.ndarray, said: MouthTrack
) -> list[Moment]:
    """Cut a video into moments, and keep those in which the mouth is seen, and speaks.

    Parameters
    ----------
    media, sha256, track
        The video.
    samples : ndarray, shape (N,)
        Its sound, 16 kHz mono.
    distance : ndarray, shape (T,)
        Mean distance of the model's points to the measured ones.
    valid : ndarray, shape (T,), bool
        Where they were measured.
    said
        The model's mouth.
    """
    found = []
    loudness = loudness_of(samples)[: len(valid)]
    spoken = loudness > 10 ** (SPEECH_DB / 20) * np.percentile(loudness, 95) if len(loudness) else loudness > 0
    steps = MOMENT_S * STEP_HZ
    for start in range(0, len(valid) - steps + 1, steps):
        part = slice(start, start + steps)
        seen = valid[part]
        if seen.mean() >= LEAST_SEEN and spoken[part].sum() >= LEAST_SPOKEN * steps:
            own = slice(max(start - 10, 0), start + steps + 10)  # a little more: frames stand between steps
            piece = replace(said, xyz=said.xyz[own].copy(), valid=said.valid[own], start_s=said.times_s[own.start])
            moment = Moment(media, sha256, track, start / STEP_HZ, float(distance[part][seen].mean()), piece)
            if len(moment.rows) > 1:
                found.append(moment)
    return found


def film(moment: Moment, bank: Bank) -> bytes:
    """Return a moment as an MP4 file: what was filmed, what the model makes of it, and that with lips drawn over it.

    Drawn in orange is what the model says, in blue what was filmed. The sound is the video's.
    """
    media, track, rows = moment.media, moment.track, moment.rows
    video = media.need_video()
    square, words, size = _square(track, rows), _words(), (len(PANELS) * PANEL_PX, PANEL_PX + STRIP_PX)
    encoding = replace(Encoding.like(video, codec="h264", crf=FILM_CRF), width=size[0], height=size[1])
    begin = int(track.pts[rows[0]]) * video.time_base - media.zero
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "moment.mp4"
        with VideoWriter(path, encoding, audio=media, audio_span_s=(begin, begin + MOMENT_S), tags=synthetic_tags()) as writer:
            for shown in results(media, track, bank, moment.said, rows):
                panels = [cut_square(picture, *square, PANEL_PX) for picture in _views(shown, moment)]
                abreast = (np.hstack(planes) for planes in zip(*(vars(panel).values() for panel in panels), strict=True))
                heads = vars(words).values()  # above: players lay their controls over the foot
                writer.write(Yuv(*map(np.vstack, zip(heads, abreast, strict=True))), shown.time - begin)
        return path.read_bytes()


def _views(shown: Shown, moment: Moment) -> Iterator[Yuv]:
    yield shown.source
    yield shown.result
    points, pose = moment.track.points[shown.row], moment.track.pose[np.array([shown.row])]
    drawn, unit = shown.result, float(pose.scale[0])
    if np.isfinite(unit):
        mouth, known = moment.said.at(moment.track.times_s[shown.row : shown.row + 1])
        drawn = draw_lips(drawn, points[LIPS, :2], BLUE, unit)
        if known[0]:
            drawn = draw_lips(drawn, pose.to_pixels(mouth)[0, :, :2], ORANGE, unit)
    yield drawn


def _square(track: FaceTrack, rows: np.ndarray) -> tuple[int, int, int]:
    """Return a square round the face through all the frames, inside the picture: left, top and edge, even."""
    points = np.concatenate([track.points[rows[k : k + 50]][..., :2] for k in range(0, len(rows), 50)])
    low, high = np.nanmin(points, (0, 1)), np.nanmax(points, (0, 1))
    limit = np.array([track.width, track.height]) // 2 * 2
    half = int(min(AROUND * (high - low).max() / 2, *(limit // 2)))
    corner = (low + high) / 2 - half
    corner[1] = max(corner[1], high[1] + BELOW * half - 2 * half)  # of a face that fills the picture rather the chin
    left, top = np.clip(corner, 0, limit - 2 * half).astype(int) // 2 * 2
    return int(left), int(top), 2 * half


def _words() -> Yuv:
    """Write what each panel is, white on black, to stand above them."""
    strip = np.full((STRIP_PX, len(PANELS) * PANEL_PX), BLACK, np.uint8)
    for k, words in enumerate(PANELS):
        at = (k * PANEL_PX + 8, STRIP_PX - 8)
        cv2.putText(strip, words, at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, WHITE, 1, cv2.LINE_AA)
    grey = np.full((STRIP_PX // 2, strip.shape[1] // 2), 128, np.uint8)
    return Yuv(strip, grey, grey)
