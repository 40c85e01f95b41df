"""A long render: is its memory flat, and does one that was killed end as one that was not?

    python scripts/endurance.py VIDEO --audio SOUND --out FOLDER [--minutes 20] [--kills 3]

The sound is repeated to the length. Rendered twice by the command, each time from nothing but the track and the bank: once
undisturbed, its memory looked at twice a second; and once killed (SIGKILL) at even parts of that time, and begun again.
Prints, and writes to FOLDER/endurance.json, the peaks of memory, the times, and whether all decoded frames are equal.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from lipwright.data.audio import SAMPLE_RATE_HZ, read_speech
from lipwright.data.media import probe, read_frames

LOOK_S = 0.5
SETTLED = 0.15
"""Share of the time after which memory should not grow any more: the footage has been played once forth and back."""


def start(command: list[str]) -> subprocess.Popen[bytes]:
    """Start a command."""
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def watch(command: list[str]) -> tuple[float, np.ndarray]:
    """Run a command to its end; return the seconds, and its memory (MB) every half second."""
    began, child, memory = time.perf_counter(), start(command), []
    while child.poll() is None:
        status = Path(f"/proc/{child.pid}/status").read_text()
        memory += [int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS")]
        time.sleep(LOOK_S)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} failed with status {child.returncode}")
    return time.perf_counter() - began, np.array(memory)


def digest(path: Path) -> tuple[int, str]:
    """Return how many frames a video has, and a hash of all their times and samples."""
    content, count = hashlib.sha256(), 0
    for frame in read_frames(probe(path)):
        content.update(str(frame.time).encode())
        for plane in vars(frame.yuv()).values():
            content.update(plane)
        count += 1
    return count, content.hexdigest()


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--kills", type=int, default=3)
    args = parser.parse_args()
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    sound = out / "sound.wav"
    soundfile.write(sound, np.resize(read_speech(probe(args.audio)), round(args.minutes * 60 * SAMPLE_RATE_HZ)), SAMPLE_RATE_HZ)
    cache = Path(os.environ.setdefault("LIPWRIGHT_CACHE", str(Path.home() / ".cache" / "lipwright")))
    lipwright = str(Path(sys.executable).parent / "lipwright")

    def render(name: str, *more: str) -> list[str]:
        words = ["--target", str(args.video), "--audio", str(sound), "--out", str(out / name), "--force", "-q"]
        return [lipwright, "render", *words, *more]

    def forget() -> None:
        for kept in (cache / "spans").glob("*"):
            kept.unlink()

    watch(render("first.mp4", "--end", "1"))  # track and bank
    forget()
    whole_s, memory = watch(render("whole.mp4"))
    settled, middle = int(SETTLED * len(memory)), (len(memory) + int(SETTLED * len(memory))) // 2
    result: dict[str, Any] = {"minutes": args.minutes, "whole_s": round(whole_s, 1), "peak_mb": round(memory.max())}
    result["peak_mb_by_tenths"] = [round(part.max()) for part in np.array_split(memory, 10)]
    result["later_over_earlier"] = round(memory[middle:].max() / memory[settled:middle].max(), 3)
    print(json.dumps(result), flush=True)
    forget()
    began = time.perf_counter()
    for _ in range(args.kills):
        child = start(render("killed.mp4"))
        time.sleep(whole_s / (args.kills + 1))
        child.kill()
        child.wait()
    last_s, _ = watch(render("killed.mp4"))
    result |= {"killed_s": round(time.perf_counter() - began, 1), "last_s": round(last_s, 1)}
    digests = [digest(out / name) for name in ("whole.mp4", "killed.mp4")]
    result |= {"frames": digests[0][0], "equal": digests[0] == digests[1]}
    result["left"] = sorted(path.name for path in out.glob(".*"))
    print(json.dumps(result, indent=2))
    (out / "endurance.json").write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
