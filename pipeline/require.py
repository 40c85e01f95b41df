"""Thresholds for an evaluation: which metrics there are, what is good, and what it means to require a number of one.

A threshold is on the mean over the videos, of those that have the metric; of `lag_ms` on the mean of its absolute value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Metric:
    """What is good, whether the least or the most is required, and what it takes to have the metric at all."""

    good: str
    at_least: bool
    null: str


_STILL = "the mouth, predicted or measured, does not move"
_UNSEEN = "the mouth is nowhere seen"

MOUTH = {
    "aperture_r": Metric("1", True, _STILL),
    "aperture_gain": Metric("1", True, "the measured mouth does not move"),
    "width_r": Metric("1", True, _STILL),
    "lmd": Metric("0", False, _UNSEEN),
    "lmd_ratio": Metric("below 1", False, _UNSEEN),
    "lag_ms": Metric("0", False, _STILL),
    "closure_f1": Metric("1", True, "fewer than 5 closures are seen"),
    "jitter_ratio": Metric("1", False, "the mouth is nowhere seen for half a second without a gap"),
}
"""Of a mouth against the measured one."""

MASK = {
    "outside_max_abs": Metric("0", False, "nothing was painted"),
    "mask_share": Metric("below 1", False, "nothing was painted"),
}
PICTURE = {
    "mouth_psnr": Metric("high", True, "nothing was painted"),
    "mouth_ssim": Metric("1", True, "nothing was painted"),
    "sharpness_ratio": Metric("1", True, "nothing was painted"),
    "flicker_ratio": Metric("1", False, "no three frames in a row were painted"),
}
"""Of the painted picture against what was filmed."""

SYNCNET = {
    "lse_d": Metric("low", False, "no two seconds show the face without a gap"),
    "lse_c": Metric("high", True, "no two seconds show the face without a gap"),
}

METRICS = (
    MOUTH
    | {f"render.{name}": metric for name, metric in (MOUTH | MASK | PICTURE).items()}
    | {f"render.model.{name}": metric for name, metric in (MOUTH | MASK).items()}
    | {f"syncnet.result.{name}": metric for name, metric in SYNCNET.items()}
)
"""All that a number can be required of, by its place in the result of `evaluate_model`."""


def parse(text: str) -> dict[str, float]:
    """Read thresholds as they are given on the command line: ``aperture_r=0.6,lag_ms=45``.

    Raises
    ------
    ValueError
        With words for people: a metric that there is none of, or a value that is no number.
    """
    thresholds: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise ValueError(f"cannot read {part.strip()!r}; write METRIC=NUMBER, with commas between. {_known()}")
        if name in thresholds:
            raise ValueError(f"{name} is required twice; give it one threshold")
        check_name(name)
        try:
            thresholds[name] = float(value)
        except ValueError:
            thresholds[name] = math.nan
        if not math.isfinite(thresholds[name]):
            raise ValueError(f"{value!r} is no number to require of {name}; write {name}=0.5, say")
    return thresholds


def check_name(name: str) -> None:
    """Raise `ValueError` if there is no such metric."""
    if name not in METRICS:
        raise ValueError(f"there is no metric {name!r}. {_known()}")


def check_measured(thresholds: Mapping[str, float], *, render: bool, syncnet: bool) -> None:
    """Raise `ValueError` if a number is required of what is not to be measured."""
    for name in thresholds:
        check_name(name)
        for part, measured in (("render", render), ("syncnet", syncnet)):
            if name.startswith(f"{part}.") and not measured:
                raise ValueError(f"{name} is required, but not measured; add --{part}{' FILE' if part == 'syncnet' else ''}")


def _known() -> str:
    return f"There are {', '.join(MOUTH)}; render.NAME and render.model.NAME of these; " + ", ".join(
        name for name in METRICS if name.rpartition(".")[2] not in MOUTH
    )


def judge(thresholds: Mapping[str, float], clips: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Compare each threshold with the mean over the clips that have the metric.

    Returns
    -------
    list of dict
        ``metric``, ``threshold``, ``value`` (null if no clip has it), ``pass``; and ``why`` of a value that is null.
    """
    return [_judge(name, threshold, clips) for name, threshold in thresholds.items()]


def _judge(name: str, threshold: float, clips: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    metric = METRICS[name]
    values = [abs(value) if name.endswith("lag_ms") else value for value in _values(name, clips)]
    if not values:
        return {"metric": name, "threshold": threshold, "value": None, "pass": False, "why": metric.null}
    mean = float(np.mean(values))
    return {
        "metric": name,
        "threshold": threshold,
        "value": mean,
        "pass": mean >= threshold if metric.at_least else mean <= threshold,
    }


def _values(name: str, clips: Sequence[Mapping[str, Any]]) -> Iterator[float]:
    for clip in clips:
        value: Any = clip
        for part in name.split("."):
            value = (value or {}).get(part)
        if value is not None:
            yield value


def in_words(judged: Mapping[str, Any]) -> str:
    """Say what was required, and what came of it."""
    name, value = judged["metric"], judged["value"]
    bound = f"{'at least' if METRICS[name].at_least else 'at most'} {judged['threshold']:g}"
    shown = f"|{name}|" if name.endswith("lag_ms") else name
    if value is None:
        return f"{shown} is null, required {bound}: {judged['why']}"
    alike = f"{value:.4g}" == f"{judged['threshold']:.4g}"
    return f"{shown} is {value:{'' if alike else '.4g'}}, required {bound}"
