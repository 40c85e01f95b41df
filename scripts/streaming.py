"""A live mouth and a live face: what they cost of one core, how far they are behind, and whether their memory is flat.

    python scripts/streaming.py SOUND [--target VIDEO] [--minutes 5]

The sound is repeated to the length and pushed in pieces of 20 ms, as fast as it is worked on; seconds are CPU's.
"""

from __future__ import annotations

import argparse
import json
import time
from array import array
from pathlib import Path
from typing import Any

import numpy as np

from lipwright.data.audio import SAMPLE_RATE_HZ, read_speech
from lipwright.data.media import probe
from lipwright.pipeline.live_client import Inbox, Session, Wish
from lipwright.pipeline.render.live import LiveFace
from lipwright.pipeline.stream import LiveMouth
from lipwright.pipeline.visemes import RHUBARB

PIECE_S = 0.02
WARM_S = 10.0
"""Until then, what is done once is done."""


def resident_mb() -> float:
    """Return the memory of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sound", type=Path)
    parser.add_argument("--target", type=Path)
    parser.add_argument("--minutes", type=float, default=5)
    args = parser.parse_args()
    pcm = np.round(32767 * read_speech(probe(args.sound))).astype("<i2")
    face = LiveFace(args.target) if args.target else None
    wish = Wish(rate=SAMPLE_RATE_HZ, points=True, blendshapes=True, face=face is not None)
    mouth = LiveMouth(blendshapes=True, visemes=RHUBARB, speaker=face.speaker if face else None)
    session = Session(wish, mouth, face, Inbox(wish.bytes_a_second).is_late)
    piece, pieces = round(PIECE_S * SAMPLE_RATE_HZ), round(args.minutes * 60 / PIECE_S)
    behind_s, spent = array("f"), {"mouth": array("f"), "frame": array("f")}  # small beside what is looked for
    memory: list[float] = []
    for k in range(pieces):
        data = np.take(pcm, np.arange(k * piece, (k + 1) * piece), mode="wrap").tobytes()
        if k * PIECE_S == WARM_S:
            for each in spent.values():
                del each[:]
        before, said = time.thread_time(), session.hear(data)
        while (item := next(said, None)) is not None:
            spent["frame" if isinstance(item, bytes) else "mouth"].append(time.thread_time() - before)
            if not isinstance(item, bytes):
                behind_s.append((k + 1) * PIECE_S - item[0]["t"])
            before = time.thread_time()
        spent["mouth"].append(time.thread_time() - before)
        if k % (pieces // 20) == pieces // 20 - 1:
            memory.append(round(resident_mb(), 1))
    seconds = pieces * PIECE_S - WARM_S
    result: dict[str, Any] = {
        "share_of_a_core": round(sum(map(sum, spent.values())) / seconds, 3),
        "mouth_share": round(sum(spent["mouth"]) / seconds, 3),
        "most_behind_ms": round(1000 * max(behind_s)),
        "memory_mb": memory,
    }
    if face:
        frames_ms = 1000 * np.array(spent["frame"], np.float64)
        result["frame_ms"] = {"mean": round(frames_ms.mean(), 1), "p99": round(np.percentile(frames_ms, 99), 1)}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
