"""Figures about time: the one clock of a file, and what a mouth has heard."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from drawing import BLUE, GOLD, INK, PALE, QUIET, RED, sheet

from lipwright.data.audio import SAMPLE_RATE_HZ, read_speech
from lipwright.data.encoder import Encoding
from lipwright.data.features import STEP_HZ, FeatureSettings
from lipwright.data.media import BT709, Yuv, probe, read_frames
from lipwright.data.mouth import Speaker, aperture
from lipwright.data.speech import synthesize
from lipwright.data.writer import VideoWriter
from lipwright.models.recurrent import Recurrent
from lipwright.pipeline.predict import base_model, predict_mouth
from lipwright.pipeline.settings import DELAY_MS

SAID = "Papa may buy a map. Who knows?"

SHOWN_S = 0.7
FILM = Fraction(24000, 1001)
LATE = Fraction(2, 25)
"""When the picture begins: a recorder often begins with the sound."""

TELEPHONE_MS = (80, 113, 147, 180, 247, 280, 314, 380, 413, 447, 480, 547, 580, 614, 680, 714, 747)
"""When a telephone took its pictures: 30 a second are meant, and some are missing."""

HEARD_S, MOUTH_S = 1.6, 0.6
"""How much sound is heard, and of which mouth it is asked."""

WAYS = {
    "forward": "forward: one network, read off 200 ms late",
    "both": "both: a second one reads back from 400 ms ahead",
    "whole": "whole: it reads back from the end of the clip",
}


def draw_clock(folder: Path) -> Any:
    """One clock: sound, pictures at any rate, and the prediction that is read at their times."""
    wav = folder / "said.wav"
    speech = synthesize(SAID, voice="gmw/en-US+f3")
    soundfile.write(wav, speech.samples, speech.rate_hz, subtype="PCM_16")
    count = int(SHOWN_S * FILM) + 2
    film = _film(folder / "film.mp4", wav, FILM, [LATE + k / FILM for k in range(count)])
    telephone = _film(folder / "telephone.mp4", wav, Fraction(30), [Fraction(ms, 1000) for ms in TELEPHONE_MS])
    samples, lipsync = read_speech(probe(wav)), base_model()
    neutral = lipsync.neutral.cpu().numpy()
    mouth = predict_mouth(lipsync, samples, Speaker(neutral, lipsync.config.scale))

    figure = sheet(7.4)
    sound, first, second, curve = figure.subplots(4, 1, sharex=True, height_ratios=[0.7, 0.55, 0.55, 1.8])
    _wave(sound, samples)
    sound.set_title("sound: from 0.000 s")
    for axes, times_s, colour in ((first, film, BLUE), (second, telephone, RED)):
        axes.bar(times_s[:-1], 1, np.diff(times_s), align="edge", color=colour, alpha=0.25, edgecolor=colour)
        axes.set_ylim(0, 1)
        _bare(axes)
    told_s = np.arange(count) / float(FILM)
    first.plot(told_s[told_s < SHOWN_S], np.full((told_s < SHOWN_S).sum(), 0.5), "x", color=INK, markersize=8, clip_on=False)
    first.set_title(f"frames at 23.976 a second: from {film[0]:.3f} s (×: what frame / rate would say)")
    second.set_title(f"frames at a variable rate: from {telephone[0]:.3f} s, some missing")
    steps_s, opening = mouth.times_s, mouth.measure(aperture)
    curve.plot(steps_s, opening, ".-", color=INK, linewidth=1, markersize=4, label="prediction, 100 a second")
    for times_s, colour, mark, below in ((film, BLUE, "o", first), (telephone, RED, "s", second)):
        shapes, _ = mouth.at(times_s)
        rate = "23.976" if below is first else "variable"
        curve.plot(times_s, aperture(shapes), mark, color=colour, markersize=8, alpha=0.85, label=f"read for {rate}")
    curve.set(xlim=(0, SHOWN_S), xlabel="time on the file's clock (s)", ylabel="opening of the mouth", yticks=[])
    curve.set_ylim(0, 1.45 * float(opening[steps_s < SHOWN_S].max()))
    curve.legend(loc="upper right", ncols=3, fontsize=11.5, handletextpad=0.3, columnspacing=1.0)
    return figure


def draw_delay(folder: Path) -> Any:
    """Three ways to hear: which sound can change one mouth, found by asking networks for their gradient."""
    speech = synthesize(SAID, voice="gmw/en-US+f3")
    wav = folder / "heard.wav"
    soundfile.write(wav, speech.samples, speech.rate_hz, subtype="PCM_16")
    samples = np.pad(read_speech(probe(wav)), (0, 2 * SAMPLE_RATE_HZ))[: round(HEARD_S * SAMPLE_RATE_HZ)]
    reach_s = FeatureSettings().reach_ms / 1000
    figure = sheet(6.6)
    panels = figure.subplots(3, 1, sharex=True)
    for axes, direction in zip(panels, WAYS, strict=True):
        ms = DELAY_MS[direction]
        wait = None if ms is None else int((ms / 1000 - reach_s) * STEP_HZ)
        past, future = _heard(direction, wait)
        said_s = HEARD_S if ms is None else MOUTH_S + ms / 1000
        _wave(axes, samples, PALE)
        for (begin_s, end_s), colour, way in ((past, BLUE, "->"), (future, RED, "<-")):
            if end_s > begin_s:
                _wave(axes, samples, colour, (begin_s, min(end_s + reach_s, HEARD_S)))
                axes.annotate("", (end_s, -1.25), (begin_s, -1.25), arrowprops={"arrowstyle": way, "color": colour, "lw": 2.5})
        axes.axvline(MOUTH_S, color=INK, linewidth=2)
        axes.plot(min(said_s, HEARD_S), 1.05, "v", color=GOLD, markersize=13, clip_on=False)
        axes.set_ylim(-1.5, 1.2)
        _bare(axes)
        axes.set_title(WAYS[direction])
    panels[0].text(MOUTH_S - 0.012, 1.12, "the mouth of time t", ha="right", va="top")
    panels[0].text(MOUTH_S + 0.225, 1.12, "when it can be said", ha="left", va="top")
    ticks_ms = range(-600, 1001, 200)
    panels[-1].set(xlim=(0, HEARD_S), xlabel="time of the sound, ms from t")
    panels[-1].set_xticks([MOUTH_S + ms / 1000 for ms in ticks_ms], [f"{ms:+d}" if ms else "t" for ms in ticks_ms])
    return figure


def _heard(direction: str, wait: int | None) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return from when to when sound can change the mouth at `MOUTH_S`: through the network of the past, and of the future."""
    torch.manual_seed(0)
    way = "forward" if direction == "forward" else "both"
    network = Recurrent(28, 20, layers=2, direction=way, lookahead=None if way == "forward" else wait).double().eval()
    x = torch.randn(1, round(HEARD_S * STEP_HZ), 28, dtype=torch.float64, requires_grad=True)
    at = round(MOUTH_S * STEP_HZ) + (wait or 0)
    hidden = network.hear(x)[0][0, at]  # (H,), or the past's and the future's, (2 H,)
    spans = []
    for half in hidden.split(60):
        (slope,) = torch.autograd.grad(half.sum(), x, retain_graph=True)
        steps = torch.nonzero(slope[0].abs().sum(1))[:, 0]
        spans.append((float(steps[0]) / STEP_HZ, float(steps[-1]) / STEP_HZ))
    return spans[0], spans[1] if len(spans) > 1 else (0.0, 0.0)


def _film(path: Path, wav: Path, rate: Fraction, times: list[Fraction]) -> np.ndarray:
    """Write a video with grey pictures at given times, and return the times that are read from it."""
    grey = Yuv(*(np.full(shape, 128, np.uint8) for shape in ((32, 32), (16, 16), (16, 16))))
    encoding = Encoding(32, 32, Fraction(1, 24000), rate, BT709)
    with VideoWriter(path, encoding, audio=probe(wav)) as writer:
        for time in times:
            writer.write(grey, time)
    return np.array([float(frame.time) for frame in read_frames(probe(path))])


def _wave(axes: Any, samples: np.ndarray, colour: str = QUIET, span_s: tuple[float, float] = (0, np.inf)) -> None:
    """Draw sound, or a part of it, as high as it is loud."""
    hop = SAMPLE_RATE_HZ // 160
    tall = np.abs(samples[: len(samples) // hop * hop]).reshape(-1, hop).max(1)
    tall = np.maximum(tall / tall.max(), 0.03)
    times_s = (np.arange(len(tall)) + 0.5) * hop / SAMPLE_RATE_HZ
    seen = (times_s >= span_s[0]) & (times_s <= span_s[1])
    axes.fill_between(times_s[seen], -tall[seen], tall[seen], color=colour, linewidth=0)
    _bare(axes)


def _bare(axes: Any) -> None:
    """Take away the axis that says nothing."""
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
