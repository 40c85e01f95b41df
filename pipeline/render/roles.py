"""Who in the target is given what to say: each with a face, a voice, what moves the mouth, and what it is painted from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lipwright.data.audio import StoredSpeech
from lipwright.data.edits import closed_in_silence, with_gain
from lipwright.data.errors import FaceError, InputError
from lipwright.data.faces import SAME, WHICH, height_px
from lipwright.data.features import gain_for
from lipwright.data.landmarks import FaceTrack
from lipwright.data.mouth import MouthTrack, Speaker, aperture, load_track, measure_mouth, measure_speaker
from lipwright.pipeline.progress import Progress, told_as
from lipwright.pipeline.render.bank import Bank
from lipwright.pipeline.render.choose import paint_strength
from lipwright.pipeline.settings import RenderSettings

log = logging.getLogger(__name__)

NEVER_OPEN = 0.05
"""Footage whose widest aperture is less has no open mouth to paint from."""

LOOKED_AT = 200
"""Frames that tell whether two tracks are of the same face."""

One = Path | str
Each = One | Mapping[str, One]
"""A path, or one for each face."""


@dataclass(frozen=True)
class Script:
    """What was given for one person: which face it is, and the paths.

    Attributes
    ----------
    face
        One of `lipwright.data.faces.WHICH`; None: the largest.
    audio, model, mouth, bank
        As in `render_video`.
    """

    face: str | None
    audio: Path
    model: Path | None
    mouth: Path | None
    bank: Path | None

    @property
    def paths(self) -> list[Path]:
        """All that was given."""
        return [path for path in (self.audio, self.model, self.mouth, self.bank) if path is not None]


def scripts_of(
    audio: Each, model: Each | None = None, mouth: Each | None = None, bank: Each | None = None, face: str | None = None
) -> list[Script]:
    """Put together what was given for each person.

    Raises
    ------
    InputError
        They do not fit together.
    """
    faces: list[str | None] = [face] if not isinstance(audio, Mapping) else list(audio)
    if isinstance(audio, Mapping) and face is not None:
        raise InputError("give either one sound and a face, or a sound for each face, not both")
    for given in (audio, model, mouth, bank):
        named = set(given) if isinstance(given, Mapping) else set()
        if unknown := named - set(faces if isinstance(audio, Mapping) else []):
            raise InputError(f"there is something for the face {sorted(unknown)[0]}, but no sound; give it one")
    if unknown := {f for f in faces if f is not None} - set(WHICH):
        raise InputError(f"{sorted(unknown)[0]} is no face; name one of {', '.join(WHICH)}")
    scripts = []
    for which in faces:
        sound, run, track, other = (_of(given, which) for given in (audio, model, mouth, bank))
        if run is not None and track is not None:
            raise InputError("give either a model or a mouth track to render with, not both")
        assert sound is not None
        scripts.append(Script(which, sound, run, track, other))
    return scripts


def _of(given: Each | None, face: str | None) -> Path | None:
    one = given.get(face or "") if isinstance(given, Mapping) else given
    return None if one is None else Path(one)


@dataclass(frozen=True)
class Role:
    """One person's part in a render.

    Attributes
    ----------
    face
        Which of the target's faces; None: the largest.
    track
        That face through the target.
    mouth
        What it is to do.
    bank
        What it is painted from.
    speaks : ndarray, shape (T,), bool
        On the 100 Hz grid, whether this person speaks.
    """

    face: str | None
    track: FaceTrack
    mouth: MouthTrack
    bank: Bank
    speaks: np.ndarray

    @property
    def name(self) -> str:
        """What the painting follows from, beside the target and the mouth."""
        return f"{self.face}-{self.bank.file.stem}"


def motion_of(
    script: Script, samples: StoredSpeech, device: str, progress: Progress | None = None
) -> Callable[[Speaker, str], MouthTrack]:
    """Return what gives a person, of a video with a hash, the mouth to paint; what is wrong with its files is told at once.

    How loud the samples are is measured now: silence may be added to them before the mouth is asked for.
    """
    if script.mouth is not None:
        own = load_track(script.mouth)
        return lambda speaker, _: own.on(speaker)
    from lipwright.pipeline.predict import feature_settings, foreign_model, load_model, own_speaker, predict_mouth

    lipsync = load_model(script.model, device)
    gain = gain_for(samples, feature_settings(lipsync))

    def predict(speaker: Speaker, sha256: str) -> MouthTrack:
        if warning := foreign_model(lipsync, speaker, sha256):
            log.warning("%s", warning)
        # As `export` writes it, to the last digit: once it is edited, only what the edits change is painted again.
        said = predict_mouth(lipsync, samples, own_speaker(lipsync), gain=gain, progress=told_as(progress, "predict"))
        return said.as_written().on(speaker)

    return predict


def speaker_of(track: FaceTrack, path: Path) -> Speaker:
    """Measure the person whose mouth is painted; `FaceError` if nobody is there."""
    if not track.found.any():
        raise FaceError(f"{path} shows no face in any of its {len(track.found)} frames; nothing to paint a mouth on")
    return measure_speaker(measure_mouth(track))


def require_paintable(track: FaceTrack, bank: Bank, path: Path) -> None:
    """Raise `FaceError` if a face looks away throughout."""
    pose = track.pose[track.found]
    if not (paint_strength(pose, bank) > 0).any():
        yaw, pitch = np.median(np.abs(pose.angles_deg()), 0)
        raise FaceError(
            f"{path} shows the face turned away throughout (by {yaw:.0f}° to the side, {pitch:.0f}° up or down); "
            "give a video in which the person looks towards the camera"
        )


def require_open(role: Role, times_s: np.ndarray, source: Path) -> None:
    """Raise `FaceError` if the footage shows no open mouth, but the mouth is to open at some of the times (F,)."""
    blocks = [role.mouth.at(times_s[k : k + 1000]) for k in range(0, len(times_s), 1000)]
    asked = np.concatenate([aperture(xyz[valid]) for xyz, valid in blocks])
    require_reach(role.bank, float(np.percentile(asked, 90)) if len(asked) else 0.0, source)


def require_reach(bank: Bank, wide: float, source: Path) -> None:
    """Raise `FaceError` if the footage shows no open mouth, but the mouth is to open so wide."""
    seen = aperture(bank.mouths).max()
    if seen < NEVER_OPEN and seen < wide / 2:
        raise FaceError(
            f"{source} never shows the mouth open (by {seen:.2f} eye distances at most, {wide:.2f} is asked for); "
            "give --bank a video in which the same person talks"
        )


def require_apart(tracks: dict[str | None, FaceTrack], path: Path) -> None:
    """Raise `FaceError` if two tracks follow the same face."""
    (one, first), *others = tracks.items()
    for other, second in others:
        both = np.flatnonzero(first.found & second.found)
        both = both[:: max(1, len(both) // LOOKED_AT)]
        a, b = first.points[both], second.points[both]
        apart = np.linalg.norm((a - b)[..., :2].mean(1), axis=-1) / height_px(a)
        if len(both) and np.median(apart) < SAME:
            raise FaceError(f"{path} shows one face where {one} and {other} were asked for; give it one sound")


def controlled(mouth: MouthTrack, settings: RenderSettings, speaks: np.ndarray) -> MouthTrack:
    """Return the mouth as the settings ask for it."""
    if settings.mouth_gain != 1:
        mouth = with_gain(mouth, settings.mouth_gain)
    return closed_in_silence(mouth, speaks) if settings.closed_in_silence else mouth
