"""Train on some footage, judge on other: the protocols behind the tables in `docs/`.

    python scripts/holdout.py VIDEO... --out FOLDER [--seeds 0 1 2] [--own-s 8] [--init none] [--pooled | --unseen] [--render]
        [--set dropout=0.2 …]
    python scripts/holdout.py VIDEO... --zero-shot

Cuts videos in two, trains on the first 75 % (or less: --own-s), judges on the last 25 %: one model a video, or with
--pooled one for all. With --unseen each video is judged whole, by a model that was trained on all the others. Prints one row
per run, with what it does where nobody speaks, and one per video with the baselines beside it. With --zero-shot nothing is
trained: the base model is judged on whole videos, beside the loudness of their sound.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from scipy.ndimage import maximum_filter1d, minimum_filter1d

from lipwright.data.audio import SAMPLE_RATE_HZ, read_speech
from lipwright.data.augment import noise
from lipwright.data.encoder import Encoding
from lipwright.data.features import STEP_HZ, FeatureSettings, compute_features, frame_energy_db
from lipwright.data.landmarks import face_track
from lipwright.data.media import Media, probe, read_frames
from lipwright.data.mouth import aperture, track_of, width
from lipwright.data.writer import VideoWriter
from lipwright.models.metrics import CLOSED_SHARE, lag_ms, pearson
from lipwright.pipeline import evaluate_model, preprocess_corpus, train_model
from lipwright.pipeline.predict import feature_settings, load_model
from lipwright.pipeline.train import TrainSettings

SHARE = Fraction(3, 4)
CRF = 12
"""Cutting must cost no quality that a judge could see."""

HUSH_S = 20
HUSH_DB = (-80, -60, -40)
"""Levels of stationary noise, dB of full scale; features raise it by up to 20 dB."""

STILL_SHARE = 0.1
"""Still: within a second, the opening changes by less than this share of the speaker's scale."""


def cut(media: Media, head: Path, tail: Path, own_s: Fraction | None) -> None:
    """Write the first 75 % (or `own_s`) and the last 25 % of a video as two files, sound included."""
    video = media.need_video()
    length = Fraction(len(read_speech(media)), SAMPLE_RATE_HZ)
    border = length * SHARE
    end = border if own_s is None else min(own_s, border)
    encoding = Encoding.like(video, codec="h264", crf=CRF)
    with (
        VideoWriter(head, encoding, audio=media, audio_span_s=(Fraction(0), end)) as first,
        VideoWriter(tail, encoding, audio=media, audio_span_s=(border, length)) as second,
    ):
        for frame in read_frames(media):
            if frame.time < end:
                first.write(frame.yuv(), frame.time)
            elif frame.time >= border:
                second.write(frame.yuv(), frame.time - border)


def hush(run: Path) -> dict[str, float]:
    """Return the share of steps with a closed, still mouth, in digital silence and in noise that stays as it is."""
    model, rng, length = load_model(run), np.random.default_rng(0), HUSH_S * SAMPLE_RATE_HZ
    sounds = {"silence": np.zeros(length, np.float32)}
    for name, slope in (("white", 0), ("pink", 1)):
        sounds |= {f"{name} {db} dB": 10 ** (np.float32(db) / 20) * noise(length, slope, rng) for db in HUSH_DB}
    neutral, scale = model.neutral.numpy(), model.config.scale
    shares = {}
    for name, sound in sounds.items():
        mouth = neutral + scale * model.predict(compute_features(sound, feature_settings(model)))
        opening = aperture(mouth) - aperture(neutral)
        still = maximum_filter1d(opening, STEP_HZ) - minimum_filter1d(opening, STEP_HZ) < STILL_SHARE * scale
        shares[name] = round(float(((opening < CLOSED_SHARE * scale) & still).mean()), 3)
    return shares


def loudness(path: Path) -> dict[str, float | None]:
    """Return how the level of a video's sound goes with its mouth."""
    media = probe(path)
    mouth, level_db = track_of(face_track(media)), frame_energy_db(read_speech(media), FeatureSettings())
    steps = min(len(mouth.xyz), len(level_db))
    valid, level_db = mouth.valid[:steps], level_db[:steps]
    opening, spread = aperture(mouth.xyz[:steps]), width(mouth.xyz[:steps])
    return {
        "aperture_r": pearson(level_db[valid], opening[valid]),
        "width_r": pearson(level_db[valid], spread[valid]),
        "lag_ms": lag_ms(level_db, opening, valid),
    }


def halves(path: Path, folder: Path, own_s: Fraction | None) -> tuple[Path, Path]:
    """Return head and tail of a video, cut once."""
    name = path.stem if own_s is None else f"{path.stem}.{float(own_s):g}s"
    head, tail = folder / f"{name}.head.mp4", folder / f"{name}.tail.mp4"
    if not (head.exists() and tail.exists()):
        cut(probe(path), head, tail, own_s)
    return head, tail


def main() -> None:
    """Run the protocol and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, help="folder for cuts, corpora and runs")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--own-s", type=Fraction, help="train on so many seconds only, the first")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--pooled", action="store_true", help="one model for all videos")
    how.add_argument("--unseen", action="store_true", help="judge each video by a model trained on the others")
    how.add_argument("--zero-shot", action="store_true", help="judge the base model on each video")
    parser.add_argument("--init", default="base", help="start from this run (SEED in its name is the seed), base, or none")
    parser.add_argument("--render", action="store_true", help="also judge the picture, with the head as the bank")
    parser.add_argument("--set", nargs="*", default=[], help="training settings, NAME=VALUE")
    args = parser.parse_args()
    if args.unseen and len(args.videos) < 2:
        parser.error("--unseen wants two videos or more")
    if args.unseen and args.own_s:
        parser.error("--own-s goes with models of one's own")
    if args.zero_shot:
        for video in args.videos:
            row = evaluate_model(None, [video])["clips"][0]
            print(json.dumps({"video": video.stem} | row | {"loudness": loudness(video)}, indent=1), flush=True)
        return
    if args.out is None:
        parser.error("--out wants a folder")
    args.out.mkdir(parents=True, exist_ok=True)
    settings = replace(TrainSettings(), **{k: json.loads(v) for k, v in (pair.split("=", 1) for pair in args.set)})
    if args.unseen:
        protocol = {f"without-{v.stem}": ([w for w in args.videos if w != v], [v]) for v in args.videos}
    else:
        cuts = {v.stem: halves(v, args.out, args.own_s) for v in args.videos}
        protocol = {name: ([head], [tail]) for name, (head, tail) in cuts.items()}
        if args.pooled:
            heads, tails = zip(*cuts.values(), strict=True)
            protocol = {"pooled": (list(heads), list(tails))}
    for name, (seen, judged) in protocol.items():
        corpus = args.out / f"{name}.corpus"
        shutil.rmtree(corpus, ignore_errors=True)  # of an earlier call, maybe with other videos
        preprocess_corpus(seen, corpus)
        for seed in args.seeds:
            run = args.out / f"{name}.run{seed}"
            init = args.init.replace("SEED", str(seed))
            trained = train_model(corpus, run, settings, seed=seed, init=init, force=True)
            told = {k: trained[k] for k in trained if k != "run"} | {"closed_and_still": hush(run)}
            print(json.dumps({"group": name, "seed": seed, "own_s": args.own_s and float(args.own_s)} | told))
            for video, head in zip(judged, seen, strict=False):  # of an unseen video, its own first 75 % is the bank
                bank = head if args.render and not args.unseen else None
                row = evaluate_model(run, [video], render=args.render, bank=bank)["clips"][0]
                print(json.dumps({"video": video.stem, "seed": seed} | row, indent=1), flush=True)


if __name__ == "__main__":
    main()
