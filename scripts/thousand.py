"""A folder of many short clips, some of them broken: is each taken in or named, also by a preprocessing that was killed?

    python scripts/thousand.py --out FOLDER [--clips 1000] [--kills 2] [--workers N] [--seed 0]

Makes the clips (FOLDER/clips): the photographed astronaut says something else in each, in a sub-folder for each of some
speakers; one in twenty is broken, in one of ten ways. The command preprocesses them twice, each time from an empty cache:
undisturbed, and killed (SIGKILL to all of its processes) whenever another even part of the clip files is there, and begun
again. Prints, and writes to FOLDER/thousand.json, times, memory, bytes, which clips were not judged as they should be, and in
which files the two corpora differ; ends with status 1 where there are any.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import soundfile

from lipwright.data.encoder import Encoding
from lipwright.data.landmarker import model_path
from lipwright.data.media import BT709, Yuv, file_sha256, probe
from lipwright.data.speech import synthesize
from lipwright.data.talker import Talker, astronaut, talking_frames
from lipwright.data.writer import VideoWriter

SENTENCES = """
My mother may buy five big blue boats.|Bob will pop up above the open bay by half past one.|Father parked the car far away.
She sees three green trees beside the sea.|We choose a blue balloon for you too.|Please bring my brown umbrella before evening.
Perhaps nobody will notice that it was painted.|The lower lip slips under the teeth for every fox.|Who would move a room full of
spoons?|He keeps sheep beside the stream.|Twelve boxes of apples, butter and bread came by water.|Old owls know how to show joy.
The table wobbled whenever we moved it.|Many thanks for all of your patience.|Baby maple trees remember warm weather.
"""
VOICES = ("gmw/en-US+f3", "gmw/en+m1", "gmw/en-US+m3", "gmw/en+f2", "gmw/en-US+m7", "gmw/en+m4", "gmw/en-US+f4", "gmw/en+f1")
RATES = (Fraction(24), Fraction(25), Fraction(30000, 1001))
PHOTO_PX, CROPS_PX, LENGTHS_S = 224, (192, 216), (2.2, 3.4)
TALK_S = 30.0
"""A speaker's clips are cut, with overlaps, out of a talk of this length: painting it is most of the work."""

LOOK_S = 0.05
SOME_FAILED = 5
"""Exit code of the command where some inputs were rejected."""

BROKEN_SHARE = 0.05
WAYS = {
    "empty": r"is empty \(0 bytes\)",
    "noise": r"cannot be read as video or audio",
    "no index": r"cannot be read as video or audio",
    "cut off": r"never shows a face for 2 s .*it has [01]\.\d s",
    "no sound": r"has no audio stream",
    "no picture": r"has no video stream",
    "silent": r"is silent",
    "nobody": r"no face in 100%",
    "two people": r"several faces in .*--face",
    "spoilt": r"no frame of .* can be decoded",
}
"""How clips are broken, and what the reason says then."""


def plan(clips: int) -> list[str]:
    """Return what becomes of each clip: ``"ok"``, or one of `WAYS`; each way at least once."""
    kinds = ["ok"] * clips
    broken = max(len(WAYS), round(BROKEN_SHARE * clips))
    for k, place in enumerate(np.linspace(0, clips - 1, broken).round().astype(int)):
        kinds[place] = list(WAYS)[k % len(WAYS)]
    return kinds


def make_clips(folder: Path, kinds: Sequence[str], seed: int) -> dict[str, str]:
    """Make clips in the sub-folders of their speakers; return the kind of each by its path."""
    speakers = min(len(VOICES), max(2, len(kinds) // 20))
    jobs = [(folder / f"speaker{k}", k, kinds[k::speakers], seed) for k in range(speakers)]
    # In a fresh process, eSpeak says the same again.
    with ProcessPoolExecutor(2, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        return {path: kind for made in pool.map(make_speaker, *zip(*jobs, strict=True)) for path, kind in made.items()}


def make_speaker(folder: Path, number: int, kinds: Sequence[str], seed: int) -> dict[str, str]:
    """Make the clips of one speaker."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng([seed, number])
    rate, text = RATES[number % len(RATES)], " ".join(map(str, rng.permutation(" ".join(SENTENCES.split()).split("|"))))
    speech = synthesize(text, voice=VOICES[number], rate_wpm=int(rng.integers(130, 190)), pitch=int(rng.integers(30, 70)))
    frames = talking_frames(Talker.from_photo(astronaut(PHOTO_PX)), speech, rate=rate, seed=number)
    pictures = [picture for _, picture in islice(frames, int(min(TALK_S, LENGTHS_S[1] * len(kinds) / 2) * rate))]
    made = {}
    for k, kind in enumerate(kinds):
        count = int(rng.uniform(*LENGTHS_S) * rate)
        first = int(rng.integers(len(pictures) - count))
        begin, end = (int(frame / rate * speech.rate_hz) for frame in (first, first + count))
        side = 2 * int(rng.integers(CROPS_PX[0] // 2, CROPS_PX[1] // 2))
        left, top = rng.integers(PHOTO_PX - side), rng.integers((PHOTO_PX - side) // 2)
        shown = [picture[top : top + side, left : left + side] for picture in pictures[first : first + count]]
        if rng.random() < 0.5:
            shown = [picture[:, ::-1] for picture in shown]
        path = make_clip(folder / f"{k:03}.mp4", kind, shown, rate, (speech.samples[begin:end], speech.rate_hz), rng)
        made[str(path.resolve())] = kind
    return made


def make_clip(
    path: Path, kind: str, pictures: list[np.ndarray], rate: Fraction, sound: tuple[np.ndarray, int], rng: np.random.Generator
) -> Path:
    """Write a clip of a kind from BGR pictures; return its path: one that is cut off is Matroska."""
    if kind == "nobody":
        pictures = [cv2.resize(cv2.resize(picture, (5, 5)), picture.shape[1::-1]) for picture in pictures]
    elif kind == "two people":
        pictures = [np.hstack([picture, picture[:, ::-1]]) for picture in pictures]
    elif kind == "silent":
        sound = np.zeros_like(sound[0]), sound[1]
    elif kind == "cut off":
        path = path.with_suffix(".mkv")
    height, width = pictures[0].shape[:2]
    encoding = Encoding(width, height, 1 / rate / 512, rate, BT709, crf=23, preset="ultrafast")
    wav = path.with_suffix(".wav")
    soundfile.write(wav, *sound)
    with VideoWriter(path, encoding, audio=None if kind == "no sound" else probe(wav)) as writer:
        for k, picture in enumerate(pictures):
            writer.write(Yuv.from_bgr(np.ascontiguousarray(picture)), k / rate)
    wav.unlink()
    content = path.read_bytes()
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "noise":
        path.write_bytes(rng.bytes(len(content)))
    elif kind == "no index":
        index, media = content.index(b"moov") - 4, content.index(b"mdat") - 4
        path.write_bytes(content[:index] + content[media : -len(content) // 4])
    elif kind == "cut off":
        path.write_bytes(content[: int(0.4 * len(content))])
    elif kind == "no picture":
        path.write_bytes(content.replace(b"trak", b"free", 1))  # the picture's comes first
    elif kind == "spoilt":
        with av.open(str(path)) as whole:
            spans = [(packet.pos, packet.size) for packet in whole.demux(video=0) if packet.size]
        with path.open("r+b") as file:
            for begin, size in spans:
                file.seek(begin)
                file.write(rng.bytes(size))
    return path


def preprocess(clips: Path, corpus: Path, workers: int | None, files: float = np.inf) -> tuple[int, float, float]:
    """Run the command, with a cache of its own, to its end or until so many clip files are there: then kill all its processes.

    Returns its exit code, negative if it was killed, the seconds, and the peak memory of its main process (MB).
    """
    command = [str(Path(sys.executable).parent / "lipwright"), "preprocess", str(clips), "--out", str(corpus), "--json", "-q"]
    command += ["--workers", str(workers)] if workers else []
    cache = corpus.with_name(f"{corpus.name}-cache")
    env = os.environ | {"LIPWRIGHT_CACHE": str(cache), "LIPWRIGHT_FACE_LANDMARKER": str(model_path().resolve())}
    began, peak_kb, nowhere = time.perf_counter(), 0, subprocess.DEVNULL
    child = subprocess.Popen(command, stdout=nowhere, stderr=nowhere, env=env, start_new_session=True)
    while child.poll() is None and len(clip_files(corpus)) < files:
        status = Path(f"/proc/{child.pid}/status").read_text()
        peak_kb = max([peak_kb, *map(int, re.findall(r"VmHWM:\s*(\d+)", status))])
        time.sleep(LOOK_S)
    if child.returncode is None:
        os.killpg(child.pid, signal.SIGKILL)
    return child.wait(), time.perf_counter() - began, peak_kb / 1024


def clip_files(corpus: Path) -> list[Path]:
    """Return the files in a corpus's folder of clips, half-written ones too."""
    return sorted((corpus / "clips").glob("*"))


def rows_of(corpus: Path) -> list[dict[str, Any]]:
    """Return the manifest's rows."""
    return [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]


def wrong(corpus: Path, kinds: dict[str, str]) -> Iterator[str]:
    """Yield what is not as it should be in the corpus of some clips, whose kinds are given by path."""
    said = defaultdict(list)
    for row in rows_of(corpus):
        said[row["path"]].append(row["reason"] or row["status"])
    for path, kind in kinds.items():
        reasons = said[os.path.realpath(path)]
        if not reasons or ("ok" in reasons) != (kind == "ok") or not re.search(WAYS.get(kind, ""), reasons[0]):
            yield f"{path} ({kind}): {reasons or 'no row'}"
    yield from (f"a row of {path}, which no clip is" for path in said.keys() - {os.path.realpath(path) for path in kinds})


def differences(one: Path, other: Path) -> list[str]:
    """Return in which files two corpora differ."""
    first, second = ({(p.name, file_sha256(p)) for p in [c / "manifest.jsonl", *clip_files(c)]} for c in (one, other))
    return sorted({name for name, _ in first ^ second})


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--workers", type=int, help="processes that preprocess; by default one a core")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.clips <= len(WAYS):
        parser.error(f"--clips {args.clips} are too few: more than {len(WAYS)} are needed, to break one in each way")
    out: Path = args.out
    out.mkdir(parents=True)
    began = time.perf_counter()
    kinds = make_clips(out / "clips", plan(args.clips), args.seed)
    result: dict[str, Any] = {"clips": dict(Counter(kinds.values())), "made_s": round(time.perf_counter() - began, 1)}
    print(json.dumps(result), flush=True)

    whole, killed = out / "whole", out / "killed"
    code, whole_s, peak_mb = preprocess(out / "clips", whole, args.workers)
    if code != SOME_FAILED:
        raise SystemExit(f"preprocessing ended with status {code} instead of {SOME_FAILED}; {whole} holds what it has done")
    hours = sum(row["end_s"] - row["start_s"] for row in rows_of(whole) if row["status"] == "ok") / 3600
    size = sum(path.stat().st_size for path in [whole / "manifest.jsonl", *clip_files(whole)])
    result |= {"whole_s": round(whole_s, 1), "clips_per_s": round(args.clips / whole_s, 2)}
    result |= {"peak_mb": round(peak_mb), "mb_per_hour": round(size / 1e6 / hours), "killed_at": []}
    print(json.dumps(result), flush=True)
    began = time.perf_counter()
    for k in range(args.kills):
        stop = round(len(clip_files(whole)) * (k + 1) / (args.kills + 1))
        if preprocess(out / "clips", killed, args.workers, stop)[0] == -signal.SIGKILL:
            result["killed_at"].append(len(clip_files(killed)))
    code, last_s, _ = preprocess(out / "clips", killed, args.workers)
    result |= {"killed_s": round(time.perf_counter() - began, 1), "last_s": round(last_s, 1), "exit_code": code}
    result |= {"wrong": list(wrong(killed, kinds)), "differences": differences(whole, killed)}
    print(json.dumps(result, indent=2))
    (out / "thousand.json").write_text(json.dumps(result, indent=2))
    if result["wrong"] or result["differences"] or code != SOME_FAILED or len(result["killed_at"]) < args.kills:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
