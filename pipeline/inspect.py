"""Model → what it learned: how far back through time its gradient flows, and how late it speaks."""

from __future__ import annotations

import time
from collections.abc import Sequence as Several
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lipwright.data.errors import CorpusError, InputError, require_new
from lipwright.data.features import STEP_HZ
from lipwright.data.files import sweep, whole_file
from lipwright.models.gradient_flow import gradient_flow
from lipwright.models.lipsync import LipSync
from lipwright.models.metrics import lag_curve, peak_lag_ms
from lipwright.pipeline.pool import open_corpora
from lipwright.pipeline.predict import feature_settings, load_model
from lipwright.pipeline.sequences import Sequence, apertures, arrays, gap, load_sequences

REACH_STEPS = 2 * STEP_HZ
"""The gradient is followed back for two seconds, or as far as the clips go."""

WINDOWS = 64
FADED = 0.01
"""A gradient has faded when its norm is this share of what it was at the step of the loss."""


def inspect_runs(
    runs: Several[Path | str],
    out: Path | str,
    *,
    corpus: Path | str | None = None,
    device: str = "cpu",
    seed: int = 0,
    force: bool = False,
) -> dict[str, Any]:
    """Look into trained models, and draw what is seen side by side.

    Parameters
    ----------
    runs
        Model folders.
    out
        Figure to make: .png, .svg or .pdf.
    corpus
        Whose speech they hear for it; None is for each what it was trained on.
    device
        Where the networks run.
    seed
        Chooses the windows.
    force
        Replace `out` if it exists.

    Returns
    -------
    dict
        ``figure``, ``elapsed_s``, and ``runs``, for each: ``run``, ``cell``, ``direction``, ``lookahead_ms``;
        ``gradient``, the median of ‖∂L_T/∂h_k‖ over windows of real speech at ``back_ms`` before T; ``fades_ms``, where it
        falls under a hundredth of what it is at T (None: nowhere within reach); ``lag_ms``, lags of the opening of the mouth
        after the loudness of the sound, with the correlation of the two in ``said`` by the network as it speaks and
        ``measured``; ``learned_delay_ms``, how late the network speaks after the sound that it hears, and
        ``mouth_lag_ms``, how late the measured mouth is.

    Raises
    ------
    ModelError
        A run cannot be read.
    CorpusError, InputError
        The corpus is missing or has other features; the clips are shorter than half a second; the figure's kind is unknown.
    OutputExistsError
        `out` exists and `force` is false.
    """
    began = time.perf_counter()
    out = Path(out)
    if out.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise InputError(f"{out} names no kind of figure; use .png, .svg or .pdf")
    require_new(out, force)
    looks = [_look(Path(run), None if corpus is None else Path(corpus), device, seed) for run in runs]
    sweep(out)
    with whole_file(out) as partial:
        _draw(looks, partial, out.suffix[1:].lower())
    return {"runs": looks, "figure": str(out), "elapsed_s": round(time.perf_counter() - began, 3)}


def _look(run: Path, corpus: Path | None, device: str, seed: int) -> dict[str, Any]:
    """Look into one model."""
    model = load_model(run, device)
    config = model.config
    if corpus is None and not config.corpora:
        raise InputError(f"{run} does not say what it was trained on; pass --corpus")
    corpora = open_corpora(corpus or config.corpora)
    if corpora[0].settings["features"] != feature_settings(model).to_dict():
        raise CorpusError(f"{corpora[0].folder} has other features than {run} was trained on; preprocess anew")
    train, held_out, _ = load_sequences(*corpora)
    sequences = train + held_out
    flow = _flow(model, sequences, np.random.default_rng(seed))
    faded = np.flatnonzero(flow < FADED * flow[0])
    said, measured = _lags(model, sequences)
    late_ms = config.delay_steps * 1000 // STEP_HZ  # the network speaks so much after the time that it speaks for
    lags_ms = [1000 * (k - len(said) // 2) // STEP_HZ for k in range(len(said))]
    own, real = peak_lag_ms(said), peak_lag_ms(measured)
    return {
        "run": str(run),
        "cell": config.cell,
        "direction": config.direction,
        "lookahead_ms": config.lookahead_ms,
        "back_ms": [1000 * k // STEP_HZ for k in range(len(flow))],
        "gradient": flow.tolist(),
        "fades_ms": int(faded[0]) * 1000 // STEP_HZ if len(faded) else None,
        "lag_ms": lags_ms,
        "said": said,
        "measured": measured,
        "delay_ms": late_ms,
        "learned_delay_ms": None if own is None else own + late_ms,
        "mouth_lag_ms": real,
    }


def _flow(model: LipSync, sequences: list[Sequence], rng: np.random.Generator) -> np.ndarray:
    """Return the median of ‖∂L_T/∂h_k‖ over windows of speech, for T − k = 0, 1, … (float64)."""
    late = model.config.delay_steps
    ahead = REACH_STEPS if model.config.lookahead_ms is None else late
    longest = max(len(s.features) for s in sequences)
    reach = min(REACH_STEPS, longest - ahead - STEP_HZ // 2)
    if reach < STEP_HZ // 2:
        raise InputError(f"the longest clip has {longest / STEP_HZ:.2f} s, too short to follow a gradient through")
    heard, wanted = [], []
    seen = [reach + np.flatnonzero(s.valid[reach : max(len(s.valid) - ahead, 0)]) for s in sequences]
    ends = np.cumsum([len(steps) for steps in seen])
    if not ends[-1]:
        raise InputError("no mouth is seen where sound enough comes before and after it")
    for k in rng.integers(ends[-1], size=WINDOWS):
        at = int(np.searchsorted(ends, k, side="right"))
        t = seen[at][k - ends[at]]
        sound, mouth, _ = arrays(model, sequences[at])
        heard.append(sound[t - reach : t + ahead + 1])
        wanted.append(mouth[t])
    x, y = (torch.from_numpy(np.stack(part)).to(model.feature_mean) for part in (heard, wanted))
    member = model.network.each[0]
    with torch.no_grad():
        formed = reach + model.config.lead_steps
        said = member(x)[0][:, formed if model.config.lookahead_ms is None else -1]  # ŷ_T
    # The past ends where the output is formed: a network that only hears the past goes on to the end of the look-ahead.
    past = x if model.config.direction == "forward" else x[:, : formed + 1]
    return np.median(gradient_flow(member, past, 2 * (said - y) / y.shape[1]).cpu().double().numpy(), axis=0)


def _lags(model: LipSync, sequences: list[Sequence]) -> tuple[list[float | None], list[float | None]]:
    """Return the correlation of loudness with the opening of the mouth, by lag: as predicted, and as measured."""
    loudness = feature_settings(model).mfcc  # log energy follows the coefficients
    sound = np.concatenate([gap(s.features[:, loudness]) for s in sequences])
    said, measured, valid = apertures(model, sequences)
    return lag_curve(said, sound, valid), lag_curve(measured, sound, valid)


def _draw(looks: list[dict[str, Any]], out: Path, kind: str) -> None:
    """Draw gradient flow and lags, a curve a run."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    ways = ["whole clip" if look["lookahead_ms"] is None else look["direction"] for look in looks]
    names = [f"{Path(look['run']).name} ({look['cell']}, {way})" for look, way in zip(looks, ways, strict=True)]
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}):
        figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
        for look, name in zip(looks, names, strict=True):
            flow = np.array(look["gradient"])
            left.semilogy(np.array(look["back_ms"]) / 1000, flow / flow[0], label=name)
            said = np.array(look["said"], float)
            late = np.array(look["lag_ms"]) + look["delay_ms"]
            (line,) = right.plot(late, said)
            right.plot(look["learned_delay_ms"], np.nanmax(said), "o", color=line.get_color(), markersize=4)
        left.axhline(FADED, color="0.7", linewidth=0.8, linestyle=":")
        left.set(
            xlabel="T − k, seconds back from the loss", ylabel="‖∂L$_T$/∂h$_k$‖ over its value at k = T", title="Gradient flow"
        )
        left.legend()
        measured = np.array(looks[0]["measured"], float)
        right.plot(looks[0]["lag_ms"], measured, color="0.5", linestyle="--", label="the mouth, measured")
        right.set(xlabel="output after sound, ms", ylabel="correlation of opening with loudness", title="Learned delay")
        right.legend(loc="upper left")
        figure.savefig(out, format=kind, dpi=150)
        plt.close(figure)
