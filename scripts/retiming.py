"""Measure re-timing on videos, against playing them in order: the table in docs/rendering.md.

    python scripts/retiming.py VIDEO... --audio SOUND --out FOLDER [--repeat N]

Prints two rows for each video: in order, and re-timed. Into FOLDER go pictures of where playing turns, VIDEO-in-order.png and
VIDEO-retimed.png: one turn a row, four frames of the output before and after it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np

from lipwright.data.audio import SAMPLE_RATE_HZ, read_speech
from lipwright.data.features import STEP_HZ, FeatureSettings
from lipwright.data.landmarks import FaceTrack, face_track
from lipwright.data.media import Media, probe
from lipwright.data.player import Player
from lipwright.data.voice import find_speech
from lipwright.pipeline.render.retime import HEAD, Plan, find_blinks, head_speed, play_in_order, retime

PAUSE_S = 0.25
"""Pauses so long are looked at."""

BESIDE = 4
"""Frames before and after a turn that a strip shows."""

COLUMNS = ("pause", "pause 95 %", "speech", "speech 95 %", "step 99.9 %", "step most", "kink", "holds", "skips", "turns",
           "blinks", "cut", "planned in s")  # fmt: skip


def find_turns(frames: np.ndarray) -> np.ndarray:
    """Return where in the output the direction changes: the last frame of each run."""
    moves = np.flatnonzero(np.diff(frames))
    way = np.sign(np.diff(frames)[moves])
    return moves[1:][way[1:] != way[:-1]]


def count_blinks(frames: np.ndarray, blinks: np.ndarray) -> tuple[int, int]:
    """Count the blinks that are shown, and those of them that are not shown as they were filmed (forth or back)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], blinks[frames], [False]])))
    cut = 0
    for start, end in edges.reshape(-1, 2):
        steps = np.diff(frames[max(start - 1, 0) : end + 1])
        cut += not ((steps == 1).all() or (steps == -1).all())
    return len(edges) // 2, cut


def measure(plan: Plan, track: FaceTrack, speaks: np.ndarray) -> list[float]:
    """Measure the head as it is shown: the table's columns but for the last."""
    from scipy.ndimage import binary_opening

    frames, times_s = plan.frames, plan.times_s
    heads, scale = track.pose.to_pixels(HEAD)[frames][:, :, :2], track.pose.scale[frames]
    shot = np.searchsorted(track.shots, frames, "right")
    speed = head_speed(times_s, heads, scale, np.flatnonzero(np.diff(shot)) + 1)
    steps = np.clip(np.round(times_s * STEP_HZ).astype(int), 0, len(speaks) - 1)
    pause = binary_opening(~speaks, np.ones(round(PAUSE_S * STEP_HZ), bool))[steps] & np.isfinite(speed)
    speech = speaks[steps] & np.isfinite(speed)
    heads, same = heads / np.nanmedian(scale), np.diff(shot) == 0
    step = np.linalg.norm(np.diff(heads, axis=0), axis=2).mean(1)[same]
    kink = np.square(np.diff(heads, 2, axis=0)).sum(2).mean(1)[same[1:] & same[:-1]]
    moves = np.abs(np.diff(frames))
    return [
        *(f(speed[when]) for when in (pause, speech) for f in (np.mean, lambda v: np.percentile(v, 95))),
        np.nanpercentile(step, 99.9),
        np.nanmax(step),
        np.sqrt(np.nanmean(kink)),
        int((moves == 0).sum()),
        int((moves == 2).sum()),
        len(find_turns(frames)),
        *count_blinks(frames, find_blinks(track)),
    ]


def save_turns(media: Media, track: FaceTrack, plan: Plan, out: Path, height: int = 192) -> None:
    """Draw the turns: the head's surroundings in the frames beside each."""
    rows = []
    with Player(media, track.pts) as player:
        for turn in find_turns(plan.frames):
            shown = plan.frames[max(turn - BESIDE, 0) : turn + BESIDE + 1]
            pose = track.pose[shown]
            size = 2 * np.nanmedian(pose.scale)
            left, top = np.nanmean(pose.shift[:, :2], 0) - (size, 0.9 * size)
            crop = np.array([[1, 0, -left], [0, 1, -top]]) * height / (2.2 * size)
            tiles = [cv2.warpAffine(player(int(k)).rgb(), crop, (height, height), flags=cv2.INTER_AREA) for k in shown]
            for k, tile in enumerate(tiles, max(turn - BESIDE, 0)):
                text = f"{plan.times_s[k]:.2f} s: {plan.frames[k]}"
                cv2.putText(tile, text, (4, height - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 0), 1, cv2.LINE_AA)
            tiles += [np.zeros_like(tiles[0])] * (2 * BESIDE + 1 - len(tiles))
            rows.append(np.hstack(tiles))
    if rows:
        cv2.imwrite(str(out), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repeat", type=int, default=1, help="say it so often")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    samples = np.tile(read_speech(probe(args.audio)), args.repeat)
    speaks, until_s = find_speech(samples, FeatureSettings()), len(samples) / SAMPLE_RATE_HZ
    print("| |", " | ".join(COLUMNS), "|")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for path in args.videos:
        media = probe(path)
        track = face_track(media)
        began = time.perf_counter()
        retimed = retime(media, [(track, speaks)], until_s)
        took_s = time.perf_counter() - began
        for name, plan, last in (
            ("in-order", play_in_order(media, track.pts, until_s), []),
            ("retimed", retimed, [took_s]),
        ):
            cells = (f"{v}" if isinstance(v, int) else f"{v:.4f}" for v in measure(plan, track, speaks) + last)
            print(f"| {path.stem}, {name} |", " | ".join(cells), "|", flush=True)
            save_turns(media, track, plan, args.out / f"{path.stem}-{name}.png")


if __name__ == "__main__":
    main()
