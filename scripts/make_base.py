"""Make the base model that Lipwright ships: two hours of speech that nobody spoke, then a network that learns its mouth.

    python scripts/make_base.py --out models/base [--minutes 100] [--seed 0] [--device auto] [--workers N] [--set hidden=96 …]

Needs the extra ``base``, and flite for recorded voices beside eSpeak NG's (Debian: ``apt install flite``). Nothing is read
but those: texts are names of the Common Locale Data Repository, mouths follow the rule table of `lipwright.data.articulation`,
on the lips of scikit-image's astronaut.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from lipwright.data import flite
from lipwright.data.articulation import CLASSES, Lips, articulate, sounding
from lipwright.data.features import STEP_HZ, FeatureSettings, compute_features
from lipwright.data.mouth import Speaker, measure_speaker
from lipwright.data.recital import recite
from lipwright.data.talker import Talker, astronaut
from lipwright.models.baselines import fit_ridge
from lipwright.models.device import choose_device
from lipwright.pipeline.course import build_model
from lipwright.pipeline.fit import Fit
from lipwright.pipeline.processes import Team
from lipwright.pipeline.sequences import Sequence, arrays, hush_sequence
from lipwright.pipeline.settings import TrainSettings

SETTINGS = TrainSettings(
    input_dropout=0.0,
    input_noise=0.3,
    channel_noise=0.5,
    dropout=0.2,
    mixup=0.0,
    components=8,
    streams=32,
    bptt_s=1.5,
    coverage=0.5,
    averaging=0.995,
)

RECITAL_S = 30.0
HELD_OUT = 0.03
"""Share of the recitals that only judge."""

HUSHED, WHOLE = 0.2, 0.3
"""Share of the recitals that are interrupted by silence and noise; and of these, the share of which nothing else is left."""

LEAD_STEPS = 1
"""By so much are people earlier than the rule, as the tracker reads them (median of eight: docs/base.md)."""

RIDGE_RECITALS = 60
"""So many fit the ridge that the base model is judged beside."""


_lips: Lips
_speaker: Speaker


def somebody() -> tuple[Lips, Speaker]:
    """Return the lips that speak, and what their mouths are relative to: as measured over some minutes of speech."""
    lips = Talker.from_photo(astronaut()).lips
    said = [recite(number, RECITAL_S).phones for number in range(10)]
    mouths = [lips.points(articulate(p, np.arange(0, p[-1].end_s, 1 / STEP_HZ))) for p in said]
    return lips, measure_speaker(np.concatenate(mouths))


def lend(lips: Lips, speaker: Speaker) -> None:
    """Tell a worker whose mouth it is."""
    global _lips, _speaker
    _lips, _speaker = lips, speaker


def read(task: tuple[int, int]) -> Sequence:
    """Make one recital, of a number and a seed, what a network can learn from."""
    number, seed = task
    rng = np.random.default_rng([seed, number, 1])
    recital = recite(number, RECITAL_S, seed)
    features = compute_features(recital.samples)
    times_s = np.arange(len(features)) / STEP_HZ
    shapes = _speaker.normalise(_lips.points(articulate(recital.phones, times_s)), 1.0)
    sounds = np.eye(len(CLASSES), dtype=np.float32)[sounding(recital.phones, times_s)]
    none = np.zeros((len(features), 0), np.float32)
    sound = recital.samples * np.float32(32768)  # as loud as 16 bits, and as fine as it was
    sequence = Sequence(features, shapes, none, np.ones(len(features), bool), _speaker, sound, sounds)
    if rng.random() < HUSHED:
        whole = bool(rng.random() < WHOLE)
        sequence = hush_sequence(sequence, FeatureSettings(), int(rng.integers(2**31)), whole=whole)
    return replace(sequence, sound=sound[:0])  # it is not varied any more, and need not be sent


def main() -> None:
    """Make speech, train, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path, help="model folder to make")
    parser.add_argument("--minutes", type=float, default=100.0, help="of speech, at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that speak")
    parser.add_argument("--set", nargs="*", default=[], help="training settings, NAME=VALUE")
    args = parser.parse_args()
    if not flite.installed():
        print("flite is not installed: eSpeak NG's voices alone", file=sys.stderr)
    settings = replace(SETTINGS, **{k: json.loads(v) for k, v in (pair.split("=", 1) for pair in args.set)})
    if args.minutes * 60 < 2 * RECITAL_S:
        parser.error(f"--minutes {args.minutes:g} is less than two recitals of {RECITAL_S:.0f} s")
    began = time.perf_counter()
    lips, speaker = somebody()
    tasks = [(number, args.seed) for number in range(round(args.minutes * 60 / RECITAL_S))]
    with ProcessPoolExecutor(args.workers, get_context("spawn"), lend, (lips, speaker)) as team:
        sequences = list(team.map(read, tasks, chunksize=4))
    minutes = sum(len(s.features) for s in sequences) / STEP_HZ / 60
    print(f"{minutes:.0f} minutes of speech in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    held_out, train = np.split(np.array(sequences, object), [max(1, round(HELD_OUT * len(sequences)))])
    assert speaker.scale is not None
    model = build_model(list(train), FeatureSettings(), settings, speaker.scale).to(choose_device(args.device))
    fit = Fit(model, list(train), list(held_out), settings, args.seed, Team())
    best = fit.run(lambda row: print(json.dumps(row), file=sys.stderr, flush=True), None)
    fit.finish()
    told = {"minutes": round(minutes), "seed": args.seed, "flite": flite.installed()} | asdict(best)
    model.config = replace(model.config, lead_steps=LEAD_STEPS, training={"settings": asdict(settings)} | told)
    model.network.half()  # half the bytes in the package, and the same mouth
    model.save(args.out)
    p = model.config.components
    some = [(x, y[:, :p], valid) for x, y, valid in (arrays(model, s) for s in train[:RIDGE_RECITALS])]
    fit_ridge(some, []).save(args.out)
    print(json.dumps(told | {"elapsed_s": round(time.perf_counter() - began)}))


if __name__ == "__main__":
    main()
