"""Sound as it comes in → a mouth as it moves: the offline prediction, as soon as enough has been heard for it."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import ThreadpoolController

from lipwright.data.audio import SAMPLE_RATE_HZ
from lipwright.data.features import HOP, STEP_HZ, FeatureSettings, compute_features, frame_energy_db
from lipwright.data.mouth import Speaker, aperture, width
from lipwright.data.voice import loud_enough
from lipwright.models.errors import ModelError
from lipwright.models.lipsync import Heard
from lipwright.pipeline.predict import feature_settings, load_model

log = logging.getLogger(__name__)

AT_ONCE = 3
"""Steps are predicted so many together: each run through the network costs, and 20 ms more are not seen."""

BEFORE = 3
"""Steps of sound that are kept: a step's windows, and those of the step before, which its differences are taken from."""

SPEECH_S = 2.0
"""After so much speech the gain is known, and stays."""

REMEMBERED_S = 30.0
"""Levels that the gain is estimated from until then."""


@dataclass(frozen=True)
class LiveSteps:
    """Some steps of a live mouth.

    Attributes
    ----------
    times_s : ndarray, shape (n,), float64
        When these mouths belong, on the clock of the sound: 0 is its first sample.
    xyz : ndarray, shape (n, 40, 3), float32
        In the speaker's face space.
    """

    times_s: np.ndarray
    xyz: np.ndarray

    @property
    def aperture(self) -> np.ndarray:
        """How far the mouth opens, (n,), in units of face space."""
        return aperture(self.xyz)

    @property
    def width(self) -> np.ndarray:
        """Distance of the corners of the mouth, (n,), in units of face space."""
        return width(self.xyz)


class LiveGain:
    """The factor that brings a voice to the common level, found while it speaks.

    Until somebody has spoken for `SPEECH_S` it follows what has been heard; then it stays.

    Parameters
    ----------
    settings
        Of the features.
    gain_db
        Known beforehand: it does not change.
    """

    def __init__(self, settings: FeatureSettings, gain_db: float | None = None) -> None:
        self._settings = settings
        self._levels_db: deque[float] = deque(maxlen=round(REMEMBERED_S * STEP_HZ))
        self.gain_db = 0.0 if gain_db is None else gain_db
        self.is_known = gain_db is not None

    @property
    def factor(self) -> float:
        """What samples are multiplied by."""
        return float(10 ** (self.gain_db / 20))

    def hear(self, levels_db: np.ndarray) -> None:
        """Learn from the levels of the next steps, dB of full scale."""
        if self.is_known:
            return
        self._levels_db.extend(levels_db.tolist())
        heard_db = np.array(self._levels_db)
        speech_db = heard_db[loud_enough(heard_db)]
        if len(speech_db):
            loud_db = float(np.percentile(speech_db, 95))
            self.gain_db = min(self._settings.level_db - loud_db, self._settings.most_gain_db)
        self.is_known = len(speech_db) >= SPEECH_S * STEP_HZ
        if self.is_known:
            log.info("the gain is %.1f dB from now on", self.gain_db)


class LiveMouth:
    """A mouth that moves with sound as it comes in.

    What it says is `lipwright.pipeline.predict.predict_mouth` of all the sound at the same gain, however it is cut into pieces.
    Memory does not grow with time.

    Parameters
    ----------
    model
        Model folder; None is the base model. It must not hear the whole clip (`lookahead_ms` null).
    gain_db
        Brings the voice to the common level; None: found from the first two seconds of speech (`LiveGain`).
    speaker
        Whose mouth it is to be; None: the model's mean mouth.
    device
        Where the model runs.

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
        model: Path | str | None = None,
        *,
        gain_db: float | None = None,
        speaker: Speaker | None = None,
        device: str = "cpu",
    ) -> None:
        self._lipsync = load_model(None if model is None else Path(model), device)
        config = self._lipsync.config
        if config.lookahead_ms is None:
            raise ModelError(
                f"{model} hears the whole clip before it says anything; train one with --direction both (or forward) to stream"
            )
        self._settings = feature_settings(self._lipsync)
        self.speaker = speaker or Speaker(self._lipsync.neutral.cpu().numpy(), config.scale)
        self.gain = LiveGain(self._settings, gain_db)
        self.lookahead_s = config.lookahead_ms / 1000
        self._threads = ThreadpoolController()  # once: it looks through all libraries of the process
        self._kept = np.zeros(0, np.float32)
        self._kept_from = 0  # step at whose middle the kept samples begin
        self._heard = 0  # samples
        self._next = 0  # step that features are to be computed of
        self._said = 0  # steps
        self._state: Heard | None = None
        self._reach = round(self._settings.reach_ms * SAMPLE_RATE_HZ / 1000)  # samples that a step hears after its middle

    def push(self, samples: np.ndarray) -> LiveSteps:
        """Hear the next samples.

        Parameters
        ----------
        samples : ndarray, shape (N,), float32
            16 kHz mono, in [−1, 1]; any number, none too. What is not a number is heard as silence.

        Returns
        -------
        LiveSteps
            The steps that can be said now: those up to `lookahead_s` and 20 ms ago.

        Raises
        ------
        ValueError
            They are not one-dimensional.
        """
        if samples.ndim != 1:
            raise ValueError(f"Expected mono samples of shape (N,), got {samples.shape = }.")
        samples = np.clip(np.nan_to_num(samples.astype(np.float32), posinf=1, neginf=-1), -1, 1)
        self._kept = np.concatenate([self._kept, samples])
        self._heard += len(samples)
        ready = max((self._heard - self._reach) // HOP + 1, 0)  # steps whose windows have been heard
        return self._say(ready if ready - self._next >= AT_ONCE else self._next)

    def finish(self) -> LiveSteps:
        """Hear that nothing more comes: return the last steps, up to the end of the sound."""
        whole = 1 + self._heard // HOP
        said = [self._say(whole)]
        silence = self._lipsync.silence.cpu().numpy()[None].repeat(self._lipsync.config.delay_steps, 0)
        if len(silence):
            said.append(self._hear(silence))
        return LiveSteps(np.concatenate([s.times_s for s in said]), np.concatenate([s.xyz for s in said]))

    def _say(self, end: int) -> LiveSteps:
        """Compute the features of the steps up to `end`, and let the network hear them."""
        if end <= self._next:
            return LiveSteps(np.zeros(0), np.zeros((0, *self.speaker.neutral.shape), np.float32))
        steps = (self._next - self._kept_from, end - self._kept_from)
        with self._threads.limit(limits=1):
            if not self.gain.is_known:
                self.gain.hear(frame_energy_db(self._kept, self._settings)[slice(*steps)])
            features = compute_features(self._kept, self._settings, gain=self.gain.factor, steps=steps)
            said = self._hear(features)
        self._next = end
        kept_from = max(end - BEFORE, 0)
        self._kept = self._kept[(kept_from - self._kept_from) * HOP :]
        self._kept_from = kept_from
        return said

    def _hear(self, features: np.ndarray) -> LiveSteps:
        shapes, self._state = self._lipsync.step(features, self._state)
        times_s = (self._said + np.arange(len(shapes))) / STEP_HZ
        self._said += len(shapes)
        return LiveSteps(times_s, self.speaker.place(shapes, self._lipsync.config.scale).astype(np.float32))
