"""What an export writes down: one mouth, measured or predicted, with all that is known beside it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from lipwright.data.audio import Speech, StoredSpeech
from lipwright.data.features import STEP_HZ
from lipwright.data.landmarks import FaceTrack
from lipwright.data.media import Media
from lipwright.data.mouth import MouthTrack
from lipwright.models.lipsync import LipSync
from lipwright.pipeline.visemes import Cue, VisemeSet, cues_of, judge_sounds, tell_sounds


@dataclass(frozen=True)
class Take:
    """A mouth and its sound.

    Attributes
    ----------
    media
        The video or sound that it is from.
    mouth
        On the 100 Hz grid.
    face
        Where the mouth was measured: the whole face.
    lipsync
        Where it was predicted: the model,
    samples : Speech, shape (N,)
        and the sound at 16 kHz. That of a video is read when it is asked for: a curve is measured whatever it sounds like.
    """

    media: Media
    mouth: MouthTrack
    face: FaceTrack | None = None
    lipsync: LipSync | None = None
    samples: Speech | None = None

    @property
    def steps(self) -> int:
        """Steps of the grid."""
        return len(self.mouth.valid)

    @property
    def duration_s(self) -> float:
        """Time of the last step: the length of the sound, or of a video's picture, cut to 10 ms."""
        return max(self.steps - 1, 1) / STEP_HZ

    @property
    def rate(self) -> Fraction | None:
        """Frames a second of the video that it was measured in."""
        return self.media.need_video().average_rate if self.face is not None else None

    @property
    def name(self) -> str:
        """The source's full path, as text: what is not Unicode or a control character becomes ``�``."""
        text = os.fsencode(self.media.path.absolute()).decode("utf-8", "replace")
        return "".join(c if c.isprintable() or c == " " else "�" for c in text)

    @cached_property
    def sounds(self) -> np.ndarray:
        """Probabilities of the classes of sounds, (T, C)."""
        samples = self.samples
        if samples is None and self.media.audio is not None:
            samples = StoredSpeech(self.media)
        heard = None if samples is None else tell_sounds(samples, self.steps)
        return judge_sounds(heard, None if self.face is None else self.mouth)

    def cues(self, viseme_set: VisemeSet) -> list[Cue]:
        """Return what is shown when, of a set of visemes."""
        return cues_of(viseme_set, self.sounds)
