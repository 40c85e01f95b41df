"""Corpora → sequences: what a network hears, and what it shall say. They stand on disk: memory does not grow with them."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Several
from dataclasses import dataclass, replace

import numpy as np
import torch

from lipwright.data.articulation import CLASSES
from lipwright.data.augment import Variant, hush, vary
from lipwright.data.cache import cached_path, prune
from lipwright.data.corpus import Clip, Corpus
from lipwright.data.errors import CorpusError
from lipwright.data.features import HOP, STEP_HZ, FeatureSettings, compute_features, gain_for
from lipwright.data.files import whole_file
from lipwright.data.manifest import Row
from lipwright.data.mouth import LEAST_SCALE, Speaker, aperture, interpolate, measure_speaker
from lipwright.data.scratch import joined
from lipwright.models.lipsync import LipSync
from lipwright.models.metrics import LAG_REACH_STEPS
from lipwright.pipeline.pool import pooled
from lipwright.pipeline.processes import ALONE, Team
from lipwright.pipeline.settings import TrainSettings

log = logging.getLogger(__name__)

LEAST_DATA_S = 10.0
"""With less to train on, nothing is kept for validation."""

LEAST_VALID_STEPS = STEP_HZ
"""A span with less than a second of visible mouth teaches nothing and judges nothing."""

CLOSING_S = 0.2
"""What the mouth does so long before and after a hush sets in is left open."""

RESTING_SHARE = 0.05
"""The least open part of a speaker's time shows their face at rest."""

LEAST_HUSHED_S = 300.0
"""Of every clip there are versions with silences in it, and without any speech: of each kind, enough for so long in all."""

MOST_STEPS = 360_000
"""Of a longer corpus, an hour is enough to fit what is linear on, and to make versions of: they are heard the more often."""


@dataclass(frozen=True)
class Sequence:
    """One span of one clip, ready for the network.

    Attributes
    ----------
    features : ndarray, shape (T, D), float32
    shapes : ndarray, shape (T, 40, 3), float32
        Relative to the speaker.
    blendshapes : ndarray, shape (T, 52), float32
    valid : ndarray, shape (T,), bool
    speaker
    sound : ndarray, shape (N,), int16
        What the features were computed from, at 16 kHz; sample 0 stands at step 0. Empty where no versions will be made.
    phones : ndarray, shape (T, C), float32
        Which class of sound is heard, 1 in its column; C is 0 where nobody knows.
    weight
        How often a second of it is heard, against others.
    held_out
        Kept for validation.
    """

    features: np.ndarray
    shapes: np.ndarray
    blendshapes: np.ndarray
    valid: np.ndarray
    speaker: Speaker
    sound: np.ndarray
    phones: np.ndarray
    weight: float = 1.0
    held_out: bool = False


def load_sequences(*corpora: Corpus, team: Team = ALONE) -> tuple[list[Sequence], list[Sequence], float]:
    """Read the spans to train on and to validate on, and the mean scale of their speakers.

    Parameters
    ----------
    *corpora
        With the same features. A source that is in several of them counts in the first.
    team
        The first process of each machine reads, for all of them.

    Raises
    ------
    CorpusError
        A corpus holds no usable clip, or a clip is missing or broken; or machines see different corpora.
    """
    mean_scale = 0.0
    names = ", ".join(str(corpus.folder) for corpus in corpora)

    def spans() -> Iterator[Sequence]:
        nonlocal mean_scale
        for corpus in corpora:
            _require_usable(corpus)
        rows, twice = pooled(corpora)
        if twice:
            log.warning("%d sources are in several of the corpora, and count in the first of these alone", twice)
        speakers = _measure_speakers(rows)
        scales = [s.scale for s in speakers.values() if s.scale is not None]
        if not scales:
            raise CorpusError(f"{names}: nobody speaks in it (apertures vary by less than {LEAST_SCALE})")
        mean_scale = float(np.mean(scales))
        yield from _spans(rows, speakers, mean_scale)

    sequences, mean_scale = stored(spans(), team), team.told_here(mean_scale)
    heard = [[row["sha256"] for _, row in pooled(corpora)[0]], [len(s.features) for s in sequences]]
    if not team.agrees(hashlib.sha256(json.dumps(heard).encode()).hexdigest()):
        raise CorpusError(f"{names} holds other clips for some of the processes than for others; give every machine the same")
    train, held_out = ([s for s in sequences if s.held_out == part] for part in (False, True))
    if not train:
        raise CorpusError(f"{names} shows less than a second of mouth to train on; add longer footage")
    if sum(len(s.features) for s in train) < LEAST_DATA_S * STEP_HZ:
        return train + held_out, [], mean_scale
    return train, held_out, mean_scale


def _require_usable(corpus: Corpus) -> None:
    if not corpus.usable:
        if corpus.stale:
            raise CorpusError(f"{corpus.folder} was made with other settings; run lipwright preprocess again")
        reasons = "; ".join(sorted({str(row["reason"]) for row in corpus.rows})[:2]) or "it is empty"
        raise CorpusError(f"{corpus.folder} holds nothing to train on: {reasons}")
    if stale := {row["path"] for row in corpus.stale}:
        log.warning("%d videos were taken in with other settings and are left out; preprocess them again", len(stale))


def _measure_speakers(rows: list[tuple[Corpus, Row]]) -> dict[str, Speaker]:
    """Return the speaker of each source: a segment is too short to show how far a person opens the mouth."""
    sources = defaultdict(list)
    for corpus, row in rows:
        sources[row["sha256"]].append((corpus, row["id"]))
    speakers = {}
    for sha256, ids in sources.items():
        clips = (corpus.load_clip(clip_id) for corpus, clip_id in ids)
        (mouths,) = joined([clip.mouth[clip.valid]] for clip in clips)
        speakers[sha256] = measure_speaker(mouths)
    return speakers


def _spans(rows: list[tuple[Corpus, Row]], speakers: dict[str, Speaker], mean_scale: float) -> Iterator[Sequence]:
    """Read the spans of clips that are long enough, one clip at a time."""
    for corpus, row in rows:
        clip = corpus.load_clip(row["id"])
        track = clip.mouth_track(speakers[row["sha256"]])
        if not np.isfinite(clip.features).all():
            raise CorpusError(f"clip {row['id']} holds features that are not numbers; run lipwright preprocess again")
        shapes = track.speaker.normalise(track.xyz[:], mean_scale)
        if not np.isfinite(shapes).all():
            raise CorpusError(f"clip {row['id']} holds a mouth that is not numbers; run lipwright preprocess again")
        blendshapes = _blendshapes(clip)
        for part in ("train", "validation"):
            if (span := row["split"][part]) is not None:
                start, end = (round((second - row["start_s"]) * STEP_HZ) for second in span)
                cut = slice(start, end)
                if track.valid[cut].sum() >= LEAST_VALID_STEPS:
                    sound = clip.audio[start * HOP : end * HOP]
                    parts = (clip.features[cut], shapes[cut], blendshapes[cut], track.valid[cut])
                    silent = np.zeros((len(clip.features[cut]), 0), np.float32)
                    yield Sequence(*parts, track.speaker, sound, silent, held_out=part == "validation")


def stored(sequences: Iterable[Sequence], team: Team = ALONE) -> list[Sequence]:
    """Move the arrays of sequences to disk, one sequence after another; the first process of a machine goes through them."""
    lengths: list[list[int]] = []
    kept: list[Sequence] = []

    def pieces() -> Iterator[list[np.ndarray]]:
        for s in sequences:
            own = _arrays_of(s)
            lengths.append([len(array) for array in own])
            kept.append(_with_arrays(s, [array[:0].copy() for array in own]))
            yield own

    columns = team.joined(pieces())
    lengths, kept = team.told_here((lengths, kept))
    ends = np.cumsum(lengths, axis=0).tolist()
    return [
        _with_arrays(s, [column[end - n : end] for column, n, end in zip(columns, *cuts, strict=True)])
        for s, *cuts in zip(kept, lengths, ends, strict=True)
    ]


def _arrays_of(s: Sequence) -> list[np.ndarray]:
    return [s.features, s.shapes, s.blendshapes, s.valid, s.phones, s.sound]


def _with_arrays(s: Sequence, a: list[np.ndarray]) -> Sequence:
    return replace(s, features=a[0], shapes=a[1], blendshapes=a[2], valid=a[3], phones=a[4], sound=a[5])


def _samples(s: Sequence) -> np.ndarray:
    """Return the sound of a sequence, (N,) float32."""
    return s.sound / np.float32(32768)


def an_hour(sequences: Several[Sequence]) -> Several[Sequence]:
    """Return sequences of `MOST_STEPS` in all, drawn at random, always the same; their weights make up for the others."""
    lengths = np.array([len(s.features) for s in sequences])
    if lengths.sum() <= MOST_STEPS:
        return sequences
    drawn = np.random.default_rng(0).permutation(len(lengths))
    drawn = np.sort(drawn[: 1 + int(np.searchsorted(np.cumsum(lengths[drawn]), MOST_STEPS))])
    more = float(lengths.sum() / lengths[drawn].sum())
    return [replace(sequences[k], weight=more * sequences[k].weight) for k in drawn]


def _blendshapes(clip: Clip) -> np.ndarray:
    steps = np.arange(len(clip.features)) / STEP_HZ
    return interpolate(clip.times_s, clip.blendshapes, clip.valid, steps)[0]


def vary_sequence(sequence: Sequence, kinds: tuple[str, ...], settings: FeatureSettings, seed: int) -> Sequence:
    """Return a sequence as it sounds otherwise (`lipwright.data.augment.vary`); its features are cached."""
    sound = _samples(sequence)
    key = hashlib.sha256(sound.tobytes())
    key.update(json.dumps([settings.to_dict(), kinds, seed]).encode())
    path = cached_path("variants", f"{key.hexdigest()[:32]}.npz")
    try:
        with np.load(path, allow_pickle=False) as kept:
            features, tempo = kept["features"], float(kept["tempo"])
    except (OSError, ValueError, KeyError):
        heard: Variant = vary(sound, kinds, np.random.default_rng(seed))
        features = compute_features(heard.samples, settings, gain=gain_for(heard.samples, settings) * heard.gain)
        tempo = heard.tempo
        with whole_file(path) as partial, partial.open("wb") as file:
            np.savez(file, features=features, tempo=tempo)
        prune("variants")
    then = np.arange(len(features)) * tempo  # the steps of the sequence at which the variant's were spoken
    steps = np.arange(len(sequence.features), dtype=float)
    then = then[then <= steps[-1]]
    shapes, valid = interpolate(steps, sequence.shapes, sequence.valid, then, longest_gap_s=1)  # in steps: neighbours only
    blendshapes, phones = (
        interpolate(steps, series, sequence.valid, then, longest_gap_s=1)[0]
        for series in (sequence.blendshapes, sequence.phones)
    )
    return _with_arrays(sequence, [features[: len(then)], shapes, blendshapes, valid, phones, sequence.sound[:0]])


def hush_sequence(sequence: Sequence, settings: FeatureSettings, seed: int, *, whole: bool) -> Sequence:
    """Return a sequence in which speech gives way to silence or noise and the mouth closes (`lipwright.data.augment.hush`)."""
    samples, spans_s = hush(_samples(sequence), np.random.default_rng(seed), whole=whole)
    features = compute_features(samples, settings)[: len(sequence.features)]
    shapes, blendshapes, valid, phones = (
        series.copy() for series in (sequence.shapes, sequence.blendshapes, sequence.valid, sequence.phones)
    )
    opening = aperture(sequence.speaker.place(sequence.shapes, 1.0))
    resting = sequence.valid & (opening <= np.quantile(opening[sequence.valid], RESTING_SHARE))
    times_s = np.arange(len(features)) / STEP_HZ
    for start_s, end_s in spans_s:
        inner = times_s >= (start_s + CLOSING_S if start_s else 0)
        outer = times_s >= start_s - CLOSING_S
        if end_s < times_s[-1]:
            inner &= times_s <= end_s - CLOSING_S
            outer &= times_s <= end_s + CLOSING_S
        valid[outer] = False
        valid[inner] = True
        shapes[inner] = 0
        blendshapes[inner] = sequence.blendshapes[resting].mean(0)
        phones[inner] = np.arange(phones.shape[1]) == CLASSES.index("rest")
    return _with_arrays(sequence, [features, shapes, blendshapes, valid, phones, sequence.sound[:0]])


def heard_in_training(
    sequences: list[Sequence], settings: TrainSettings, features: FeatureSettings, team: Team = ALONE
) -> list[Sequence]:
    """Return sequences with what is only heard in training: varied speech, and hushes. Weights share out the time."""
    plain = 1 - settings.augmented_share * bool(settings.augment) - settings.hushed_share
    heard = [replace(s, weight=plain) for s in sequences if plain > 0]
    return heard + stored(_versions(sequences, settings, features), team)


def _versions(sequences: list[Sequence], settings: TrainSettings, features: FeatureSettings) -> Iterator[Sequence]:
    """Make varied and hushed versions of each sequence of a small corpus, of an hour of a larger one."""
    chosen = an_hour(sequences)
    hushes = math.ceil(LEAST_HUSHED_S * STEP_HZ / sum(len(s.features) for s in chosen))
    for number, s in enumerate(chosen):
        if settings.augment and settings.augmented_share:
            share = settings.augmented_share / settings.variants
            for k in range(settings.variants):
                varied = vary_sequence(s, settings.augment, features, seed=settings.variants * number + k)
                yield replace(varied, weight=s.weight * share)
        if settings.hushed_share:
            for whole in (False, True):
                for k in range(hushes):
                    hushed = hush_sequence(s, features, seed=hushes * number + k, whole=whole)
                    yield replace(hushed, weight=s.weight * settings.hushed_share / (2 * hushes))


def arrays(model: LipSync, sequence: Sequence) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what a sequence teaches.

    Returns
    -------
    features : ndarray, shape (T, D), float32
        Standardised.
    wanted : ndarray, shape (T, P + S + C), float32
        PCA coefficients of the mouth, then what else the model says: standardised blendshapes, classes of sounds.
    valid : ndarray, shape (T,), bool
    """
    features, shapes, blendshapes, phones = (
        torch.from_numpy(a).to(model.feature_mean)
        for a in (sequence.features, sequence.shapes, sequence.blendshapes, sequence.phones)
    )
    wanted = model.project(shapes)
    if model.config.blendshapes:
        wanted = torch.cat([wanted, (blendshapes - model.blendshape_mean) / model.blendshape_std], 1)
    if model.config.phones:
        wanted = torch.cat([wanted, phones], 1)
    return model.standardise(features).cpu().numpy(), wanted.cpu().numpy(), sequence.valid


def apertures(model: LipSync, sequences: Several[Sequence]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return how far mouths open as a model says and as measured, and where they were seen, (N,) each.

    Sequences lie end to end, each with `gap` after it.
    """
    parts = []
    for s in sequences:
        said, measured = (aperture(s.speaker.place(x, model.config.scale)) for x in (model.predict(s.features), s.shapes))
        parts.append([gap(series) for series in (said, measured, s.valid)])
    said, measured, valid = (np.concatenate(part) for part in zip(*parts, strict=True))
    return said, measured, valid


def gap(series: np.ndarray) -> np.ndarray:
    """Return a series (T,) with zeros after it, so that lags do not compare it with the next one."""
    return np.concatenate([series, np.zeros(LAG_REACH_STEPS, series.dtype)])
