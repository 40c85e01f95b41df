"""Videos → what would come of them, and why, before any work is spent: a look here and there, and the whole sound."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lipwright.data.audio import SAMPLE_RATE_HZ, Speech, StoredSpeech
from lipwright.data.errors import InputError
from lipwright.data.faces import height_px, in_front
from lipwright.data.features import STEP_HZ, FeatureSettings
from lipwright.data.keyframes import frame_times, read_keyframes
from lipwright.data.landmarker import BLENDSHAPES, POINTS, Landmarker, find_small, model_path
from lipwright.data.landmarks import FaceTrack, face_track, track_faces
from lipwright.data.media import Media, probe, rate_of
from lipwright.data.mouth import LONGEST_GAP_S
from lipwright.data.segments import (
    FLAWS,
    HIDDEN,
    LEAST_FACE_PX,
    LEAST_S,
    NO_FACE,
    SEVERAL,
    SMALL,
    TURNED,
    find_segments,
    usable_frames,
)  # fmt: skip
from lipwright.data.shots import small_bgr
from lipwright.data.sync import Lag
from lipwright.data.voice import Levels, find_other_sound, find_speech, measure_levels
from lipwright.pipeline.intake import CORRECTED_FROM_S, LEAST_CORRECTED_MS, QUIETEST_DB, measure_lag
from lipwright.pipeline.preprocess import find_sources
from lipwright.pipeline.progress import Progress

USABLE, IN_PART, NOT_USABLE = "usable", "in part", "not usable"

WHOLE_S = 30.0
"""A shorter video is tracked whole."""

LOOKS = 100
"""Of a longer one, so many key frames are looked at …"""

WINDOWS, WINDOW_S = 4, 4.5
"""… and so many stretches are tracked, two at a time, where there is most speech."""

OTHER_COLOURS = 0.3
"""Bhattacharyya distance of colours from which one picture is of another shot than the one before: 0.2 at most without a cut,
on twelve clips, 0.46 to 0.9 with one."""

RARE = 0.02
"""What is wrong for less of the time is not worth a word."""

CLIPPED_AT = 0.985
MOST_CLIPPED = 1e-3
"""Share of samples at full scale from which speech sounds broken."""

LEAST_ABOVE_NOISE_DB = 20.0
LEAST_TREBLE_DB = -40.0
LEAST_SPEECH = 0.3
ENOUGH_S = 20.0
"""With less of one's own footage, a model knows little more than the base model."""

ADVICE = {
    NO_FACE: "those moments are left out",
    TURNED: "those moments are left out; film from the front",
    SMALL: f"a face needs {LEAST_FACE_PX} pixels from hairline to chin; give a larger picture",
    HIDDEN: "those moments are left out; film with nothing before the mouth",
    SEVERAL: "say which one with preprocess --face largest, left, right or track",
}


@dataclass(frozen=True)
class Look:
    """What was seen of a video.

    Attributes
    ----------
    track
        Some of its frames, or all.
    whole
        Whether it is all.
    faces
        How many count, in most pictures.
    cuts
        So many at least.
    span_s
        From the first frame of the video to the last.
    """

    track: FaceTrack
    whole: bool
    faces: int
    cuts: int
    span_s: tuple[float, float]

    def spans(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the times from which and up to which each frame of the track stands for its neighbourhood, (F,) each."""
        times_s, (start, end) = self.track.times_s, self.span_s
        middles = (times_s[1:] + times_s[:-1]) / 2
        return np.array([start, *middles]), np.array([*middles, end])

    def share(self, which: np.ndarray) -> float:
        """Return the share of the time that frames (F,) bool stand for."""
        starts, ends = self.spans()
        return float((ends - starts)[which].sum() / max(self.span_s[1] - self.span_s[0], 1e-6))


def check_videos(videos: Iterable[Path | str], *, progress: Progress | None = None) -> dict[str, Any]:
    """Say of videos whether `preprocess_corpus` could use them, and what is wrong with them.

    Parameters
    ----------
    videos
        Files, or folders of them.
    progress
        Called with ("check", videos done, videos in all).

    Returns
    -------
    dict
        ``clips``: for each video its ``path``, a ``verdict`` (usable, in part, not usable), ``reasons``, ``advice``, the
        ``ranges`` in seconds that can be used, and what was measured; ``elapsed_s``.

    Raises
    ------
    InputError
        An input does not exist, or there is no video among them.
    """
    began = time.perf_counter()
    sources = find_sources([Path(v) for v in videos])
    model_path()  # say that the landmark model is missing before any work is done
    clips = []
    for count, source in enumerate(sources, 1):
        clips.append(check_video(source.path))
        if progress:
            progress("check", count, len(sources))
    return {"clips": clips, "elapsed_s": round(time.perf_counter() - began, 3)}


def check_video(path: Path) -> dict[str, Any]:
    """Check one video; as `check_videos`, one clip."""
    began = time.perf_counter()
    clip: dict[str, Any] = {
        "path": str(path),
        "verdict": NOT_USABLE,
        "reasons": [],
        "advice": [],
        "ranges": [],
        "face_rate": None,
        "lag_ms": None,
        "lag_confidence": None,
    }
    try:
        _check(path, clip)
    except InputError as error:
        clip["reasons"].append(str(error).removeprefix(f"{path} "))
    return clip | {"elapsed_s": round(time.perf_counter() - began, 3)}


def _check(path: Path, clip: dict[str, Any]) -> None:
    """Fill in what is found out about a video."""
    media = probe(path)
    video = media.need_video()
    times_s = frame_times(media)
    if len(times_s) == 0:
        raise InputError(f"{path} holds no frames")
    rate = rate_of(times_s)
    shown_s = float(times_s[-1] - times_s[0])
    clip |= {
        "seconds": round(shown_s, 3),
        "width": video.width,
        "height": video.height,
        "rotation_deg": 90 * video.quarter_turns,
        "rate": "variable" if rate is None else str(rate),
        "average_rate": round((len(times_s) - 1) / shown_s, 3) if shown_s else None,
        "video_codec": video.codec,
        "video_start_s": round(float(video.start - media.zero), 3),
    }
    settings = FeatureSettings()
    samples, levels, speech = None, None, np.zeros(int(times_s[-1] * STEP_HZ) + 1, bool)
    other = speech
    if media.audio is not None:
        clipped = heard = 0

        def count(block: np.ndarray) -> None:
            nonlocal clipped, heard
            clipped += int((np.abs(block) >= CLIPPED_AT).sum())
            heard += block.size

        samples = StoredSpeech(media, count)
        levels, other = measure_levels(samples, settings), find_other_sound(samples, settings)
        speech = find_speech(samples, settings) & ~other
        clip["other_sound_share"] = round(float(other.mean()), 3)
        clip |= _hear(media, samples, clipped / heard, levels, speech)
    look = _look(media, times_s, speech)
    clip |= _see(look)
    lag = None
    if samples is not None and levels is not None and levels.loud_db >= QUIETEST_DB:
        lag, _ = measure_lag(samples, other, look.track)
        if lag is not None:
            clip |= {"lag_ms": lag.lag_ms, "lag_confidence": lag.confidence}
    _judge(clip, look, shown_s, levels, lag)


def _hear(media: Media, samples: Speech, clipped: float, levels: Levels, speech: np.ndarray) -> dict[str, Any]:
    """Say what the sound is like."""
    audio = media.need_audio()
    return {
        "audio_codec": audio.codec,
        "audio_rate_hz": audio.rate_hz,
        "channels": audio.channels,
        "audio_start_s": round(float(audio.start - media.zero), 3),
        "audio_seconds": round(len(samples) / SAMPLE_RATE_HZ, 3),
        "loud_db": round(levels.loud_db, 1),
        "noise_db": round(levels.noise_db, 1),
        "treble_db": round(levels.treble_db, 1),
        "clipped_share": round(clipped, 6),
        "speech_share": round(float(speech.mean()), 3),
    }


# The picture ----------------------------------------------------------------------------------------------------------


def _look(media: Media, times_s: np.ndarray, speech: np.ndarray) -> Look:
    """Track a short video; look at key frames of a longer one, and track a few stretches of it."""
    span_s = float(times_s[0]), float(times_s[-1])
    looks, faces, cuts = _look_at_keyframes(media, (span_s[1] - span_s[0]) / LOOKS)
    if span_s[1] - span_s[0] <= WHOLE_S:
        track = face_track(media)
        return Look(track, True, faces, len(track.shots) - 1, span_s)
    good = usable_frames(looks)[0]
    spans = [
        (start_s, end_s)
        for start_s, end_s in _windows(times_s, speech, looks.times_s, good)
        if ((times_s >= start_s) & (times_s < end_s)).any()  # a recording may pause for longer
    ]
    with ThreadPoolExecutor(2) as pool:  # MediaPipe and FFmpeg let go of the interpreter
        tracks = [*pool.map(lambda span: track_faces(media, within_s=span), spans), looks]
    order = np.argsort(np.concatenate([t.times_s for t in tracks]), kind="stable")
    # A key frame in a window is there twice: once as tracked.
    frames = order[np.unique(np.concatenate([t.pts for t in tracks])[order], return_index=True)[1]]

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(t, name) for t in tracks])[frames]

    seen = replace(
        looks,
        pts=joined("pts"),
        times_s=joined("times_s"),
        points=joined("points"),
        blendshapes=joined("blendshapes"),
        crowded=joined("crowded"),
        hidden=joined("hidden"),
    )
    return Look(seen, False, faces, max(cuts, sum(len(t.shots) - 1 for t in tracks)), span_s)


def _look_at_keyframes(media: Media, apart_s: float) -> tuple[FaceTrack, int, int]:
    """Find the faces of key frames: as a face track of the largest, how many count in most, and how many cuts there are."""
    import cv2

    video = media.need_video()
    before = None
    pts, times, points, counts, cuts = [], [], [], [], 0
    with Landmarker(still=True) as find:
        for frame in read_keyframes(media, apart_s):
            rgb = frame.rgb()
            faces, _ = find(rgb, float(frame.time))
            faces = in_front(faces if len(faces) else find_small(find, rgb))
            pts.append(frame.pts)
            times.append(float(frame.time))
            counts.append(len(faces))
            points.append(faces[height_px(faces).argmax()] if len(faces) else np.full((POINTS, 3), np.nan, np.float32))
            colours = cv2.calcHist([small_bgr(rgb)], [0, 1, 2], None, [8, 8, 8], [0, 256] * 3)
            cuts += before is not None and cv2.compareHist(before, colours, cv2.HISTCMP_BHATTACHARYYA) > OTHER_COLOURS
            before = colours
    n = len(pts)
    track = FaceTrack(
        pts=np.array(pts, np.int64),
        times_s=np.array(times),
        points=np.array(points, np.float32).reshape(-1, POINTS, 3),
        blendshapes=np.full((n, BLENDSHAPES), np.nan, np.float32),
        width=video.width,
        height=video.height,
        shots=np.zeros(1, np.int64),
        crowded=np.array(counts) > 1,
        hidden=np.zeros(n, bool),
    )
    return track, int(np.percentile(counts, 90)) if n else 0, cuts


def _windows(times_s: np.ndarray, speech: np.ndarray, looked_s: np.ndarray, good: np.ndarray) -> list[tuple[float, float]]:
    """Choose what to track: of each part of a video, the stretch with most speech and a face."""
    start_s, end_s = float(times_s[0]), float(times_s[-1])
    said = np.concatenate([[0], np.cumsum(speech)])
    spans = []
    for part in range(WINDOWS):
        first, last = (start_s + (end_s - start_s) * k / WINDOWS for k in (part, part + 1))
        starts = np.arange(first, last - WINDOW_S + 1e-6, 1.0)
        a, b = (np.clip(((starts + s) * STEP_HZ).astype(int), 0, len(speech)) for s in (0, WINDOW_S))
        score = (said[b] - said[a]) / STEP_HZ
        if len(looked_s):
            nearest = np.abs(looked_s[None] - (starts[:, None] + WINDOW_S / 2)).argmin(1)
            score = score + WINDOW_S * good[nearest]
        begin = float(starts[score.argmax()])
        spans.append((begin, begin + WINDOW_S))
    return spans


def _see(look: Look) -> dict[str, Any]:
    """Say what the faces are like."""
    track = look.track
    found = track.found
    clip = {
        "face_rate": round(look.share(found), 4),
        "faces": look.faces,
        "cuts": look.cuts,
        "looked_at": len(track.pts),
        "face_px": None,
        "yaw_deg": None,
        "pitch_deg": None,
    }
    if found.any():
        yaw, pitch = np.percentile(np.abs(track.pose[found].angles_deg()), 95, axis=0)
        clip |= {
            "face_px": round(float(np.median(height_px(track.points[found])))),
            "yaw_deg": round(float(yaw)),
            "pitch_deg": round(float(pitch)),
        }
    return clip


# The verdict ----------------------------------------------------------------------------------------------------------


def _judge(clip: dict[str, Any], look: Look, shown_s: float, levels: Levels | None, lag: Lag | None) -> None:
    """Fill in the verdict, the reasons, the ranges, and what to do."""
    reasons, advice = clip["reasons"], clip["advice"]
    usable, flaw = usable_frames(look.track)
    for k, name in enumerate(FLAWS):
        if (wrong := look.share(flaw == k)) > RARE:
            reasons.append(f"{name} in {wrong:.0%} of the time: {ADVICE[name]}")
    ranges = _ranges(look, usable)
    if levels is None:
        ranges = []
        reasons.append("no sound: it can be a target of render, but nothing is learned from it")
    elif levels.loud_db < QUIETEST_DB:
        ranges = []
        reasons.append(f"silent (loud moments at {levels.loud_db:.0f} dB): nothing is learned from it")
    else:
        heard_s = clip["audio_seconds"]
        if heard_s < look.track.times_s[-1] - 0.5:
            reasons.append(f"the sound ends at {heard_s:.1f} s, the picture at {look.track.times_s[-1]:.1f} s")
        ranges = [(a, min(b, heard_s)) for a, b in ranges if min(b, heard_s) - a >= LEAST_S]
        _advise_on_sound(clip, levels, advice)
    if (clip["average_rate"] or 0) < 1 / LONGEST_GAP_S:
        ranges = []
        reasons.append(f"{clip['average_rate'] or 0:.3g} frames a second: {1 / LONGEST_GAP_S:.1f} are needed to follow a mouth")
    clip["ranges"] = [[round(a, 2), round(b, 2)] for a, b in ranges]
    left_s = sum(b - a for a, b in ranges)
    clip["verdict"] = NOT_USABLE if not ranges else USABLE if left_s >= (1 - RARE) * shown_s - 0.5 else IN_PART
    if not ranges and not reasons:
        reasons.append(f"no face is seen for {LEAST_S:g} s in one shot")
    if ranges:
        _advise_on_use(clip, left_s, lag, advice)


def _ranges(look: Look, usable: np.ndarray) -> list[tuple[float, float]]:
    """Return the spans in seconds that can be used: exactly, or as far as looks tell."""
    times_s = look.track.times_s
    if look.whole:
        return [(float(times_s[s.first]), float(times_s[s.end - 1])) for s in find_segments(look.track) if s.reason is None]
    starts, ends = look.spans()
    spans: list[tuple[float, float]] = []
    for start, end in zip(starts[usable], ends[usable], strict=True):
        if spans and start - spans[-1][1] < 1e-6:
            spans[-1] = (spans[-1][0], float(end))
        else:
            spans.append((float(start), float(end)))
    return [(a, b) for a, b in spans if b - a >= LEAST_S]


def _advise_on_sound(clip: dict[str, Any], levels: Levels, advice: list[str]) -> None:
    if clip["clipped_share"] > MOST_CLIPPED:
        advice.append(f"{clip['clipped_share']:.1%} of the sound is clipped: record at a lower level")
    if levels.loud_db - levels.noise_db < LEAST_ABOVE_NOISE_DB:
        advice.append(f"speech is only {levels.loud_db - levels.noise_db:.0f} dB above the noise, or there is music under it")
    if levels.treble_db < LEAST_TREBLE_DB:
        advice.append("the sound has nothing above 3.6 kHz, like a telephone's: s and f are hard to tell")
    if clip["other_sound_share"] > RARE:
        advice.append(f"music or other sound, and no voice, in {clip['other_sound_share']:.0%} of the time: it is left out")
    if clip["speech_share"] < LEAST_SPEECH:
        advice.append(f"somebody speaks in {clip['speech_share']:.0%} of the time only")


def _advise_on_use(clip: dict[str, Any], left_s: float, lag: Lag | None, advice: list[str]) -> None:
    if left_s < ENOUGH_S:
        advice.append(f"{left_s:.0f} s can be used: a minute or two makes a better model")
    if lag is None:
        return
    if not lag.confident:
        advice.append("whether sound and picture belong together is not sure: is it dubbed, or under music?")
    elif abs(lag.lag_ms) > LEAST_CORRECTED_MS:
        late = "late" if lag.lag_ms > 0 else "early"
        mended = "preprocess puts it right" if left_s >= CORRECTED_FROM_S else "too short for preprocess to put it right"
        advice.append(f"the picture is {abs(lag.lag_ms):.0f} ms {late}: {mended}")
