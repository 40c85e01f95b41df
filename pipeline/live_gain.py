"""How loud a live voice is: the factor that brings it to the common level."""

from __future__ import annotations

import logging
from collections import deque

import numpy as np

from lipwright.data.features import STEP_HZ, FeatureSettings
from lipwright.data.voice import loud_enough

log = logging.getLogger(__name__)

SPEECH_S = 2.0
"""After so much speech the gain is known, and stays."""

REMEMBERED_S = 30.0
"""Levels that the gain is estimated from until then."""


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
            self.gain_db = self._settings.gain_db(float(np.percentile(speech_db, 95)))
        self.is_known = len(speech_db) >= SPEECH_S * STEP_HZ
        if self.is_known:
            log.info("the gain is %.1f dB from now on", self.gain_db)
