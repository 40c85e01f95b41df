"""Model or mouth track + target video + sound → the target's video, lip-synced."""

from __future__ import annotations

import resource
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from math import ceil, floor
from pathlib import Path
from typing import Any

import numpy as np

from lipwright.data.audio import SAMPLE_RATE_HZ, StoredSpeech
from lipwright.data.cache import prune
from lipwright.data.encoder import Encoding
from lipwright.data.errors import InputError, require_new
from lipwright.data.features import FeatureSettings
from lipwright.data.landmarks import face_track
from lipwright.data.media import Media, file_sha256, probe
from lipwright.data.mix import Mix
from lipwright.data.voice import find_speech
from lipwright.data.writer import VideoWriter, codec_for
from lipwright.pipeline.progress import Progress, stoppable, told_as
from lipwright.pipeline.provenance import sealer_for, synthetic_tags
from lipwright.pipeline.render.reading import bank_for
from lipwright.pipeline.render.retime import Plan, play_in_order, retime
from lipwright.pipeline.render.roles import (
    Each,
    Role,
    controlled,
    motion_of,
    require_apart,
    require_open,
    require_paintable,
    scripts_of,
    speaker_of,
)
from lipwright.pipeline.render.spans import Film
from lipwright.pipeline.render.views import half_of
from lipwright.pipeline.settings import Credentials, RenderSettings

PREVIEW_S = 10.0
"""Length of a preview."""

MICROSECONDS = 1_000_000
"""Times are given in decimals: 3.2 s is meant exactly, and as a float it is a little more."""


def render_video(
    target: Path | str,
    audio: Each,
    out: Path | str,
    *,
    settings: RenderSettings | None = None,
    model: Each | None = None,
    mouth: Each | None = None,
    bank: Each | None = None,
    face: str | None = None,
    credentials: Credentials | None = Credentials(),
    device: str = "cpu",
    force: bool = False,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> dict[str, Any]:
    """Make a target video say what an audio file says.

    What has been painted is kept in the cache, span by span: a render that was interrupted goes on where it was, and one
    with other `edits` in its mouth track paints only what they change.

    Parameters
    ----------
    target
        Video whose face is given a new mouth. Shorter than the sound, it plays forth and back; longer, it is cut. Where its
        head moves in pauses, frames are held or skipped (`lipwright.pipeline.render.retime`).
    audio
        Any file with an audio stream; it is written as it is given. Or, where several people speak, one for each face, by
        which of `lipwright.data.faces.WHICH` it is, such as ``{"left": …, "right": …}``; their mix is written.
    out
        Video to make: .mp4, .m4v, .mov or .mkv.
    settings
        How it is rendered.
    model, mouth
        What moves the mouth: a model folder, or a mouth track file, not both; without either, the base model. One for all
        faces, or one for each.
    bank
        Footage of the same person to take mouths from; by default the target itself.
    face
        Which of several faces is given the mouth; by default the largest.
    credentials
        What signs the output's content credentials, which say that it is synthetic, what was changed and from what it was made.
        None leaves them out; what the metadata say stays. MP4 and MOV hold them, and they need the extra ``provenance``.
    device
        Where the model runs.
    force
        Replace `out` if it exists.
    progress
        Called with (what, done, in all).
    cancel
        Set it from another thread to stop.

    Returns
    -------
    dict
        ``out``, ``frames``, ``painted`` (those of them that were not kept from an earlier render), ``seconds``,
        ``elapsed_s``, ``tracking_s``, ``bank_s``, ``frames_per_s`` (of painting and encoding), ``peak_rss_mb``,
        ``outside_max_abs``, ``mask_share``, ``synthetic``;
        ``credentials`` (signed, test certificate, or None), ``signer`` (whose certificate), ``unsigned`` (why nobody signs).

    Raises
    ------
    InputError
        A file or a setting cannot be used, or the target shows no face.
    OutputExistsError
        `out` exists and `force` is false.
    ModelError
        The model folder cannot be used.
    Cancelled
        `cancel` was set. Nothing half-written is left.
    """
    began = time.perf_counter()
    target, out, settings = Path(target), Path(out), settings or RenderSettings()
    progress = stoppable(progress, cancel)
    scripts = scripts_of(audio, model, mouth, bank, face)
    _require_valid(settings)
    inputs = [target, *(path for script in scripts for path in script.paths)]
    _require_writable(out, inputs + (credentials.paths if credentials else []), settings, force)
    sealer = sealer_for(out, credentials)
    media, sounds = probe(target), [probe(script.audio) for script in scripts]
    speeches = [StoredSpeech(sound) for sound in sounds]
    length = max(len(speech) for speech in speeches)
    start_s, end_s = _span_of(settings, media, length / SAMPLE_RATE_HZ)
    motions = [motion_of(script, speech, device, progress) for script, speech in zip(scripts, speeches, strict=True)]
    spoken = [find_speech(speech, FeatureSettings()) for speech in speeches]
    for speech in speeches:
        speech.extend(length)  # who has said all that they have to say is silent
    spoken = [np.pad(speaks, (0, max(map(len, spoken)) - len(speaks))) for speaks in spoken]

    sha256, tracking = file_sha256(target), time.perf_counter()
    stages = [f" {script.face}" if len(scripts) > 1 else "" for script in scripts]
    tracks = {
        script.face: face_track(media, which=script.face, sha256=sha256, progress=told_as(progress, f"track{stage}"))
        for script, stage in zip(scripts, stages, strict=True)
    }
    tracking_s, banking = time.perf_counter() - tracking, time.perf_counter()
    require_apart(tracks, target)
    roles = []
    for script, speaks, motion in zip(scripts, spoken, motions, strict=True):
        track = tracks[script.face]
        said = controlled(motion(speaker_of(track, target), sha256), settings, speaks)
        faces = bank_for(media, track, sha256, script.bank, progress=progress)
        roles.append(Role(script.face, track, said, faces, speaks))
        require_paintable(track, faces, target)
    bank_s = time.perf_counter() - banking

    plan = _plan(media, roles, settings, Fraction(length, SAMPLE_RATE_HZ), start_s, end_s)
    for role, script in zip(roles, scripts, strict=True):
        require_open(role, plan.times_s, script.bank or target)
    encoding = _encoding(media, out, settings)
    painting, worst, shares, painted = time.perf_counter(), 0, [], 0
    film = Film(media, sha256, plan, start_s, roles, encoding, settings)
    part = settings.start_s is not None or settings.end_s is not None or settings.preview
    with (
        VideoWriter(
            out,
            encoding,
            audio=sounds[0] if len(sounds) == 1 else Mix(sounds),
            audio_span_s=(start_s, end_s) if part else None,
            tags=synthetic_tags(),
            seal=sealer.seal(target, sha256, scripts, end_s - start_s, settings, progress),
        ) as writer,
        closing(film.spans(progress)) as spans,
    ):
        for span in spans:
            writer.append(span.packets)
            worst = max(worst, span.outside_max_abs)
            shares.append(span.mask_shares)
            painted += len(span.packets.pts) if span.painted else 0
    prune("spans")  # not before: what is left of a render that was killed is for the next one
    elapsed = time.perf_counter() - painting
    mask_shares = np.concatenate(shares)
    return {
        "out": str(out),
        "frames": len(plan),
        "painted": painted,
        "seconds": round(float(end_s - start_s), 3),
        "elapsed_s": round(time.perf_counter() - began, 3),
        "bank_s": round(bank_s, 3),
        "tracking_s": round(tracking_s, 3),
        "frames_per_s": round(len(plan) / elapsed, 2),
        "peak_rss_mb": round(
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024), 1
        ),
        "outside_max_abs": worst,
        "mask_share": round(float(mask_shares.mean()), 4) if len(mask_shares) else 0.0,
        "synthetic": True,
        **sealer.told,
    }


def _require_valid(settings: RenderSettings) -> None:
    try:
        settings.check()
    except ValueError as error:
        raise InputError(str(error)) from None


def _require_writable(out: Path, inputs: list[Path], settings: RenderSettings, force: bool) -> None:
    """Refuse an output that cannot be made, or is an input."""
    require_new(out, force)
    if out.exists() and any(out.samefile(path) for path in inputs if path.exists()):
        raise InputError(f"{out} is an input; choose another --out")
    codec_for(out, alpha=settings.alpha)
    if out.suffix and out.is_dir():
        raise InputError(f"{out} is a folder; choose another --out")


def _span_of(settings: RenderSettings, media: Media, length_s: float) -> tuple[Fraction, Fraction]:
    """Return from when to when the sound is rendered, seconds; the start is one of the target's ticks."""
    start_s = settings.start_s or 0.0
    end_s = min(length_s, np.inf if settings.end_s is None else settings.end_s)
    if settings.preview:
        end_s = min(end_s, start_s + PREVIEW_S)
    if start_s >= end_s:
        raise InputError(f"the sound ends at {length_s:.2f} s, before the start at {start_s:g} s; give an earlier --start")
    start, end = (Fraction(time).limit_denominator(MICROSECONDS) for time in (start_s, end_s))
    if start:
        tick = media.need_video().time_base
        start = floor((start + media.zero) / tick) * tick - media.zero
    return start, end


def _plan(
    media: Media, roles: list[Role], settings: RenderSettings, length_s: Fraction, start_s: Fraction, end_s: Fraction
) -> Plan:
    """Choose which frame of the target is shown when, and of these take the ones that are seen from the start to the end."""
    if settings.retime and not settings.alpha:  # a layer must fit the target as its editor has it
        plan = retime(media, [(role.track, role.speaks) for role in roles], length_s)
    else:
        plan = play_in_order(media, roles[0].track.pts, length_s)
    first, end = (int(np.searchsorted(plan.ticks, ceil((time + plan.zero) / plan.time_base))) for time in (start_s, end_s))
    if start_s and (first == len(plan) or plan.time(first) > start_s):
        first = max(first - 1, 0)  # on the screen when it starts
    shown = slice(first, max(end, first + 1))
    return replace(plan, frames=plan.frames[shown], ticks=plan.ticks[shown])


def _encoding(media: Media, out: Path, settings: RenderSettings) -> Encoding:
    """Choose what the output is encoded as: the target's size, clock, rate and codec, unless told otherwise."""
    video = media.need_video()
    if settings.preview:
        width, height = half_of(video.width, video.height)
        video = replace(video, width=width, height=height)
    codec = codec_for(out, alpha=settings.alpha) or settings.codec
    return Encoding.like(video, codec=codec, crf=settings.crf, preset=settings.preset)
