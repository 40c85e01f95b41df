"""Corpus → sequences: what a network hears, and what it shall say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from lipwright.data.corpus import Corpus
from lipwright.data.errors import CorpusError
from lipwright.data.features import STEP_HZ
from lipwright.data.mouth import LEAST_SCALE, Speaker
from lipwright.models.lipsync import LipSync

LEAST_DATA_S = 10.0
"""With less to train on, nothing is kept for validation."""

LEAST_VALID_STEPS = STEP_HZ
"""A span with less than a second of visible mouth teaches nothing and judges nothing."""


@dataclass(frozen=True)
class Sequence:
    """One span of one clip, ready for the network: `features` (T, D), relative `shapes` (T, K, 3), `valid` (T,)."""

    features: np.ndarray
    shapes: np.ndarray
    valid: np.ndarray
    speaker: Speaker


def load_sequences(corpus: Corpus) -> tuple[list[Sequence], list[Sequence], float]:
    """Read the spans to train on and to validate on, and the mean scale of their speakers.

    Raises
    ------
    CorpusError
        The corpus holds no usable clip, or a clip is missing or broken.
    """
    if not corpus.usable:
        reasons = "; ".join(sorted({str(row["reason"]) for row in corpus.rows})[:2]) or "it is empty"
        raise CorpusError(f"{corpus.folder} holds nothing to train on: {reasons}")
    clips = [(row, corpus.load_clip(row["id"])) for row in corpus.usable]
    tracks = [clip.mouth_track() for _, clip in clips]
    scales = [t.speaker.scale for t in tracks if t.speaker.scale is not None]
    if not scales:
        raise CorpusError(f"{corpus.folder}: nobody speaks in it (apertures vary by less than {LEAST_SCALE})")
    mean_scale = float(np.mean(scales))
    train: list[Sequence] = []
    held_out: list[Sequence] = []
    for (row, clip), track in zip(clips, tracks, strict=True):
        if not np.isfinite(clip.features).all():
            raise CorpusError(f"clip {row['id']} holds features that are not numbers; run lipwright preprocess again")
        shapes = track.speaker.normalise(track.xyz, mean_scale)
        if not np.isfinite(shapes).all():
            raise CorpusError(f"clip {row['id']} holds a mouth that is not numbers; run lipwright preprocess again")
        for part, where in (("train", train), ("validation", held_out)):
            if (span := row["split"][part]) is not None:
                start, end = (round((second - row["start_s"]) * STEP_HZ) for second in span)
                cut = slice(start, end)
                if track.valid[cut].sum() >= LEAST_VALID_STEPS:
                    where.append(Sequence(clip.features[cut], shapes[cut], track.valid[cut], track.speaker))
    if not train:
        raise CorpusError(f"{corpus.folder} shows less than a second of mouth to train on; add longer footage")
    if sum(len(s.features) for s in train) < LEAST_DATA_S * STEP_HZ:
        return train + held_out, [], mean_scale
    return train, held_out, mean_scale


def arrays(model: LipSync, sequence: Sequence) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what a sequence teaches: standardised features (T, D), coefficients (T, P) and validity (T,)."""
    features, shapes = (torch.from_numpy(a).to(model.feature_mean) for a in (sequence.features, sequence.shapes))
    return model.standardise(features).cpu().numpy(), model.project(shapes).cpu().numpy(), sequence.valid
