"""The command line: parse, call, translate errors to words and exit codes. Heavy imports stand where they are used."""

from __future__ import annotations

import time

_BEGAN = time.perf_counter()  # `elapsed_s` counts the imports too

import json  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
from collections import Counter  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from dataclasses import dataclass, replace  # noqa: E402
from enum import StrEnum  # noqa: E402
from inspect import Signature, signature  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Annotated, Any  # noqa: E402

import typer  # noqa: E402

from lipwright.data.errors import LipwrightError, MissingPartError  # noqa: E402
from lipwright.data.threads import one_heap  # noqa: E402
from lipwright.models.errors import ModelError  # noqa: E402
from lipwright.pipeline.settings import TrainSettings, help_of  # noqa: E402

EXIT_UNEXPECTED, EXIT_USAGE, EXIT_INPUT, EXIT_MISSING, EXIT_SOME_FAILED, EXIT_INTERRUPTED = 1, 2, 3, 4, 5, 130
DEBUG_VARIABLE = "LIPWRIGHT_DEBUG"

app = typer.Typer(
    name="lipwright",
    help="Lip-sync real video to speech. Ask the person in the video for consent; rendered files say that they are synthetic.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
from lipwright.pipeline.progress import Progress  # noqa: E402


class Device(StrEnum):
    """Where the network runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


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


class Face(StrEnum):
    """Which of several faces is followed."""

    largest = "largest"
    left = "left"
    right = "right"
    track = "track"


@dataclass(frozen=True)
class Common:
    """The options that every command has."""

    json: Annotated[bool, typer.Option("--json", help="Print exactly one JSON document on stdout.")] = False
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same result on the same machine.")] = 0
    device: Annotated[Device, typer.Option("--device", help="Where the network runs.")] = Device.auto
    force: Annotated[bool, typer.Option("--force", help="Replace what is already there.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show errors only.")] = False
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens.")] = False


class _Failure(Exception):
    """Ends a command that has printed its result with an exit code other than 0."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def _explain(error: BaseException) -> tuple[int, str]:
    """Translate an exception to an exit code and a line for people."""
    if isinstance(error, _Failure):
        return error.code, str(error)
    if isinstance(error, LipwrightError):
        return error.exit_code, str(error)
    if isinstance(error, ModelError):
        return EXIT_INPUT, str(error)
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED, str(error) or "interrupted; nothing half-written was left"
    if isinstance(error, ImportError):
        hint = "on Debian: apt install libgl1 libglib2.0-0 libxcb1" if ".so" in str(error) else "pip install lipwright again"
        return MissingPartError.exit_code, f"{error}; {hint}"
    if isinstance(error, OSError) and error.filename:
        return EXIT_INPUT, f"{error.filename}: {error.strerror}"
    return EXIT_UNEXPECTED, f"unexpected {type(error).__name__}: {error}; set {DEBUG_VARIABLE}=1 to see where"


_stopped = False


def _stop(*_: object) -> None:
    """Interrupt what runs, and remember it: numba's callbacks from C lose the exception that is raised in them."""
    global _stopped
    _stopped = True
    raise KeyboardInterrupt


def _command(run: Callable[..., None]) -> Callable[..., None]:
    """Make a function a command: with the common options, given to it as one, and errors that are words and exit codes."""
    own = list(signature(run, eval_str=True).parameters.values())
    shared = [p.replace(kind=p.KEYWORD_ONLY) for p in signature(Common, eval_str=True).parameters.values()]
    names = {p.name for p in shared}

    def guarded(**options: Any) -> None:
        common = Common(**{name: options.pop(name) for name in names})
        level = logging.ERROR if common.quiet else logging.INFO if common.verbose else logging.WARNING
        logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
        signal.signal(signal.SIGINT, _stop)
        signal.signal(signal.SIGTERM, _stop)  # clean up as after Ctrl-C
        try:
            run(**options, common=common)
        except (Exception, KeyboardInterrupt) as error:
            if os.environ.get(DEBUG_VARIABLE) == "1":
                raise
            code, message = _explain(error)
            typer.echo(f"lipwright: {message}", err=True)
            raise typer.Exit(code) from None

    parameters = [*(p.replace(kind=p.KEYWORD_ONLY) for p in own if p.name != "common"), *shared]
    guarded.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    guarded.__annotations__ = {p.name: p.annotation for p in parameters}
    app.command(name=run.__name__, help=run.__doc__)(guarded)
    return guarded


@contextmanager
def _progress(quiet: bool) -> Iterator[Progress]:
    """Show a bar on stderr while something runs."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True, quiet=quiet)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Where there is no terminal, rich would still end the bar's line: an empty one in people's logs.
    with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, of: int) -> None:
            if _stopped:
                raise KeyboardInterrupt
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=of or None)
            bars.update(tasks[what], completed=done, total=of or None)

        yield show


def _tell(result: dict[str, Any], as_json: bool, words: Callable[[], str]) -> None:
    if os.environ.get("RANK", "0") == "0":  # of the processes that torchrun started, one speaks
        typer.echo(json.dumps(result, indent=2) if as_json else words())


@_command
def check(
    videos: Annotated[list[Path], typer.Argument(metavar="VIDEO...", help="Videos, or folders of them.")],
    *,
    common: Common,
) -> None:
    """Say what preprocess would make of videos, and what is wrong with them, before any work is spent."""
    from lipwright.pipeline import check_videos
    from lipwright.pipeline.check import NOT_USABLE

    with _progress(common.quiet) as progress:
        result = check_videos(videos, progress=progress)
    _tell(result, common.json, lambda: _checked(result))
    failed = sum(clip["verdict"] == NOT_USABLE for clip in result["clips"])
    if failed:
        of = len(result["clips"])
        raise _Failure(EXIT_SOME_FAILED if failed < of else EXIT_INPUT, f"{failed} of {of} videos cannot be used")


def _checked(result: dict[str, Any]) -> str:
    """Lay out what videos are like, one a row; below, what is wrong with them."""
    from lipwright.data.sync import CONFIDENT
    from lipwright.pipeline.check import IN_PART

    rows = [["", "verdict", "s", "picture", "rate", "face", "pixels", "turned", "faces", "cuts", "speech", "noise", "lag"]]
    words = []
    for clip in result["clips"]:
        name = Path(clip["path"]).name

        def told(form: str, *keys: str, of: dict[str, Any] = clip) -> str:
            values = [of.get(key) for key in keys]
            return "–" if None in values else form.format(*values)

        rows.append(
            [
                name,
                clip["verdict"],
                told("{:.0f}", "seconds"),
                told("{}x{}", "width", "height"),
                told("{:.4g}", "average_rate") + ("~" if clip.get("rate") == "variable" else ""),
                told("{:.0%}", "face_rate"),
                told("{}", "face_px"),
                told("{}°", "yaw_deg"),
                told("{}", "faces"),
                told("{}", "cuts"),
                told("{:.0%}", "speech_share"),
                told("{:.0f} dB", "noise_db"),
                told("{:+.0f} ms", "lag_ms") if (clip["lag_confidence"] or 0) >= CONFIDENT else "?",
            ]
        )
        spans = ", ".join(f"{a:.1f}–{b:.1f}" for a, b in clip["ranges"])
        if clip["verdict"] == IN_PART:
            words.append(f"{name}: can be used in {spans} s")
        words += [f"{name}: {line}" for line in clip["reasons"] + clip["advice"]]
    return "\n".join([_columns(rows), *words])


@_command
def preprocess(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Videos, or folders of them.")],
    out: Annotated[Path, typer.Option("--out", help="Corpus folder to make or to add to.")],
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes; by default one a core.")] = None,
    speaker: Annotated[str | None, typer.Option("--speaker", help="Who speaks in all of the videos.")] = None,
    face: Annotated[
        Face | None,
        typer.Option(
            "--face",
            help="Which face to follow where there are several: in each shot the largest, or the one at the left or right; or "
            "the largest of the first shot all along. Without, such stretches are left out.",
        ),
    ] = None,
    *,
    common: Common,
) -> None:
    """Take features and mouths from videos into a corpus. A second run does only what is missing."""
    from lipwright.pipeline import preprocess_corpus

    with _progress(common.quiet) as progress:
        result = preprocess_corpus(
            inputs,
            out,
            speaker=speaker,
            face=face and face.value,
            workers=workers,
            force=common.force,
            progress=progress,
        )
    _tell(result, common.json, lambda: _taken_in(out, result))
    failed = [row for row in result["clips"] if row["start_s"] is None]
    if failed:
        reasons = "\n".join(str(row["reason"]) for row in failed)
        raise _Failure(EXIT_SOME_FAILED if len(failed) < len(result["clips"]) else EXIT_INPUT, reasons)


def _taken_in(out: Path, result: dict[str, Any]) -> str:
    """Say what was taken, what was left out of videos and why, and which of them were out of sync."""
    from lipwright.pipeline.report import REPORT

    good = [row for row in result["clips"] if row["status"] == "ok"]
    lines = [f"{out}: {len(good)} clips, {result['seconds']:.1f} s of speech in {result['elapsed_s']:.1f} s"]
    left: Counter[str] = Counter()
    for row in result["clips"]:
        if row["status"] != "ok" and row["start_s"] is not None:
            left[row["reason"]] += row["end_s"] - row["start_s"]
    if left:
        lines.append("left out: " + ", ".join(f"{seconds:.1f} s {reason}" for reason, seconds in left.most_common()))
    late = {row["path"]: row["lag_ms"] for row in good if row["lag_corrected"]}
    for path, lag_ms in late.items():
        lines.append(f"{path}: the picture was {abs(lag_ms):.0f} ms {'late' if lag_ms > 0 else 'early'}; put in sync")
    lines.append(f"what it looks and sounds like: {out / REPORT}")
    return "\n".join(lines)


_MODEL_HELP = "Model folder made by train; without, the base model, which has heard synthesized speech alone."
_HELP = help_of(TrainSettings)
_DEFAULT = TrainSettings()


@_command
def train(
    corpus: Annotated[Path, typer.Argument(metavar="CORPUS", help="Folder made by preprocess.")],
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
    """Train a model on a corpus. torchrun --no-python lipwright train … trains in several processes."""
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
    with _progress(common.quiet) as progress:
        result = train_model(
            corpus,
            out,
            settings,
            init=init,
            device=common.device.value,
            seed=common.seed,
            force=common.force,
            resume=resume,
            progress=progress,
        )
    _tell(result, common.json, lambda: _trained(result))


def _trained(result: dict[str, Any]) -> str:
    judged = "without validation" if result["val_loss"] is None else f"validation loss {result['val_loss']:.4f}"
    if result["val_aperture_r"] is not None:
        judged += f", aperture r {result['val_aperture_r']:.3f}"
    begun = "" if result["init"] == "none" else f" from {result['init']}"
    return f"{result['run']}: epoch {result['epochs']}{begun}, {judged}, in {result['elapsed_s']:.1f} s"


@_command
def render(
    target: Annotated[Path, typer.Option("--target", help="Video whose face is given a new mouth.")],
    audio: Annotated[Path, typer.Option("--audio", help="Any file with an audio stream.")],
    out: Annotated[Path, typer.Option("--out", help="Video to make.")],
    model: Annotated[Path | None, typer.Option("--model", help=_MODEL_HELP)] = None,
    mouth: Annotated[Path | None, typer.Option("--mouth", help="Mouth track in place of a model.")] = None,
    bank: Annotated[
        Path | None, typer.Option("--bank", help="Other footage of the person to take mouths from; else the target's own.")
    ] = None,
    *,
    common: Common,
) -> None:
    """Make a target video say what an audio file says."""
    if model is not None and mouth is not None:
        raise _Failure(EXIT_USAGE, "render takes --model RUN or --mouth TRACK.json, not both")
    from lipwright.pipeline import render_video

    with _progress(common.quiet) as progress:
        result = render_video(
            target,
            audio,
            out,
            model=model,
            mouth=mouth,
            bank=bank,
            device=common.device.value,
            force=common.force,
            progress=progress,
        )
    result["elapsed_s"] = round(time.perf_counter() - _BEGAN, 3)
    _tell(
        result,
        common.json,
        lambda: f"{out}: {result['frames']} frames, {result['seconds']:.2f} s in {result['elapsed_s']:.1f} s",
    )


@_command
def evaluate(
    videos: Annotated[list[Path], typer.Argument(metavar="VIDEO...", help="Talking people, with their own sound.")],
    model: Annotated[Path | None, typer.Option("--model", help=_MODEL_HELP)] = None,
    render: Annotated[bool, typer.Option("--render", help="Also paint the mouth, and judge the picture.")] = False,
    bank: Annotated[
        Path | None,
        typer.Option("--bank", help="Other footage to take mouths from; else the first 75 % of each video."),
    ] = None,
    *,
    common: Common,
) -> None:
    """Judge a model: its own sound drives each video's mouth, and its own mouth is the truth."""
    if bank is not None and not render:
        raise _Failure(EXIT_USAGE, "--bank goes with --render")
    from lipwright.pipeline import evaluate_model

    with _progress(common.quiet) as progress:
        result = evaluate_model(model, videos, render=render, bank=bank, device=common.device.value, progress=progress)
    _tell(result, common.json, lambda: _judged(result))
    failed = [clip for clip in result["clips"] if "error" in clip]
    if failed:
        raise _Failure(EXIT_SOME_FAILED, "\n".join(clip["error"] for clip in failed))


def _judged(result: dict[str, Any]) -> str:
    """Lay the metrics out, one table a clip, the baselines beside the model."""
    clips = [clip for clip in result["clips"] if "error" not in clip]
    if len(clips) > 1:
        clips.append(result["mean"] | {"path": f"mean of {len(clips)}"})
    return "\n\n".join(_table(clip) for clip in clips)


def _table(clip: dict[str, Any]) -> str:
    columns = {"model": clip, "ridge": clip["baselines"]["ridge"], "mean mouth": clip["baselines"]["mean_mouth"]}
    if (painted := clip.get("render")) is not None:
        columns |= {"painted: measured": painted, "painted: model": painted["model"], "untouched": painted["untouched"]}
    metrics = dict.fromkeys(k for column in columns.values() for k, v in column.items() if isinstance(v, int | float | None))
    rows = [[Path(clip["path"]).name + (" (trained on)" if clip.get("seen") else ""), *columns]]
    for metric in [m for m in metrics if m != "seen"]:
        cells = [column.get(metric) for column in columns.values()]
        rows.append([metric, *("–" if cell is None else f"{cell:.3f}" for cell in cells)])
    return _columns(rows)


def _columns(rows: list[list[str]]) -> str:
    """Lay cells out in columns, the first to the left, the others to the right."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return "\n".join(
        row[0].ljust(widths[0]) + "".join("  " + cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))
        for row in rows
    )


@_command
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
    _tell(result, common.json, lambda: _looked(result))


AT_MS = (0, 50, 100, 200, 500, 1000, 2000)


def _looked(result: dict[str, Any]) -> str:
    """Lay the gradients out, one row a run."""
    rows = [["gradient, ms back:", *map(str, AT_MS), "fades at", "speaks after sound", "mouth after sound"]]
    for look in result["runs"]:
        flow = dict(zip(look["back_ms"], look["gradient"], strict=True))
        cells = [f"{flow[at] / flow[0]:.2g}" if at in flow else "–" for at in AT_MS]
        ends = [look["fades_ms"], look["learned_delay_ms"], look["mouth_lag_ms"]]
        rows.append([look["run"], *cells, *("–" if end is None else f"{end:.0f} ms" for end in ends)])
    return f"{_columns(rows)}\n\n{result['figure']}"


@_command
def export(
    out: Annotated[Path, typer.Option("--out", help="File to make.")],
    from_video: Annotated[Path | None, typer.Option("--from-video", help="Measure the mouth in this video.")] = None,
    audio: Annotated[Path | None, typer.Option("--audio", help="Predict it from this sound …")] = None,
    model: Annotated[Path | None, typer.Option("--model", help="… with this model; without, the base model.")] = None,
    format_: Annotated[str, typer.Option("--format", help="track: a mouth track, JSON.")] = "track",
    *,
    common: Common,
) -> None:
    """Write a mouth to a file: measured from a video, or predicted from sound."""
    if format_ != "track":
        raise _Failure(EXIT_USAGE, f"--format {format_} is not known; use track")
    if (from_video is None) == (audio is None) or (from_video is not None and model is not None):
        raise _Failure(EXIT_USAGE, "export needs --from-video VIDEO, or --audio AUDIO with or without --model RUN")
    from lipwright.pipeline import export_mouth

    with _progress(common.quiet) as progress:
        result = export_mouth(
            out,
            from_video=from_video,
            model=model,
            audio=audio,
            device=common.device.value,
            force=common.force,
            progress=progress,
        )
    _tell(result, common.json, lambda: f"{out}: {result['steps']} steps, {result['valid']:.0%} of them with a mouth")


@_command
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder to make.")] = Path("demo-out"),
    *,
    common: Common,
) -> None:
    """Make a talking face, learn its mouth from its voice, let it say something new, and judge that."""
    from lipwright.pipeline import make_demo

    with _progress(common.quiet) as progress:
        result = make_demo(out, seed=common.seed, device=common.device.value, force=common.force, progress=progress)
    _tell(result, common.json, lambda: _shown(result))


def _shown(result: dict[str, Any]) -> str:
    clip = result["clips"][0]
    painted = clip["render"]
    stages = ", ".join(f"{stage} {seconds} s" for stage, seconds in result["elapsed_s"].items())
    return "\n".join(
        [
            _judged(result),
            "",
            f"A sentence that the model never heard: predicted against measured aperture, r = {clip['aperture_r']:.3f}",
            f"(ridge {clip['baselines']['ridge']['aperture_r']:.3f}; always the mean mouth: no correlation).",
            f"The measured mouth, painted on other frames and tracked again: r = {painted['aperture_r']:.3f}.",
            "",
            *result["files"],
            "",
            stages,
        ]
    )


def main() -> None:
    """Run the command line."""
    one_heap()
    app()
