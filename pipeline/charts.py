"""Charts for pages: SVG that takes its colours from the page's style sheet, each value to be read on hover."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import pairwise

import numpy as np

STRIP_CELLS = 150
"""A strip of more stretches than this is drawn as so many cells, so that no page grows with what was cut."""

MOST_BINS = 14

SECONDS_APART = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600)
MOST_SECONDS = 8
"""Labels of time stand so far apart that there are at most about so many."""

LONE = 4.0
"""Length of the line that is drawn for a moment alone, of 1000."""

Stretch = tuple[float, float, str, str]
"""From, to (seconds), the style, what to say on hover."""


def strip(stretches: Sequence[Stretch], length_s: float) -> str:
    """Draw stretches of time, what was kept at full height."""
    if len(stretches) > STRIP_CELLS:
        stretches = _in_cells(stretches, length_s)
    parts = []
    for start, end, style, words in stretches:
        top, height = (0, 16) if style == "kept" else (5, 6)
        parts.append(
            f'<rect class="{style}" x="{1000 * start / length_s:.1f}" width="{max(1000 * (end - start) / length_s, 1):.1f}"'
            f' y="{top}" height="{height}"><title>{escape(words)}</title></rect>'
        )
    return f'<svg viewBox="0 0 1000 16" preserveAspectRatio="none" role="img">{"".join(parts)}</svg>'


def _in_cells(stretches: Sequence[Stretch], length_s: float) -> list[Stretch]:
    """Give each cell the style of the stretch that is longest among those in its middle; join equal neighbours."""
    starts = np.array([s[0] for s in stretches])
    edges = np.linspace(0, length_s, STRIP_CELLS + 1)
    there = np.maximum(np.searchsorted(starts, (edges[1:] + edges[:-1]) / 2, side="right") - 1, 0)
    styles = [stretches[k][2] for k in there]
    first = [0, *(k for k in range(1, STRIP_CELLS) if styles[k] != styles[k - 1]), STRIP_CELLS]
    return [(float(edges[a]), float(edges[b]), styles[a], f"about here: {stretches[there[a]][3]}") for a, b in pairwise(first)]


def histogram(
    series: Mapping[str, Sequence[float]], unit: str, what: str, *, least_step: float = 1, marks: Iterable[float] = ()
) -> str:
    """Draw how many of `what` have which value.

    Parameters
    ----------
    series
        Values by style, at least one in all; later ones stand on earlier ones.
    unit, what
        For the words on hover, such as ``"ms"`` and ``"videos"``.
    least_step
        Width of the narrowest bins.
    marks
        Values to draw a line at, where they are within the bins.
    """
    every = np.concatenate([np.asarray(values, float) for values in series.values()])
    low, high = float(every.min()), float(every.max())
    steps = (m * 10**e * least_step for e in range(9) for m in (1, 2, 5))
    step = next(s for s in steps if math.floor(high / s) - math.floor(low / s) < MOST_BINS)
    first, last = math.floor(low / step) - 1, math.floor(high / step) + 2
    edges = np.arange(first, last + 1) * step
    counts = {style: np.histogram(values, edges)[0] for style, values in series.items()}
    most = int(np.sum([*counts.values()], axis=0).max())
    width, height = 320 / (len(edges) - 1), 100
    stood = np.zeros(len(edges) - 1)
    parts = []
    for style, many in counts.items():
        for k in map(int, np.flatnonzero(many)):
            tall = height * many[k] / most
            parts.append(
                f'<rect class="{style}" x="{k * width + 1:.1f}" width="{width - 2:.1f}" y="{14 + height - stood[k] - tall:.1f}"'
                f' height="{tall:.1f}"><title>{edges[k]:g} to {edges[k + 1]:g} {unit}, {what}: {many[k]}</title></rect>'
            )
            stood[k] += tall
    peak = int(stood.argmax())
    parts.append(f'<text x="{(peak + 0.5) * width:.1f}" y="10">{most}</text>')
    parts.append(f'<line x1="0" x2="320" y1="{14 + height}" y2="{14 + height}"/>')
    apart = math.ceil(len(edges) / 8)
    for k in range(1, len(edges) - 1):
        if (first + k) % apart == 0:
            parts.append(f'<text x="{k * width:.1f}" y="{14 + height + 14}">{edges[k]:g}</text>'.replace("-", "−"))
    for mark in marks:
        if edges[0] < mark < edges[-1]:
            x = (mark - edges[0]) / step * width
            parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="14" y2="{14 + height}"/>')
    return f'<svg viewBox="0 0 320 132" role="img" aria-label="{escape(f"{what} by {unit}")}">{"".join(parts)}</svg>'


def course(
    lines: Mapping[str, np.ndarray], valid: np.ndarray, step_s: float, *, loudness: np.ndarray | None = None, what: str
) -> str:
    """Draw numbers over time, with gaps where they are not known, and how loud it is under them.

    Parameters
    ----------
    lines : mapping to ndarray, shape (T,)
        By style, from 0; later ones are drawn over earlier ones.
    valid : ndarray, shape (T,), bool
    step_s
        Time between steps.
    loudness : ndarray, shape (T,)
        Any unit, from 0.
    what
        Is drawn, in words.
    """
    steps = len(valid)
    highest = round(max(float(values[valid].max(initial=0)) for values in lines.values()), 4)
    level = next(m * 10.0**e for e in range(-3, 9) for m in (1, 2, 5) if highest <= 4.5 * m * 10.0**e)
    top = level * max(math.ceil(round(highest / level, 3)), 1)
    x = 1000 * np.arange(steps) / max(steps - 1, 1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], valid, [False]])))
    parts, labels = [], []
    tall_px = 170 if loudness is not None else 136
    for k in range(round(top / level) + 1):
        at = 130 * (1 - k * level / top)
        parts.append(f'<line x1="0" x2="1000" y1="{at:.1f}" y2="{at:.1f}"/>')
        labels.append(f'<span class="y" style="top:{100 * at / tall_px:.1f}%">{round(k * level, 4):g}</span>')
    for style, values in lines.items():
        y = 130 * (1 - values / top)
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            points = " ".join(f"{x[k]:.1f},{y[k]:.1f}" for k in range(start, end))
            if end - start == 1:  # a line needs a second point
                points += f" {x[start] + LONE:.1f},{y[start]:.1f}"
            parts.append(f'<polyline class="{style}" points="{points}"/>')
    if loudness is not None:
        tall = 17 * loudness / max(float(loudness.max()), 1e-9)
        above = " ".join(f"{x[k]:.1f},{152 - tall[k]:.1f}" for k in range(steps))
        below = " ".join(f"{x[k]:.1f},{152 + tall[k]:.1f}" for k in reversed(range(steps)))
        parts.append(f'<path d="M{above} {below}Z"/>')
    length_s = (steps - 1) * step_s
    apart = next(s for s in (*SECONDS_APART, math.inf) if length_s <= MOST_SECONDS * s)
    for k in range(int(length_s / apart) + 1):
        at_s = k * apart if k else 0
        labels.append(f'<span class="x" style="left:{100 * at_s / max(length_s, step_s):.2f}%">{clock(at_s)}</span>')
    return (
        f'<div class="plot"><svg viewBox="0 0 1000 {tall_px}" preserveAspectRatio="none" role="img"'
        f' aria-label="{escape(what)} over time">{"".join(parts)}</svg>{"".join(labels)}<div class="head"></div></div>'
    )


def clock(seconds: float) -> str:
    """Say a moment of a video, in whole seconds."""
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds // 60:.0f}:{seconds % 60:02.0f}"
