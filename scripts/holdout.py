"""Cut videos in two, train on the first 75 %, judge on the last 25 %: the protocol behind the tables in `docs/`.

    python scripts/holdout.py VIDEO... --out FOLDER [--seeds 0 1 2] [--pooled] [--render] [--set dropout=0.2 …]

Writes FOLDER/<name>.head.mp4 and .tail.mp4 once, then a corpus and a run for each video (or one for all), and prints one
row per video with the baselines beside it.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from lipwright.data.audio import SAMPLE_RATE_HZ, read_speech
from lipwright.data.media import Media, probe, read_frames
from lipwright.data.writer import VideoWriter
from lipwright.pipeline import evaluate_model, preprocess_corpus, train_model
from lipwright.pipeline.train import TrainSettings

SHARE = Fraction(3, 4)
CRF = 12
"""Cutting must cost no quality that a judge could see."""


def cut(media: Media, head: Path, tail: Path) -> None:
    """Write the first 75 % and the last 25 % of a video as two files, sound included."""
    video = media.need_video()
    length = Fraction(len(read_speech(media)), SAMPLE_RATE_HZ)
    border = length * SHARE
    with (
        VideoWriter.like(video, head, crf=CRF, audio=media, audio_span_s=(Fraction(0), border)) as first,
        VideoWriter.like(video, tail, crf=CRF, audio=media, audio_span_s=(border, length)) as second,
    ):
        for frame in read_frames(media):
            if frame.time < border:
                first.write(frame.yuv(), frame.time)
            else:
                second.write(frame.yuv(), frame.time - border)


def main() -> None:
    """Run the protocol and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--pooled", action="store_true", help="one model for all videos")
    parser.add_argument("--render", action="store_true", help="also judge the picture, with the head as the bank")
    parser.add_argument("--set", nargs="*", default=[], help="training settings, NAME=VALUE")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    settings = replace(TrainSettings(), **{k: json.loads(v) for k, v in (pair.split("=") for pair in args.set)})
    halves = {}
    for path in args.videos:
        halves[path.stem] = head, tail = args.out / f"{path.stem}.head.mp4", args.out / f"{path.stem}.tail.mp4"
        if not (head.exists() and tail.exists()):
            cut(probe(path), head, tail)
    groups = {"pooled": list(halves)} if args.pooled else {name: [name] for name in halves}
    for group, names in groups.items():
        corpus = args.out / f"{group}.corpus"
        preprocess_corpus([halves[name][0] for name in names], corpus)
        for seed in args.seeds:
            run = args.out / f"{group}.run{seed}"
            trained = train_model(corpus, run, settings, seed=seed, force=True)
            print(json.dumps({"group": group, "seed": seed} | {k: trained[k] for k in trained if k != "run"}))
            for name in names:
                bank = halves[name][0] if args.render else None
                judged = evaluate_model(run, [halves[name][1]], render=args.render, bank=bank)
                print(json.dumps({"video": name, "seed": seed} | judged["clips"][0], indent=1), flush=True)


if __name__ == "__main__":
    main()
