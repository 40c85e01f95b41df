"""The commands that train models, judge them, and look into them: train, evaluate, inspect."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from lipwright.pipeline.cli.command import (
    EXIT_REQUIRED,
    EXIT_SOME_FAILED,
    EXIT_USAGE,
    MODEL_HELP,
    Common,
    Failure,
    columns,
    command,
    progress_bar,
    tell,
)
from lipwright.pipeline.settings import TrainSettings, help_of

_HELP = help_of(TrainSettings)
_DEFAULT = TrainSettings()


class Cell(StrEnum):
    """What a network is made of."""

    lstm = "lstm"
    gru = "gru"
    rnn_tanh = "rnn-tanh"
    rnn_relu = "rnn-relu"


class Direction(StrEnum):
    """Which way a network hears."""

    forward = "forward"
    both = "both"
    whole = "whole"


@command
def train(
    corpora: Annotated[
        list[Path], typer.Argument(metavar="CORPUS...", help="Folders made by preprocess; a video in several counts once.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Model folder to make.")],
    cell: Annotated[Cell, typer.Option("--cell", help=_HELP["cell"])] = Cell(_DEFAULT.cell),
    direction: Annotated[Direction, typer.Option("--direction", help=_HELP["direction"])] = Direction(_DEFAULT.direction),
    delay_ms: Annotated[float | None, typer.Option("--delay-ms", min=13, help=_HELP["delay_ms"])] = _DEFAULT.delay_ms,
    bptt_s: Annotated[float, typer.Option("--bptt-s", help=_HELP["bptt_s"])] = _DEFAULT.bptt_s,
    hidden: Annotated[int, typer.Option("--hidden", min=1, help=_HELP["hidden"])] = _DEFAULT.hidden,
    layers: Annotated[int, typer.Option("--layers", min=1, help=_HELP["layers"])] = _DEFAULT.layers,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help=_HELP["epochs"])] = _DEFAULT.epochs,
    init: Annotated[
        str,
        typer.Option(
            "--init",
            metavar="base|none|RUN",
            help="What to start from: the base model, which knows speech, if the network is built like it; nothing; or a run, "
            "of many speakers, say, to learn one more.",
        ),
    ] = "base",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted training.")] = False,
    *,
    common: Common,
) -> None:
    """Train a model on a corpus, or on several. torchrun --no-python lipwright train … trains in several processes."""
    from lipwright.pipeline import train_model

    settings = replace(
        _DEFAULT,
        cell=cell.value,
        direction=direction.value,
        delay_ms=delay_ms,
        bptt_s=bptt_s,
        hidden=hidden,
        layers=layers,
        epochs=epochs,
    )
    with progress_bar(common.quiet) as progress:
        result = train_model(
            corpora,
            out,
            settings,
            init=init,
            device=common.device.value,
            seed=common.seed,
            force=common.force,
            resume=resume,
            progress=progress,
        )
    tell(result, common.json, lambda: _trained(result))


def _trained(result: dict[str, Any]) -> str:
    quality = "without validation" if result["val_loss"] is None else f"validation loss {result['val_loss']:.4f}"
    if result["val_aperture_r"] is not None:
        quality += f", aperture r {result['val_aperture_r']:.3f}"
    begun = "" if result["init"] == "none" else f" from {result['init']}"
    return f"{result['run']}: epoch {result['epochs']}{begun}, {quality}, in {result['elapsed_s']:.1f} s"


@command
def evaluate(
    videos: Annotated[list[Path], typer.Argument(metavar="VIDEO...", help="Talking people, with their own sound.")],
    model: Annotated[Path | None, typer.Option("--model", help=MODEL_HELP)] = None,
    render: Annotated[bool, typer.Option("--render", help="Also paint the mouth, and judge the picture.")] = False,
    bank: Annotated[
        Path | None,
        typer.Option(
            "--bank", help="Other footage to take mouths from; else the first 75 % of each video with --render, or all."
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Folder to make, with a page that shows numbers, curves and films.")
    ] = None,
    require: Annotated[
        str | None,
        typer.Option("--require", metavar="METRIC=NUMBER,...", help="End with exit code 6 if a mean misses one of these."),
    ] = None,
    syncnet: Annotated[
        Path | None, typer.Option("--syncnet", help="Weights of SyncNet, to judge source and result by LSE-D and LSE-C.")
    ] = None,
    *,
    common: Common,
) -> None:
    """Judge a model: its own sound drives each video's mouth, and its own mouth is the truth."""
    from lipwright.pipeline.require import check_measured, in_words, parse

    for option, given in (("--bank", bank), ("--syncnet", syncnet)):
        if given is not None and not render and report is None:
            raise Failure(EXIT_USAGE, f"{option} goes with --render or --report")
    try:
        thresholds = {} if require is None else parse(require)
        check_measured(thresholds, render=render, syncnet=syncnet is not None)
    except ValueError as error:
        raise Failure(EXIT_USAGE, str(error)) from None
    from lipwright.pipeline import evaluate_model

    with progress_bar(common.quiet) as progress:
        result = evaluate_model(
            model,
            videos,
            render=render,
            bank=bank,
            report=report,
            require=thresholds,
            syncnet=syncnet,
            device=common.device.value,
            force=common.force,
            progress=progress,
        )
    tell(result, common.json, lambda: judged(result))
    failed = [clip["error"] for clip in result["clips"] if "error" in clip]
    missed = [in_words(each) for each in result.get("require", []) if not each["pass"]]
    if failed or missed:  # the quality that was asked for is what the caller waits to hear of
        raise Failure(EXIT_REQUIRED if missed else EXIT_SOME_FAILED, "\n".join([*failed, *missed]))


def judged(result: dict[str, Any]) -> str:
    """Lay the metrics out, one table a clip, the baselines beside the model; and say where the report is."""
    clips = [clip for clip in result["clips"] if "error" not in clip]
    if len(clips) > 1:
        clips.append(result["mean"] | {"path": f"mean of {len(clips)}"})
    parts = [_table(clip) for clip in clips]
    if "report" in result:
        parts.append(f"what it looks and sounds like: {result['report']}")
    return "\n\n".join(parts)


def _table(clip: dict[str, Any]) -> str:
    judges = {"model": clip, "ridge": clip["baselines"]["ridge"], "mean mouth": clip["baselines"]["mean_mouth"]}
    if (painted := clip.get("render")) is not None:
        judges |= {"painted: measured": painted, "painted: model": painted["model"], "untouched": painted["untouched"]}
    if (synced := clip.get("syncnet")) is not None:
        judges |= {"SyncNet: source": synced["source"], "SyncNet: result": synced["result"]}
    metrics = dict.fromkeys(k for column in judges.values() for k, v in column.items() if isinstance(v, int | float | None))
    rows = [[Path(clip["path"]).name + (" (trained on)" if clip.get("seen") else ""), *judges]]
    for metric in [m for m in metrics if m != "seen"]:
        cells = [column.get(metric) for column in judges.values()]
        rows.append([metric, *("–" if cell is None else f"{cell:.3f}" for cell in cells)])
    return columns(rows)


@command
def inspect(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Model folders made by train.")],
    corpus: Annotated[
        Path | None, typer.Option("--corpus", help="Whose speech they hear; by default what each was trained on.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Figure to make: .png, .svg or .pdf.")] = Path("inspect.png"),
    *,
    common: Common,
) -> None:
    """Show what networks learned: how far back their gradient flows, and how late they speak."""
    from lipwright.pipeline import inspect_runs

    result = inspect_runs(runs, out, corpus=corpus, device=common.device.value, seed=common.seed, force=common.force)
    tell(result, common.json, lambda: _looked(result))


AT_MS = (0, 50, 100, 200, 500, 1000, 2000)


def _looked(result: dict[str, Any]) -> str:
    """Lay the gradients out, one row a run."""
    rows = [["gradient, ms back:", *map(str, AT_MS), "fades at", "speaks after sound", "mouth after sound"]]
    for look in result["runs"]:
        flow = dict(zip(look["back_ms"], look["gradient"], strict=True))
        cells = [f"{flow[at] / flow[0]:.2g}" if at in flow else "–" for at in AT_MS]
        ends = [look["fades_ms"], look["learned_delay_ms"], look["mouth_lag_ms"]]
        rows.append([look["run"], *cells, *("–" if end is None else f"{end:.0f} ms" for end in ends)])
    return f"{columns(rows)}\n\n{result['figure']}"
