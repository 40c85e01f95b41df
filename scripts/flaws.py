"""Show what it is worth to mend flawed footage: the table in docs/corpora.md.

    python scripts/flaws.py VIDEO... --out FOLDER [--seeds 0]

Cuts videos as holdout.py does. The first 75 % is then spoilt: its picture comes 200 ms late, or a third of its sound is music.
A model is trained on it as preprocess takes it in, and another as if preprocess did not look for the flaw; both are judged on
the last 25 %, which is left as it is.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from unittest.mock import patch

import numpy as np
import soundfile
from holdout import CRF, halves

from lipwright.data import voice
from lipwright.data.audio import SAMPLE_RATE_HZ, read_speech
from lipwright.data.encoder import Encoding
from lipwright.data.media import Media, probe, read_frames
from lipwright.data.writer import VideoWriter
from lipwright.pipeline import evaluate_model, intake, preprocess_corpus, train_model

LATE_S = Fraction(1, 5)
MUSIC = (0.4, 0.75)
"""Where music is put in place of the sound, in shares of its length."""


def late(media: Media, out: Path) -> None:
    """Write a video with its picture later."""
    with VideoWriter(out, Encoding.like(media.need_video(), codec="h264", crf=CRF), audio=media) as writer:
        for frame in read_frames(media):
            writer.write(frame.yuv(), frame.time + LATE_S)


def scored(media: Media, out: Path) -> None:
    """Write a video with music in place of part of its sound."""
    samples = read_speech(media).copy()
    first, end = (round(share * len(samples)) for share in MUSIC)
    samples[first:end] = music(end - first)
    soundfile.write(out.with_suffix(".wav"), samples, SAMPLE_RATE_HZ)
    encoding = Encoding.like(media.need_video(), codec="h264", crf=CRF)
    with VideoWriter(out, encoding, audio=probe(out.with_suffix(".wav"))) as writer:
        for frame in read_frames(media):
            writer.write(frame.yuv(), frame.time)


def music(count: int) -> np.ndarray:
    """Return chords and a drum, twice a second: so many samples."""
    rng = np.random.default_rng(0)
    time_s, out = np.arange(count) / SAMPLE_RATE_HZ, np.zeros(count)
    for begin_s in np.arange(0, count / SAMPLE_RATE_HZ, 0.5):
        since = np.maximum(time_s - begin_s, 0)
        struck, root_hz = (time_s >= begin_s) * np.exp(-2 * since), rng.choice([220, 247, 262, 294, 330, 349, 392])
        out += struck * sum(np.sin(2 * np.pi * root_hz * ratio * since) for ratio in (1, 1.25, 1.5, 2))
        out += 2 * (time_s >= begin_s) * np.exp(-160 * since) * rng.normal(0, 1, count)
    return (0.1 * out).astype(np.float32)


@contextmanager
def blind(flaw: str) -> Iterator[None]:
    """Let preprocess not see a flaw."""
    where = {"late": (intake, "LEAST_CORRECTED_MS", np.inf), "music": (voice, "knows_voices", lambda: False)}[flaw]
    with patch.object(*where):
        yield


def main() -> None:
    """Run the protocol and print a row for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder for cuts, corpora and runs")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    def row(name: str, head: Path, tail: Path) -> None:
        corpus = args.out / f"{head.stem}-{name}"
        taken = preprocess_corpus([head], corpus, workers=1, force=True)["clips"]
        for seed in args.seeds:
            run = train_model(corpus, args.out / f"{corpus.name}-run{seed}", seed=seed, device="cpu", force=True)["run"]
            judged = evaluate_model(run, [tail], device="cpu")["clips"][0]
            numbers = {k: judged[k] for k in ("aperture_r", "width_r", "lag_ms")}
            found = {
                "found_lag_ms": taken[0]["lag_ms"],
                "other_sound_s": round(sum(clip["other_sound_s"] for clip in taken), 2),
            }
            print(json.dumps({"video": head.stem, "how": name, "seed": seed} | numbers | found), flush=True)

    for video in args.videos:
        head, tail = halves(video, args.out, None)
        row("clean", head, tail)
        for flaw, spoil in (("late", late), ("music", scored)):
            spoilt = args.out / f"{video.stem}.{flaw}.mp4"
            if not spoilt.exists():
                spoil(probe(head), spoilt)
            row("mended", spoilt, tail)
            with blind(flaw):
                row("as it is", spoilt, tail)


if __name__ == "__main__":
    main()
