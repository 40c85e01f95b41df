"""A judged video over time: how far the mouth opens, and how far off each judge is, as charts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lipwright.data.features import STEP_HZ
from lipwright.data.mouth import aperture
from lipwright.pipeline.charts import course
from lipwright.pipeline.excerpts import loudness_of
from lipwright.pipeline.page import file_name

if TYPE_CHECKING:
    from lipwright.pipeline.evaluate import Take

DRAWN_S = 60
"""So much is drawn of the opening of the mouth; of the error, all."""

DRAWN_EVERY = 2
"""Steps: 50 points a second."""

MOST_POINTS = 300
"""Of the error, a second each, or longer."""

PIXELS_A_SECOND = 50
"""Of the opening, at least; what is wider than the page scrolls."""


@dataclass(frozen=True)
class Curves:
    """A video over time.

    Attributes
    ----------
    path, length_s
        The video's.
    valid : ndarray, shape (T,), bool
        Where the mouth was measured, 100 steps a second.
    opening : dict of ndarray
        The aperture, ``measured`` and of the ``model``, every second step of the first minute.
    loudness : ndarray
        The sound's level at the same steps.
    distance : dict of ndarray, shape (T,)
        Mean distance of the 40 points to the measured ones, by judge.
    """

    path: str
    length_s: float
    valid: np.ndarray
    opening: dict[str, np.ndarray]
    loudness: np.ndarray
    distance: dict[str, np.ndarray]

    @classmethod
    def of(cls, take: Take) -> Curves:
        """Measure a video that was judged."""
        valid, truth = take.measured.valid, take.measured.xyz[:]
        steps = slice(0, DRAWN_S * STEP_HZ, DRAWN_EVERY)
        return cls(
            str(take.media.path),
            len(valid) / STEP_HZ,
            valid,
            {"measured": aperture(truth[steps]), "model": aperture(take.mouths["model"][steps])},
            np.pad(loudness_of(take.samples), (0, len(valid)))[: len(valid)][steps],
            {who: np.linalg.norm(mouth - truth, axis=-1).mean(-1).astype(np.float32) for who, mouth in take.mouths.items()},
        )

    def drawn(self) -> str:
        """Draw both, under the video's name."""
        seen = self.valid[: DRAWN_S * STEP_HZ : DRAWN_EVERY]
        opened = course(self.opening, seen, DRAWN_EVERY / STEP_HZ, loudness=self.loudness, what="opening of the mouth")
        every = max(STEP_HZ, -(-len(self.valid) // MOST_POINTS))
        distance, known = self._averaged(every)
        order = {who: distance[who] for who in ("mean_mouth", "ridge", "model")}
        error = course(order, known, every / STEP_HZ, what="mean distance of the 40 points")
        wide = round(PIXELS_A_SECOND * min(self.length_s, DRAWN_S))
        return (
            f'<h3>{file_name(self.path)}</h3>\n<p class="note key"><i class="measured"></i>measured<i class="model"></i>model'
            f'<i class="ridge"></i>ridge<i class="mean_mouth"></i>mean mouth</p>\n'
            f'<div class="wide" tabindex="0"><div style="min-width:{wide}px">{opened}</div></div>\n'
            f'<div class="wide low">{error}</div>'
        )

    def _averaged(self, every: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return the mean distances of so many steps each, and where there are any."""
        starts = np.arange(0, len(self.valid), every)
        counts = np.add.reduceat(self.valid.astype(float), starts)
        means = {
            who: np.add.reduceat(np.where(self.valid, distance, 0), starts) / np.maximum(counts, 1)
            for who, distance in self.distance.items()
        }
        return means, counts > 0
