"""Sound as it comes in → a mouth as it moves: the offline prediction, as soon as enough has been heard for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from lipwright.data.articulation import CLASSES
from lipwright.data.audio import SAMPLE_RATE_HZ
from lipwright.data.features import HOP, STEP_HZ, FeatureSettings, compute_features, frame_energy_db
from lipwright.data.landmarker import BLENDSHAPE_NAMES
from lipwright.data.mouth import POINTS, Speaker, aperture, protrusion, width
from lipwright.data.pcm import LOUDEST
from lipwright.models.errors import ModelError
from lipwright.models.lipsync import Heard, LipSync, Said
from lipwright.pipeline.blendshapes import TOLD, TOLD_NAMES, shapes_of_lips
from lipwright.pipeline.live_gain import LiveGain
from lipwright.pipeline.predict import base_model, feature_settings, load_model
from lipwright.pipeline.visemes import HOLD_S, LATER_S, HeldVisemes, VisemeSet

AT_ONCE = 2
"""Steps are predicted so many together: each run through the network costs (docs/streaming.md)."""

MOST_AT_ONCE = 10 * SAMPLE_RATE_HZ
"""Samples: more are heard in parts."""

BEFORE = 3
"""Steps of sound that are kept: a step's windows, and those of the step before, which its differences are taken from."""


@dataclass(frozen=True)
class LiveSteps:
    """Some steps of a live mouth.

    Attributes
    ----------
    times_s : ndarray, shape (n,), float64
        When these mouths belong, on the clock of the sound: 0 is its first sample.
    xyz : ndarray, shape (n, 40, 3), float32
        In the speaker's face space.
    blendshapes : ndarray, shape (n, 52), float32
        ARKit's, in [0, 1], in MediaPipe's order, if they were asked for.
    visemes : tuple of str
        What is shown, n names, if they were asked for.
    """

    times_s: np.ndarray
    xyz: np.ndarray
    blendshapes: np.ndarray | None = None
    visemes: tuple[str, ...] | None = None

    @property
    def aperture(self) -> np.ndarray:
        """How far the mouth opens, (n,), in units of face space."""
        return aperture(self.xyz)

    @property
    def width(self) -> np.ndarray:
        """Distance of the corners of the mouth, (n,), in units of face space."""
        return width(self.xyz)

    @property
    def protrusion(self) -> np.ndarray:
        """How far the middle of the lips stands before the corners, (n,), in units of face space."""
        return protrusion(self.xyz)

    def rows(self, speaker: Speaker, *, points: bool = False) -> list[dict[str, Any]]:
        """Return the steps as JSON values (`docs/streaming.md`).

        Parameters
        ----------
        speaker
            Whose mouth it is: `LiveMouth.speaker`.
        points
            With the 40 points.
        """
        opening = self.aperture
        columns = {
            "t": self.times_s,
            "aperture": opening,
            "openness": speaker.openness(opening),
            "width": self.width,
            "protrusion": self.protrusion,
        }
        if self.visemes is not None:
            columns["viseme"] = np.array(self.visemes)
        if points:
            columns["points"] = self.xyz
        listed = [_rounded(values) for values in columns.values()]
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*listed, strict=True)]
        if self.blendshapes is not None:
            for row, told in zip(rows, _rounded(self.blendshapes[:, TOLD]), strict=True):
                row["blendshapes"] = dict(zip(TOLD_NAMES, told, strict=True))
        return rows


def _rounded(values: np.ndarray) -> list[Any]:
    return np.round(values.astype(np.float64), 5).tolist() if values.dtype.kind == "f" else values.tolist()


class Listener:
    """A model that hears step by step, and remembers where it is.

    Parameters
    ----------
    lipsync
        With a bounded look-ahead.
    """

    def __init__(self, lipsync: LipSync) -> None:
        self.lipsync, self.settings = lipsync, feature_settings(lipsync)
        self._state: Heard | None = None

    @property
    def silence(self) -> np.ndarray:
        """What is to be heard after the end, (`delay_steps`, D), for all to be said."""
        return self.lipsync.silence.cpu().numpy()[None].repeat(self.lipsync.config.delay_steps, 0)

    def hear(self, features: np.ndarray) -> Said:
        """Hear the next steps (T, D), none too; return what can be said now."""
        if not len(features):
            config = self.lipsync.config
            shapes = ((0, config.points, 3), (0, config.blendshapes), (0, config.phones))
            return Said(*(np.zeros(shape, np.float32) for shape in shapes))
        said, self._state = self.lipsync.step(features, self._state)
        return said


class LiveMouth:
    """A mouth that moves with sound as it comes in.

    What it says is `lipwright.pipeline.predict.predict_mouth` of all the sound at the same gain, however it is cut into pieces.
    Memory does not grow with time. One thread at a time may use it.

    Parameters
    ----------
    model
        Model folder, or a model that was read; None is the base model. It must not hear the whole clip (`lookahead_ms` null).
    gain_db
        Brings the voice to the common level; None: found from the first two seconds of speech (`LiveGain`).
    speaker
        Whose mouth it is to be; None: the model's mean mouth.
    blendshapes
        Say these too: the model's where it was trained on footage, else by the mouth's outline.
    visemes
        A set to say these of, each for 60 ms at least. They come from the sounds that the base model tells apart, which then
        hears beside another model, and 10 ms later than the mouth (`lipwright.pipeline.visemes.LATER_S`).
    device
        Where the model runs.

    Attributes
    ----------
    lipsync : LipSync
        The model.
    speaker : Speaker
        With the model's range of opening where the person does not speak.
    lookahead_s : float
        How far steps are behind the sound; up to 10 ms more, since `AT_ONCE` steps are said together, where pieces are short.

    Raises
    ------
    ModelError
        The folder cannot be used, or the model hears the whole clip.

    Examples
    --------
    >>> mouth = LiveMouth()
    >>> steps = mouth.push(np.zeros(16000, np.float32))
    >>> steps.xyz.shape[1:]
    (40, 3)
    """

    def __init__(
        self,
        model: Path | str | LipSync | None = None,
        *,
        gain_db: float | None = None,
        speaker: Speaker | None = None,
        blendshapes: bool = False,
        visemes: VisemeSet | None = None,
        device: str = "cpu",
    ) -> None:
        lipsync = model if isinstance(model, LipSync) else load_model(None if model is None else Path(model), device)
        config = lipsync.config
        if config.lookahead_ms is None:
            named = "this model" if isinstance(model, LipSync) else model
            raise ModelError(
                f"{named} hears the whole clip before it says anything; train one with --direction both or forward to stream"
            )
        self.lipsync = lipsync
        self._mouth = Listener(lipsync)
        self.speaker = speaker or Speaker(lipsync.neutral.cpu().numpy(), config.scale)
        if self.speaker.scale is None:
            self.speaker = replace(self.speaker, scale=config.scale)
        self.gain = LiveGain(self._mouth.settings, gain_db)
        self.lookahead_s = config.lookahead_ms / 1000
        self._blendshapes, self._visemes = blendshapes, visemes
        self._teller = self._mouth if config.phones == len(CLASSES) else None
        if visemes is not None:
            self._teller = self._teller or Listener(base_model())
            self._held = HeldVisemes(len(visemes.names), round(HOLD_S * STEP_HZ), round(LATER_S * STEP_HZ))
            told_ms = self._teller.lipsync.config.lookahead_ms or 0
            self.lookahead_s = max(self.lookahead_s, told_ms / 1000 + LATER_S)
        reach_ms = max(each.settings.reach_ms for each in (self._mouth, self._teller or self._mouth))
        self._reach = round(reach_ms * SAMPLE_RATE_HZ / 1000)  # samples that a step hears after its middle
        self._threads = ThreadpoolController()  # once: it looks through all libraries of the process
        self._kept = np.zeros(0, np.float32)
        self._kept_from = 0  # step at whose middle the kept samples begin
        self._heard = 0  # samples
        self._next = 0  # step that features are to be computed of
        self._ended = False
        self._said = 0  # steps that were handed out
        self._xyz = np.zeros((0, POINTS, 3), np.float32)  # mouths that wait for their visemes,
        self._shapes = np.zeros((0, len(BLENDSHAPE_NAMES)), np.float32)  # their blendshapes,
        self._chosen = np.zeros(0, np.int64)  # and visemes that wait for their mouths

    def push(self, samples: np.ndarray) -> LiveSteps:
        """Hear the next samples.

        Parameters
        ----------
        samples : ndarray, shape (N,), float32
            16 kHz mono, in [−1, 1]; any number, none too. What is not a number is heard as silence.

        Returns
        -------
        LiveSteps
            The steps that can be said now: those up to `lookahead_s` and 10 ms ago.

        Raises
        ------
        ValueError
            They are not one-dimensional, or the sound has ended (`finish`).
        """
        if samples.ndim != 1:
            raise ValueError(f"Expected mono samples of shape (N,), got {samples.shape = }.")
        if self._ended:
            raise ValueError("The sound has ended; another one needs another LiveMouth.")
        samples = samples.astype(np.float32)
        samples = np.clip(np.where(np.isfinite(samples), samples, np.float32(0)), -LOUDEST, LOUDEST)
        for start in range(0, len(samples), MOST_AT_ONCE):
            part = samples[start : start + MOST_AT_ONCE]
            self._kept = np.concatenate([self._kept, part])
            self._heard += len(part)
            ready = max((self._heard - self._reach) // HOP + 1, 0)  # steps whose windows have been heard
            if ready - self._next >= AT_ONCE:
                self._listen(ready)
        return self._take()

    def finish(self) -> LiveSteps:
        """Hear that nothing more comes: return the last steps, up to the end of the sound; a second time, none."""
        if not self._ended and self._heard:
            self._listen(1 + self._heard // HOP)
            self._hear(lambda listener: listener.silence)
            if self._visemes is not None:
                self._chosen = np.concatenate([self._chosen, self._held.finish()])
        self._ended = True
        return self._take()

    def _listen(self, end: int) -> None:
        """Compute the features of the steps up to `end`, and hear them."""
        steps = (self._next - self._kept_from, end - self._kept_from)
        if steps[0] == steps[1]:
            return
        if not self.gain.is_known:
            self.gain.hear(frame_energy_db(self._kept, self._mouth.settings)[slice(*steps)])

        @cache
        def features(settings: FeatureSettings) -> np.ndarray:
            return compute_features(self._kept, settings, gain=self.gain.factor, steps=steps)

        self._hear(lambda listener: features(listener.settings))
        self._next = end
        kept_from = max(end - BEFORE, 0)
        self._kept = self._kept[(kept_from - self._kept_from) * HOP :]
        self._kept_from = kept_from

    def _hear(self, heard_by: Callable[[Listener], np.ndarray]) -> None:
        """Let the networks hear the next features: from what they say come mouths, and what goes with them."""
        with self._threads.limit(limits=1):
            said = self._mouth.hear(heard_by(self._mouth))
            xyz = self.speaker.place(said.shapes, self.lipsync.config.scale).astype(np.float32)
            self._xyz = np.concatenate([self._xyz, xyz])
            if self._blendshapes:
                own = np.where(TOLD, said.blendshapes, 0) if self.lipsync.config.blendshapes else None
                shapes = shapes_of_lips(aperture(xyz), width(xyz), self.speaker) if own is None else own
                self._shapes = np.concatenate([self._shapes, shapes.astype(np.float32)])
            if self._visemes is not None and self._teller is not None:
                told = said if self._teller is self._mouth else self._teller.hear(heard_by(self._teller))
                chosen = self._held.push(self._visemes.favoured(told.sounds))
                self._chosen = np.concatenate([self._chosen, chosen])

    def _take(self) -> LiveSteps:
        """Hand out the mouths that wait for nothing more."""
        n = len(self._xyz) if self._visemes is None else min(len(self._xyz), len(self._chosen))
        times_s = (self._said + np.arange(n)) / STEP_HZ
        steps = LiveSteps(
            times_s,
            self._xyz[:n],
            self._shapes[:n] if self._blendshapes else None,
            None if self._visemes is None else tuple(self._visemes.names[k] for k in self._chosen[:n]),
        )
        self._said += n
        self._xyz, self._shapes, self._chosen = self._xyz[n:], self._shapes[n:], self._chosen[n:]
        return steps
