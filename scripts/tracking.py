"""Compare ways to get a mouth out of frames, against a known mouth and against themselves: the tables of `docs/corpora.md`.

    python scripts/tracking.py [VIDEO...] --keep FOLDER

Truth is a photograph made to talk, at several sizes, rates, noise levels and compressions. A video has no truth: its first
seconds are tracked three times, disturbed a little each time in another way, and what the readings do not agree on is noise.
Tracks stay in FOLDER, so that a second run takes seconds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import combinations, permutations, takewhile
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np
from scipy.interpolate import CubicSpline
from scipy.signal import argrelmin, butter, savgol_filter, sosfiltfilt

from lipwright.data.articulation import articulate
from lipwright.data.encoder import Encoding
from lipwright.data.face_space import Pose, fit_pose
from lipwright.data.faces import height_px
from lipwright.data.landmarker import Landmarker
from lipwright.data.media import BT709, Yuv, probe, read_frames
from lipwright.data.mouth import LIPS, aperture, width
from lipwright.data.speech import Speech, synthesize
from lipwright.data.talker import Talker, astronaut, talking_frames
from lipwright.data.writer import VideoWriter

SENTENCES = (
    "My mother may buy five big blue boats, and Bob will pop up above the open bay by half past one. "
    "People who jump over puddles may find a map, a lamp and a pump on top of the big box. "
    "Papa Bear, baby Bobby and a bumble bee were never able to stop a mob of happy puppies."
)
SECONDS = 15
"""So much of each video is tracked."""

NEAR_S = 0.12
"""So far before and after a closure the mouth's opening is looked for."""

Shot = Iterable[tuple[Fraction, np.ndarray]]


MODES: dict[str, Callable[[], Any]] = {
    "one face": partial(Landmarker, 1),
    "several faces": partial(Landmarker, 2),
    "pictures": partial(Landmarker, still=True),
}


def track(folder: Path, name: str, shot: Callable[[], Shot]) -> dict[str, Any]:
    """Track a shot in every mode, or find the tracks in the folder: arrays by mode, ``times_s`` and ms per frame."""
    file = folder / f"{name}.npz"
    if not file.exists():
        kept: dict[str, Any] = {}
        for mode, make in MODES.items():
            points, times, spent = [], [], 0.0
            with make() as find:
                for time, rgb in shot():
                    start = perf_counter()
                    faces, _ = find(rgb, float(time))
                    spent += perf_counter() - start
                    points.append(faces[height_px(faces).argmax()] if len(faces) else np.full((478, 3), np.nan, np.float32))
                    times.append(float(time))
            kept |= {mode: np.array(points), "times_s": np.array(times), f"{mode} ms": 1000 * spent / len(times)}
        np.savez(file, **kept)
    with np.load(file) as kept_file:
        return dict(kept_file)


@dataclass(frozen=True)
class Film:
    """How the talking photograph is filmed."""

    size: int = 320
    rate: int = 25
    noise: float = 0.0
    crf: int = 18
    sway: float = 0.0


FILMS = {
    "320 px, 25/s, crf 18": Film(),
    "160 px": Film(size=160),
    "512 px": Film(size=512),
    "30/s": Film(rate=30),
    "60/s": Film(rate=60),
    "noise 8": Film(noise=8),
    "crf 28": Film(crf=28),
    "crf 35": Film(crf=35),
    "camera sways": Film(sway=1),
}


def shoot(film: Film, speech: Speech, path: Path) -> None:
    """Write the talker's video."""
    rng = np.random.default_rng(0)
    talker = Talker.from_photo(astronaut(film.size))
    encoding = Encoding(film.size, film.size, Fraction(1, 12000), Fraction(film.rate), BT709, crf=film.crf)
    with VideoWriter(path, encoding) as writer:
        for time, frame in talking_frames(talker, speech, rate=Fraction(film.rate)):
            seen = frame.astype(np.float32)
            if film.sway:
                seen = swayed(seen, film.sway, float(time))
            seen += rng.normal(0, 1, seen.shape) * film.noise
            writer.write(Yuv.from_bgr(np.clip(seen + 0.5, 0, 255).astype(np.uint8)), time)


def swayed(picture: np.ndarray, far: float, time_s: float) -> np.ndarray:
    """Move a picture as a camera in the hand does."""
    high, wide = picture.shape[:2]
    x, y, roll, zoom = far * np.sin(2 * np.pi * time_s * np.array([0.9, 1.3, 0.7, 0.5]))
    move = cv2.getRotationMatrix2D((wide / 2, high / 2), 6 * roll, 1 + 0.05 * zoom)
    move[:, 2] += 0.04 * wide * x, 0.03 * high * y
    return cv2.warpAffine(picture, move, (wide, high), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def frames(path: Path) -> Iterator[tuple[Fraction, np.ndarray]]:
    """Read a video's first seconds."""
    return takewhile(lambda f: f[0] < SECONDS, ((f.time, f.rgb()) for f in read_frames(probe(path))))


def disturbed(path: Path, way: str, folder: Path) -> Iterator[tuple[Fraction, np.ndarray]]:
    """Read a video's first seconds, disturbed."""
    if way == "encoded":
        again = folder / f"{path.stem}.crf30.mp4"
        if not again.exists():
            with VideoWriter(again, Encoding.like(probe(path).need_video(), codec="h264", crf=30)) as writer:
                for frame in takewhile(lambda f: f.time < SECONDS, read_frames(probe(path))):
                    writer.write(frame.yuv(), frame.time)
        yield from frames(again)
        return
    rng = np.random.default_rng(len(way))
    for time, rgb in frames(path):
        high, wide = rgb.shape[:2]
        shift, zoom = (3, 1.0) if way == "shifted" else (0, 0.93)
        move = cv2.getRotationMatrix2D((wide / 2, high / 2), 0, zoom)
        move[:, 2] += shift
        seen = cv2.warpAffine(rgb, move, (wide, high), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        noisy = seen + rng.normal(0, 3, (high, wide, 1)).astype(np.float32)
        yield time, np.clip(noisy + 0.5, 0, 255).astype(np.uint8)


DISTURBANCES = ("encoded", "shifted", "smaller")

Filter = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(times_s, values (F, …)) → values."""


def fitted(times_s: np.ndarray, values: np.ndarray, sigma_s: float, order: int) -> np.ndarray:
    """Fit a polynomial of time round every frame, weighted by a gaussian: order 0 is a gaussian low-pass."""
    flat, out = values.reshape(len(values), -1), np.empty((len(values), values[0].size))
    for k, time_s in enumerate(times_s):
        away = (times_s - time_s) / sigma_s
        near = np.flatnonzero(np.abs(away) < 4)
        weight = np.exp(-(away[near] ** 2) / 2)
        powers = away[near, None] ** np.arange(min(order, max((weight > 1e-3).sum() - 1, 0)) + 1)
        out[k] = np.linalg.solve((powers.T * weight) @ powers, powers.T * weight)[0] @ flat[near]
    return out.reshape(values.shape)


def one_euro(times_s: np.ndarray, values: np.ndarray, least_hz: float, beta: float) -> np.ndarray:
    """Filter as Casiez, Roussel and Vogel (2012) do."""
    out, speed = values.copy(), np.zeros_like(values[0])
    for k, step_s in enumerate(np.diff(times_s), 1):
        speed += ((values[k] - out[k - 1]) / step_s - speed) / (1 + 1 / (2 * np.pi * step_s))
        out[k] += (out[k - 1] - values[k]) * (1 - 1 / (1 + 1 / (2 * np.pi * (least_hz + beta * np.abs(speed)) * step_s)))
    return out


def median(times_s: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Take the median of three frames."""
    return np.median([np.concatenate([values[:1], values[:-1]]), values, np.concatenate([values[1:], values[-1:]])], 0)


def low_pass(times_s: np.ndarray, values: np.ndarray, hz: float) -> np.ndarray:
    """Run a Butterworth filter forwards and backwards."""
    return sosfiltfilt(butter(2, hz, fs=1 / np.median(np.diff(times_s)), output="sos"), values, axis=0)


def savitzky_golay(times_s: np.ndarray, values: np.ndarray, frames: int, order: int) -> np.ndarray:
    """Fit a polynomial round every frame, all frames of the window alike."""
    return savgol_filter(values, frames, order, axis=0)


def undone(times_s: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Undo an exponential smoothing as strong as MediaPipe's: 0.71 of the way in a frame of 40 ms."""
    kept = np.exp(-np.diff(times_s, prepend=-np.inf) / 0.032).reshape(-1, *(1,) * (values.ndim - 1))
    return (values - kept * np.concatenate([values[:1], values[:-1]])) / (1 - kept)


FILTERS: dict[str, Filter] = {
    "as tracked": lambda times_s, values: values,
    "one euro, 2 Hz, 10": partial(one_euro, least_hz=2, beta=10),
    "one euro, 4 Hz, 30": partial(one_euro, least_hz=4, beta=30),
    "median of 3": median,
    "Savitzky–Golay 5, 2": partial(savitzky_golay, frames=5, order=2),
    "Savitzky–Golay 7, 2": partial(savitzky_golay, frames=7, order=2),
    "Savitzky–Golay 7, 4": partial(savitzky_golay, frames=7, order=4),
    "Butterworth 6 Hz": partial(low_pass, hz=6),
    "Butterworth 8 Hz": partial(low_pass, hz=8),
    "Butterworth 10 Hz": partial(low_pass, hz=10),
    "gaussian 15 ms": partial(fitted, sigma_s=0.015, order=0),
    "gaussian 20 ms": partial(fitted, sigma_s=0.020, order=0),
    "gaussian 30 ms": partial(fitted, sigma_s=0.030, order=0),
    "local parabola 30 ms": partial(fitted, sigma_s=0.030, order=2),
    "local parabola 40 ms": partial(fitted, sigma_s=0.040, order=2),
    "local parabola 60 ms": partial(fitted, sigma_s=0.060, order=2),
    "smoothing undone": undone,
    "undone, gaussian 15 ms": lambda times_s, values: fitted(times_s, undone(times_s, values), 0.015, 0),
    "undone, parabola 40 ms": lambda times_s, values: fitted(times_s, undone(times_s, values), 0.040, 2),
}
POSE_FILTERS = {f"pose alone, gaussian {ms} ms": ms / 1000 for ms in (40, 150)}
TRIED = [
    (mode, way)
    for mode in ("one face", "several faces")
    for way in (*FILTERS, *POSE_FILTERS)
    if mode == "one face" or "undone" not in way
]


def mouths(times_s: np.ndarray, points: np.ndarray, way: str) -> np.ndarray:
    """Return the mouths (F, 40, 3) of landmarks (F, 478, 3), filtered."""
    pose, lips = fit_pose(points), points[:, LIPS].astype(np.float64)
    if way in FILTERS:
        return FILTERS[way](times_s, pose.to_face(lips))
    still = partial(fitted, times_s, sigma_s=POSE_FILTERS[way], order=0)
    u, _, vt = np.linalg.svd(still(pose.rotation))
    return Pose(u @ vt, still(pose.scale), still(pose.shift)).to_face(lips)


def lag_of(times_s: np.ndarray, series: np.ndarray, truth: Callable[[np.ndarray], np.ndarray]) -> float:
    """Return by how much a series comes after the truth, in seconds, where they go together best."""
    lags = np.arange(-80, 121, 2) / 1000
    inner = (times_s > times_s[0] + 0.15) & (times_s < times_s[-1] - 0.15)
    score = np.array([np.corrcoef(series[inner], truth(times_s[inner] - lag))[0, 1] for lag in lags])
    best = int(np.clip(score.argmax(), 1, len(lags) - 2))
    left, middle, right = score[best - 1 : best + 2]
    return float(lags[best] + 0.001 * (left - right) / (left - 2 * middle + right))


def depth(times_s: np.ndarray, series: np.ndarray, closures: np.ndarray) -> float:
    """Return the mean fall from the openings beside closures to the closures: (N, 3) times before, in, after."""
    before, inside, after = (np.interp(at, times_s, series) for at in closures.T)
    return float(((before + after) / 2 - inside).mean())


def said_closures(speech: Speech) -> np.ndarray:
    """Return the closures under 120 ms that the talker is told to make, (N, 3) times."""
    steps = np.arange(0, speech.duration_s, 0.001)
    opening = articulate(speech.phones, steps)[:, 0]
    edges = np.flatnonzero(np.diff(np.concatenate([[0], (opening < 0.03).astype(int), [0]]))).reshape(-1, 2)
    return np.array(
        [
            (steps[a - 200 + opening[a - 200 : a].argmax()], steps[(a + b) // 2], steps[b + opening[b : b + 200].argmax()])
            for a, b in edges
            if b - a < 120 and a > 200 and b + 200 < len(steps)
        ]
    )


def against_truth(kept: dict[str, Any], mode: str, way: str, speech: Speech, closures: np.ndarray) -> list[float]:
    """Compare a film's track with what the talker was told."""
    times_s = kept["times_s"]
    xyz = mouths(times_s, kept[mode], way)
    seen, told = aperture(xyz), articulate(speech.phones, times_s)
    straight = np.polyval(np.polyfit(seen, told[:, 0], 1), seen)
    lag_s = lag_of(times_s, seen, CubicSpline(times_s, told[:, 0]))
    return [
        float(np.sqrt(np.mean((straight - told[:, 0]) ** 2))),
        float(np.corrcoef(seen, told[:, 0])[0, 1]),
        float(np.corrcoef(width(xyz), told[:, 1])[0, 1]),
        1000 * lag_s,
        depth(times_s - lag_s, seen, closures) / depth(times_s, told[:, 0], closures),
        float((np.diff(seen, 2) ** 2).sum() / (np.diff(told[:, 0], 2) ** 2).sum()),
    ]


def agreement(tracks: list[dict[str, Any]], mode: str, way: str) -> list[float] | None:
    """Compare the tracks of one video, each disturbed in its own way, with one another and with those not smoothed."""
    found = np.all([np.isfinite(t[m][:, 0, 0]) for t in tracks for m in ("one face", "several faces")], 0)
    if found.mean() < 0.9:
        return None
    runs = np.split(np.flatnonzero(found), np.flatnonzero(np.diff(np.flatnonzero(found)) > 1) + 1)
    run = max(runs, key=len)
    times_s = tracks[0]["times_s"][run]
    xyz = [mouths(times_s, t[mode][run], way) for t in tracks]
    seen, bare = [aperture(x) for x in xyz], [aperture(mouths(times_s, t["several faces"][run], "as tracked")) for t in tracks]
    mean, bare_mean = np.mean(seen, 0), np.mean(bare, 0)
    near = round(NEAR_S / float(np.median(np.diff(times_s))))
    lows = [k for k in argrelmin(bare_mean, order=near)[0] if near <= k < len(bare_mean) - near]
    closures = np.array(
        [(k - near + bare_mean[k - near : k].argmax(), k, k + 1 + bare_mean[k + 1 : k + 1 + near].argmax()) for k in lows]
    )
    scale = float(np.diff(np.percentile(bare_mean, (5, 90)))[0])
    closures = closures[bare_mean[closures[:, ::2]].min(1) - bare_mean[closures[:, 1]] > 0.35 * scale]
    lag_s = lag_of(times_s, mean, lambda at: np.interp(at, times_s, bare_mean))
    common = np.mean([np.corrcoef(a, b)[0, 1] for a, b in combinations(bare, 2)])
    return [
        float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in combinations(seen, 2)])),
        float(np.mean([np.corrcoef(width(a), width(b))[0, 1] for a, b in combinations(xyz, 2)])),
        float(np.mean([np.corrcoef(seen[i], bare[j])[0, 1] for i, j in permutations(range(len(seen)), 2)]) / np.sqrt(common)),
        1000 * lag_s,
        depth(times_s - lag_s, mean, times_s[closures]) / depth(times_s, bare_mean, times_s[closures]),
    ]


def show(name: str, numbers: Iterable[float]) -> None:
    """Print a row."""
    print(f"| {name} |", " | ".join(f"{n:.1f}" if abs(n) >= 2 else f"{n:.3f}" for n in numbers), "|", flush=True)


def main() -> None:
    """Track, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", type=Path)
    parser.add_argument("--keep", type=Path, required=True, metavar="FOLDER")
    args = parser.parse_args()
    args.keep.mkdir(parents=True, exist_ok=True)
    speech, films, videos = synthesize(SENTENCES, rate_wpm=180), {}, {}
    for name, film in FILMS.items():
        path = args.keep / f"{name.replace(' ', '_').replace('/', '_')}.mp4"
        if not path.exists():
            shoot(film, speech, path)
        films[name] = track(args.keep, path.stem, partial(frames, path))
    for path in args.videos:
        videos[path.stem] = [track(args.keep, f"{path.stem}-{d}", partial(disturbed, path, d, args.keep)) for d in DISTURBANCES]
    closures = said_closures(speech)
    print("| known mouth | rms | aperture_r | width_r | lag_ms | depth | jitter |")
    for mode, way in TRIED:
        show(f"{mode}: {way}", np.mean([against_truth(kept, mode, way, speech, closures) for kept in films.values()], 0))
    for name, kept in films.items():
        for mode in ("one face", "several faces"):
            show(f"{name}, {mode}", against_truth(kept, mode, "as tracked", speech, closures))
    print("| videos | aperture agrees | width agrees | r with what is common | lag_ms | depth |")
    for mode, way in TRIED:
        rows = [agreement(tracks, mode, way) for tracks in videos.values()]
        if any(rows):
            show(f"{mode}: {way}", np.mean([row for row in rows if row], 0))
    print("| frames with a face: |", " | ".join(MODES), "|")
    for name, tracks in videos.items():
        show(name, [np.mean([np.isfinite(t[mode][:, 0, 0]).mean() for t in tracks]) for mode in MODES])
    everything = [*films.values(), *(t for tracks in videos.values() for t in tracks)]
    show("ms a frame", [float(np.mean([t[f"{mode} ms"] for t in everything])) for mode in MODES])


if __name__ == "__main__":
    main()
