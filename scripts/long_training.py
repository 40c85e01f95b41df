"""A long training: what an hour of footage costs before the first step, in time, on disk and in memory.

    python scripts/long_training.py CORPUS --out FOLDER [--hours 1 5 20]

The clips of a corpus are linked under other names until they make so many hours: each repeat is a source of its own. Then one
epoch of a few steps is trained in a process of its own, from the base model and with a refit, and looked at from outside.
Prints a line of JSON for each length.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from lipwright.data.cache import cache_folder
from lipwright.data.corpus import Corpus
from lipwright.data.features import FeatureSettings

LOOK_S = 0.2

CHILD = """
import sys, time
from lipwright.pipeline.settings import TrainSettings
from lipwright.pipeline.train import train_model
began = time.process_time()
def progress(what, done, of):
    print(time.process_time() - began, flush=True)
if __name__ == "__main__":
    settings = TrainSettings(epochs=1, coverage=1e-4)
    train_model(sys.argv[1], sys.argv[2], settings, device="cpu", force=True, progress=progress)
"""


def repeat(corpus: Corpus, folder: Path, hours: float) -> float:
    """Make a corpus of so many hours out of one, by hard links; return its hours."""
    shutil.rmtree(folder, ignore_errors=True)
    longer = Corpus.create(folder, FeatureSettings.from_dict(corpus.settings["features"]))
    rows: list[dict[str, Any]] = []
    length_s = 0.0
    for k in count():
        for row in corpus.usable:
            if length_s >= hours * 3600:
                longer.add(rows)
                return length_s / 3600
            sha256 = hashlib.sha256(f"{k} {row['sha256']}".encode()).hexdigest()
            name = f"{sha256[:12]}-{row['id'].split('-', 1)[1]}"
            os.link(corpus.clip_path(row["id"]), longer.clip_path(name))
            rows.append(row | {"id": name, "sha256": sha256, "path": f"{k}-{row['path']}", "speaker": f"{row['speaker']} {k}"})
            length_s += row["end_s"] - row["start_s"]
    raise AssertionError


def scratch_of(pid: int) -> Iterator[tuple[int, int]]:
    """Yield number and size of the files in the cache that a process holds open."""
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if entry.readlink().is_relative_to(cache_folder().resolve()):
                stat = entry.stat()
                yield stat.st_ino, stat.st_size
        except OSError:  # closed since
            continue


def watch(command: list[str]) -> dict[str, Any]:
    """Run a training to its end and say what it took."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    anonymous_kb, scratch = 0, 0
    while child.poll() is None:
        try:
            status = Path(f"/proc/{child.pid}/status").read_text()
            scratch = max(scratch, sum(dict(scratch_of(child.pid)).values()))
        except OSError:  # it has ended
            continue
        anonymous_kb = max(
            [anonymous_kb, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))]
        )
        time.sleep(LOOK_S)
    assert child.stdout is not None
    told = child.stdout.read().split()
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} failed with status {child.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "first_epoch_after_cpu_s": round(float(told[0]), 1),
        "cpu_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "elapsed_s": round(time.perf_counter() - began, 1),
        "scratch_mb": round(scratch / 1e6),
        "anonymous_mb": round(anonymous_kb / 1024),
    }


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="on the corpus's own disk: clips are linked")
    parser.add_argument("--hours", nargs="+", type=float, default=[1.0, 5.0, 20.0])
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for hours in args.hours:
        made = repeat(Corpus.load(args.corpus), args.out / "corpus", hours)
        told = watch([sys.executable, "-c", CHILD, str(args.out / "corpus"), str(args.out / "run")])
        print(json.dumps({"hours": round(made, 2)} | told), flush=True)
    shutil.rmtree(args.out / "corpus")


if __name__ == "__main__":
    main()
