"""Speed and memory, each beside a reference measured in the same run: `make bench`.

    python scripts/bench.py --out FOLDER [--videos VIDEO...]

Prints, and writes to FOLDER/bench.json:

- preprocessing against decoding + bare FaceLandmarker in as many processes (ratio of speeds, 1 = as fast);
- a training step of one member against the bare forward and backward pass of `torch.nn.LSTM`s of its shape, and with a GPU
  also how long 300 passes over a 17-hour corpus take;
- 66 seconds of sound to a mouth, features included, against bare `torch.nn.LSTM`s of one member's shape on as many steps;
- rendering 720p, track and bank cached, against bare decoding → encoding at the same encoder setting, whole processes;
- peak memory of preprocessing one minute and five of 1080p, and of a one-minute and a five-minute render.

Without --videos, it makes its own talking faces, as the demo does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from itertools import chain, islice, repeat
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import soundfile

from lipwright.data.encoder import Encoding
from lipwright.data.media import BT709, Yuv, probe, read_frames
from lipwright.data.speech import synthesize
from lipwright.data.talker import Talker, astronaut, talking_frames
from lipwright.data.writer import VideoWriter
from lipwright.pipeline.demo import LESSON, VOICE

if TYPE_CHECKING:
    import torch

RATE = Fraction(30)
WIDTH, HEIGHT = 1280, 720
SPEECH_S = 66
LONG_CORPUS_STEPS = 6_100_000
"""The paper's 17 hours, at 100 steps a second."""


def make_talker(path: Path, seconds: float, seed: int) -> None:
    """Write a 720p talker in the middle of a wide picture."""
    speech = synthesize(" ".join(LESSON.split()), voice=VOICE)
    wav = path.with_suffix(".wav")
    soundfile.write(wav, speech.samples[: round(seconds * speech.rate_hz)], speech.rate_hz)
    talker = Talker.from_photo(astronaut(HEIGHT))
    with VideoWriter(path, Encoding(WIDTH, HEIGHT, 1 / RATE / 512, RATE, BT709), audio=probe(wav)) as writer:
        for when, picture in talking_frames(talker, speech, rate=RATE, seed=seed):
            if when >= seconds:
                break
            side = (WIDTH - HEIGHT) // 2
            wide = np.pad(picture, ((0, 0), (side, side), (0, 0)), mode="edge")
            writer.write(Yuv.from_bgr(wide), when)


def enlarge(source: Path, path: Path, minutes: int) -> None:
    """Write a video as 1080p, over and over."""
    samples, rate_hz = soundfile.read(source.with_suffix(".wav"))
    wav = path.with_suffix(".wav")
    soundfile.write(wav, np.resize(samples, minutes * 60 * rate_hz), rate_hz)
    frames = chain.from_iterable(read_frames(probe(source)) for _ in repeat(None))
    with VideoWriter(path, Encoding(1920, 1080, 1 / RATE / 512, RATE, BT709, crf=23), audio=probe(wav)) as writer:
        for k, frame in enumerate(islice(frames, int(minutes * 60 * RATE))):
            planes = vars(frame.yuv()).values()
            writer.write(Yuv(*(cv2.resize(plane, None, fx=1.5, fy=1.5) for plane in planes)), k / RATE)


def track_bare(path: str) -> int:
    """Decode a video and run FaceLandmarker on it, and nothing else; return its frames."""
    import mediapipe as mp

    from lipwright.data.landmarker import model_path

    vision = mp.tasks.vision
    options = vision.FaceLandmarkerOptions(
        base_options=mp.tasks.BaseOptions(model_asset_path=str(model_path())),
        running_mode=vision.RunningMode.VIDEO,
        num_faces=1,
        output_face_blendshapes=True,
    )
    count = 0
    with vision.FaceLandmarker.create_from_options(options) as landmarker:
        for frame in read_frames(probe(path), threads=1):
            image = mp.Image(image_format=mp.ImageFormat.SRGB, data=frame.rgb())
            landmarker.detect_for_video(image, round(frame.time * 1000))
            count += 1
    return count


def track_bare_all(paths: list[str]) -> None:
    """Track videos in one process each."""
    with get_context("spawn").Pool(len(paths)) as pool:
        pool.map(track_bare, paths)


def transcode(source: str, out: str) -> None:
    """Decode and encode, and nothing else, at the renderer's encoder setting."""
    media = probe(source)
    video = media.need_video()
    with VideoWriter(Path(out), Encoding.like(video), audio=media) as writer:
        for frame in read_frames(media):
            writer.write(frame.yuv(), frame.time)


def bare_stacks(inputs: int, hidden: int, layers: int, both: bool) -> torch.nn.ModuleList:
    """Make what our network is without all that is around it: a `torch.nn.LSTM` for the past, and one for the future."""
    import torch

    return torch.nn.ModuleList([torch.nn.LSTM(inputs, hidden, layers, batch_first=True) for _ in range(1 + both)])


def training_step(corpus: Path, device: str, rounds: int = 9) -> dict[str, float]:
    """Time our training step and the bare pass in turn, on a corpus; return the medians (ms) and their ratio.

    On a GPU, whatever makes the host wait inside an epoch is reported as a warning.
    """
    import torch

    from lipwright.data.corpus import Corpus
    from lipwright.data.features import FeatureSettings
    from lipwright.pipeline.course import build_model
    from lipwright.pipeline.fit import Fit
    from lipwright.pipeline.processes import Team
    from lipwright.pipeline.sequences import load_sequences
    from lipwright.pipeline.settings import TrainSettings

    opened, settings = Corpus.load(corpus), TrainSettings(members=1)
    train, _, scale = load_sequences(opened)
    fit = Fit(build_model(train, FeatureSettings(), settings, scale).to(device), train, [], settings, 0, Team())
    both = settings.direction != "forward"
    bare = bare_stacks(fit.x.shape[1], settings.hidden, settings.layers, both).to(device)
    x = torch.randn(settings.streams, fit.chunk, fit.x.shape[1], device=device)
    by_h = torch.randn(settings.streams, fit.chunk, settings.hidden, device=device)

    def pass_bare() -> None:
        for _ in range(fit.steps_per_epoch):
            bare.zero_grad(set_to_none=True)
            with torch.autocast(device, torch.float16, enabled=device == "cuda"):
                said = [stack(x)[0] for stack in bare]
            torch.autograd.backward(said, [by_h.to(h.dtype) for h in said])

    def pass_ours() -> None:
        fit.epoch += 1
        fit.train_epoch(fit.network)

    def ms(run: Callable[[], None]) -> float:
        began = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        return 1000 * (time.perf_counter() - began) / fit.steps_per_epoch

    pass_bare()
    pass_ours()
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("warn")
    times = np.array([(ms(pass_ours), ms(pass_bare)) for _ in range(rounds)])
    ours, theirs = np.median(times, 0)
    return {
        "ms": round(float(ours), 2),
        "bare_ms": round(float(theirs), 2),
        "ratio": round(float(np.median(times[:, 0] / times[:, 1])), 3),
        "heard_steps": settings.streams * fit.chunk,
    }


def prediction(run: Path, rounds: int = 9) -> dict[str, float]:
    """Time sound → features → mouth, and a bare LSTM, in turn; return the medians (s) and their ratio."""
    import torch

    from lipwright.data.audio import SAMPLE_RATE_HZ
    from lipwright.data.features import compute_features
    from lipwright.pipeline.predict import feature_settings, load_model

    model = load_model(run)
    config, settings = model.config, feature_settings(model)
    samples = np.random.default_rng(0).normal(0, 0.1, SPEECH_S * SAMPLE_RATE_HZ).astype(np.float32)
    both = config.direction == "both"
    bare = bare_stacks(config.feature_size, config.hidden, config.layers, both)
    x = torch.randn(1, len(compute_features(samples, settings)), config.feature_size)

    def seconds(run: Callable[[], Any]) -> float:
        began = time.perf_counter()
        with torch.inference_mode():
            run()
        return time.perf_counter() - began

    pair = (lambda: model.predict(compute_features(samples, settings)), lambda: [stack(x) for stack in bare])
    times = np.array([[seconds(what) for what in pair] for _ in range(rounds + 1)])[1:]  # the first warms up
    ours, theirs = np.median(times, 0)
    ratio = float(np.median(times[:, 0] / times[:, 1]))
    return {"s": round(float(ours), 3), "bare_s": round(float(theirs), 3), "ratio": round(ratio, 2)}


def timed(command: list[str], cache: Path) -> tuple[float, float]:
    """Run a command as a whole process; return its wall time (s) and peak memory (MB)."""
    began = time.perf_counter()
    child = subprocess.Popen(
        command,
        env=os.environ | {"LIPWRIGHT_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed with status {status}")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def told(peaks: dict[int, float]) -> dict[str, float]:
    """Name the peaks of one minute and five."""
    return {f"{m}_min": round(p, 1) for m, p in peaks.items()} | {"ratio": round(peaks[5] / peaks[1], 3)}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--videos", nargs="+", type=Path, default=[], help="talking people, the first one for rendering")
    args = parser.parse_args()
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    from lipwright.data.landmarker import MODEL_NAME, model_path

    cache = out / "cache"
    cache.mkdir(exist_ok=True)
    if not (cache / MODEL_NAME).exists():
        (cache / MODEL_NAME).symlink_to(model_path().resolve())
    videos = args.videos
    if not videos:
        videos = [out / "talker0.mp4", out / "talker1.mp4"]
        for seed, path in enumerate(videos):
            if not path.exists():
                make_talker(path, 30.0, seed)
    lipwright = str(Path(sys.executable).parent / "lipwright")
    here = str(Path(__file__).resolve())
    result: dict[str, Any] = {"videos": [str(v) for v in videos]}

    paths = [str(v) for v in videos]
    frames = sum(1 for v in videos for _ in read_frames(probe(v)))
    bare_s, _ = timed([sys.executable, here, "--out", str(out), "--child", "track", *paths], cache)
    for old in (cache / "tracks").glob("*"):
        old.unlink()
    corpus = str(out / "corpus")
    ours_s, _ = timed([lipwright, "preprocess", *paths, "--out", corpus, "--force", "-q"], cache)
    result["preprocess"] = {
        "frames_per_s": round(frames / ours_s, 1),
        "bare_frames_per_s": round(frames / bare_s, 1),
        "ratio": round(bare_s / ours_s, 3),
    }
    print("preprocess:", json.dumps(result["preprocess"]), flush=True)

    talker = out / "talker0.mp4"
    if not talker.exists():
        make_talker(talker, 30.0, 0)
    peaks = {}
    for minutes in (1, 5):
        large = out / f"large{minutes}.mp4"
        if not large.exists():
            enlarge(talker, large, minutes)
        alone = [lipwright, "preprocess", str(large), "--out", str(out / "large"), "--workers", "1", "--force", "-q"]
        _, peaks[minutes] = timed(alone, cache)
    result["preprocess_peak_rss_mb"] = told(peaks)
    print("memory of preprocessing:", json.dumps(result["preprocess_peak_rss_mb"]), flush=True)

    import torch

    result["training_step"] = {"cpu": training_step(Path(corpus), "cpu")}
    if torch.cuda.is_available():
        on_gpu = training_step(Path(corpus), "cuda")
        passes_s = 300 * LONG_CORPUS_STEPS / on_gpu["heard_steps"] * on_gpu["ms"] / 1000
        result["training_step"] |= {"cuda": on_gpu, "300_passes_of_17_hours_s": round(passes_s)}
    print("training step:", json.dumps(result["training_step"]), flush=True)

    run = str(out / "run")
    timed([lipwright, "train", corpus, "--out", run, "--epochs", "3", "--force", "-q"], cache)
    result["prediction"] = prediction(Path(run))
    print("prediction:", json.dumps(result["prediction"]), flush=True)
    target = videos[0]
    render = [lipwright, "render", "--model", run, "--target", str(target), "--force", "-q"]
    video_out = str(out / "rendered.mp4")

    def rendered(audio: Path) -> tuple[float, float]:
        for kept in (cache / "spans").glob("*"):
            kept.unlink()
        return timed([*render, "--audio", str(audio), "--out", video_out], cache)

    rendered(target)  # fills the bank
    render_s, _ = rendered(target)
    copy = [sys.executable, here, "--out", str(out), "--child", "transcode", str(target), str(out / "copied.mp4")]
    copy_s, _ = timed(copy, cache)
    count = sum(1 for _ in read_frames(probe(target)))
    video = probe(target).need_video()
    result["render"] = {
        "size": f"{video.width}x{video.height}",
        "frames": count,
        "frames_per_s": round(count / render_s, 1),
        "transcode_frames_per_s": round(count / copy_s, 1),
        "ratio": round(copy_s / render_s, 3),
    }
    print("render:", json.dumps(result["render"]), flush=True)

    peaks = {}
    speech = synthesize(" ".join(LESSON.split()), voice=VOICE)
    for minutes in (1, 5):
        wav = out / f"{minutes}min.wav"
        length = minutes * 60 * speech.rate_hz
        soundfile.write(wav, np.resize(speech.samples, length), speech.rate_hz)
        _, peaks[minutes] = rendered(wav)
    result["peak_rss_mb"] = told(peaks)
    print("memory of rendering:", json.dumps(result["peak_rss_mb"]))
    (out / "bench.json").write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    if "--child" in sys.argv:
        what, *rest = sys.argv[sys.argv.index("--child") + 1 :]
        track_bare_all(rest) if what == "track" else transcode(*rest)
    else:
        main()
