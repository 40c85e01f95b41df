"""The commands that make something of sound and models: render, export, demo."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from lipwright.pipeline.cli.command import (
    BEGAN,
    EXIT_INPUT,
    EXIT_SOME_FAILED,
    EXIT_USAGE,
    MODEL_HELP,
    Common,
    Face,
    Failure,
    command,
    progress_bar,
    tell,
)
from lipwright.pipeline.cli.models import judged
from lipwright.pipeline.formats import Format
from lipwright.pipeline.settings import PRESETS, Credentials, RenderSettings, help_of

_HELP = help_of(RenderSettings)
_DEFAULT = RenderSettings()
_SIGNED = help_of(Credentials)


class Codec(StrEnum):
    """What pictures are encoded as."""

    h264 = "h264"
    hevc = "hevc"


Preset = StrEnum("Preset", PRESETS)  # type: ignore[misc]
Paths = list[str] | None


@command
def render(
    target: Annotated[Path | None, typer.Option("--target", help="Video whose face is given a new mouth.")] = None,
    audio: Annotated[Path | None, typer.Option("--audio", help="Any file with an audio stream.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Video to make; with --alpha perhaps a folder.")] = None,
    model: Annotated[Paths, typer.Option("--model", metavar="[FACE=]RUN", help=MODEL_HELP)] = None,
    mouth: Annotated[Paths, typer.Option("--mouth", metavar="[FACE=]TRACK", help="Mouth track in place of a model.")] = None,
    bank: Annotated[
        Paths,
        typer.Option(
            "--bank", metavar="[FACE=]VIDEO", help="Other footage of the person to take mouths from; else the target's own."
        ),
    ] = None,
    face: Annotated[
        Face | None, typer.Option("--face", help="Which of several faces is given the mouth; by default the largest.")
    ] = None,
    speaker_audio: Annotated[
        Paths,
        typer.Option(
            "--speaker-audio",
            metavar="FACE=AUDIO",
            help="What one of several people says, such as left=a.wav; once for each, in place of --audio. The mix is written.",
        ),
    ] = None,
    jobs: Annotated[
        Path | None,
        typer.Option(
            "--jobs",
            help="Many renders, as CSV or JSON lines with target, audio, out, and if need be model, mouth, bank, face.",
        ),
    ] = None,
    no_retime: Annotated[
        bool, typer.Option("--no-retime", help="Keep the target's frames in order; else the head rests in pauses.")
    ] = False,
    mouth_gain: Annotated[float, typer.Option("--mouth-gain", help=_HELP["mouth_gain"])] = _DEFAULT.mouth_gain,
    closed_in_silence: Annotated[bool, typer.Option("--closed-in-silence", help=_HELP["closed_in_silence"])] = False,
    start: Annotated[float | None, typer.Option("--start", min=0, metavar="S", help=_HELP["start_s"])] = None,
    end: Annotated[float | None, typer.Option("--end", min=0, metavar="S", help=_HELP["end_s"])] = None,
    preview: Annotated[bool, typer.Option("--preview", help=_HELP["preview"])] = False,
    overlay: Annotated[bool, typer.Option("--overlay", help=_HELP["overlay"])] = False,
    label: Annotated[bool, typer.Option("--label", help=_HELP["label"])] = False,
    alpha: Annotated[bool, typer.Option("--alpha", help=_HELP["alpha"])] = False,
    codec: Annotated[Codec | None, typer.Option("--codec", help=_HELP["codec"])] = None,
    crf: Annotated[int | None, typer.Option("--crf", min=0, max=51, help=_HELP["crf"])] = None,
    preset: Annotated[Preset, typer.Option("--preset", help=_HELP["preset"])] = Preset(_DEFAULT.preset),
    certificate: Annotated[Path | None, typer.Option("--certificate", metavar="CHAIN.pem", help=_SIGNED["certificate"])] = None,
    key: Annotated[Path | None, typer.Option("--key", metavar="KEY.pem", help=_SIGNED["key"])] = None,
    consent: Annotated[Path | None, typer.Option("--consent", metavar="FILE", help=_SIGNED["consent"])] = None,
    no_provenance: Annotated[
        bool, typer.Option("--no-provenance", help="Sign no content credentials; the metadata still say that it is synthetic.")
    ] = False,
    *,
    common: Common,
) -> None:
    """Make a target video say what an audio file says."""
    settings = RenderSettings(
        retime=not no_retime,
        mouth_gain=mouth_gain,
        closed_in_silence=closed_in_silence,
        start_s=start,
        end_s=end,
        preview=preview,
        overlay=overlay,
        label=label,
        alpha=alpha,
        codec=None if codec is None else codec.value,
        crf=crf,
        preset=preset.value,
    )
    try:
        settings.check()
    except ValueError as error:
        raise Failure(EXIT_USAGE, str(error)) from None
    credentials = None if no_provenance else Credentials(certificate, key, consent)
    if no_provenance and Credentials(certificate, key, consent) != Credentials():
        raise Failure(EXIT_USAGE, "render takes --certificate, --key and --consent, or --no-provenance, not both")
    options: dict[str, Any] = {"credentials": credentials, "device": common.device.value, "force": common.force}
    single = {"target": target, "audio": audio or _each(speaker_audio, "--speaker-audio"), "out": out}
    more = {"model": _each(model, "--model"), "mouth": _each(mouth, "--mouth"), "bank": _each(bank, "--bank")}
    if jobs is not None:
        if any(value is not None for value in (*single.values(), *more.values(), face)):
            raise Failure(EXIT_USAGE, "--jobs names every target, audio, out, model, mouth, bank and face itself")
        _render_jobs(jobs, settings, options, common)
        return
    if speaker_audio and (audio is not None or face is not None):
        raise Failure(EXIT_USAGE, "render takes --speaker-audio for each face, or one --audio with or without --face, not both")
    if named := [f"--{name}" for name, value in more.items() if isinstance(value, dict) and not speaker_audio]:
        raise Failure(EXIT_USAGE, f"{named[0]} FACE=PATH goes with --speaker-audio FACE=AUDIO")
    if missing := [f"--{name}" for name, value in single.items() if value is None]:
        raise Failure(EXIT_USAGE, f"render needs {', '.join(missing)}; or --jobs FILE")
    if model and mouth and not (isinstance(more["model"], dict) and isinstance(more["mouth"], dict)):
        raise Failure(EXIT_USAGE, "render takes --model RUN or --mouth TRACK.json, not both")
    from lipwright.pipeline import render_video

    with progress_bar(common.quiet) as progress:
        result = render_video(
            **single,
            settings=settings,
            **more,
            face=face and face.value,
            **options,
            progress=progress,
        )
    result["elapsed_s"] = round(time.perf_counter() - BEGAN, 3)
    tell(result, common.json, lambda: _rendered(result))


def _each(values: Paths, option: str) -> Path | dict[str, Path] | None:
    """Return the path of an option, or if it names faces, one for each."""
    named = [value.partition("=") for value in values or [] if value.partition("=")[0] in list(Face)]
    if not named and option != "--speaker-audio" and len(values or []) <= 1:
        return Path(values[0]) if values else None
    faces = {face: Path(path) for face, _, path in named}
    if len(faces) < len(values or []) or not all(path for _, _, path in named):
        raise Failure(EXIT_USAGE, f"{option} takes FACE=PATH once for each face; FACE is {', '.join(Face)}")
    return faces or None


def _rendered(result: dict[str, Any]) -> str:
    if "error" in result:
        return f"{result['out']}: not made: {result['error']}"
    signed = f"signed by {result['signer']}" if result["credentials"] == "signed" else result["credentials"] or "not signed"
    return f"{result['out']}: {result['frames']} frames, {result['seconds']:.2f} s in {result['elapsed_s']:.1f} s; {signed}"


def _render_jobs(jobs: Path, settings: RenderSettings, options: dict[str, Any], common: Common) -> None:
    from lipwright.pipeline import render_jobs

    def finished(result: dict[str, Any]) -> None:
        if not common.json:
            typer.echo(_rendered(result))

    with progress_bar(common.quiet) as progress:
        done = render_jobs(jobs, settings, **options, progress=progress, finished=finished)
    if common.json:
        tell(done, True, str)
    failed = sum("error" in result for result in done["jobs"])
    if failed:
        of = len(done["jobs"])
        raise Failure(EXIT_SOME_FAILED if failed < of else EXIT_INPUT, f"{failed} of {of} renders failed")


@command
def export(
    out: Annotated[Path, typer.Option("--out", help="File to make.")],
    from_video: Annotated[Path | None, typer.Option("--from-video", help="Measure the mouth in this video.")] = None,
    audio: Annotated[Path | None, typer.Option("--audio", help="Predict it from this sound …")] = None,
    model: Annotated[Path | None, typer.Option("--model", help="… with this model; without, the base model.")] = None,
    format_: Annotated[
        Format,
        typer.Option("--format", help="track: to edit, and for render --mouth; onnx: the model itself; others for rigs."),
    ] = Format.track,
    *,
    common: Common,
) -> None:
    """Write a mouth to a file: measured from a video, or predicted from sound."""
    if format_ == Format.onnx:
        if from_video is not None or audio is not None:
            raise Failure(EXIT_USAGE, "export --format onnx takes --model RUN or nothing, no --audio and no --from-video")
    elif (from_video is None) == (audio is None) or (from_video is not None and model is not None):
        raise Failure(EXIT_USAGE, "export needs --from-video VIDEO, or --audio AUDIO with or without --model RUN")
    from lipwright.pipeline import export_mouth

    with progress_bar(common.quiet) as progress:
        result = export_mouth(
            out,
            format=format_,
            from_video=from_video,
            model=model,
            audio=audio,
            device=common.device.value,
            force=common.force,
            progress=progress,
        )
    tell(result, common.json, lambda: _exported(result))


def _exported(result: dict[str, Any]) -> str:
    if "inputs" in result:
        return f"{result['out']}: takes {', '.join(result['inputs'])}; gives {', '.join(result['outputs'])}"
    return f"{result['out']}: {result['steps']} steps, {result['valid']:.0%} of them with a mouth"


@command
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder to make.")] = Path("demo-out"),
    *,
    common: Common,
) -> None:
    """Make a talking face, learn its mouth from its voice, let it say something new, and judge that."""
    from lipwright.pipeline import make_demo

    with progress_bar(common.quiet) as progress:
        result = make_demo(out, seed=common.seed, device=common.device.value, force=common.force, progress=progress)
    tell(result, common.json, lambda: _shown(result))


def _shown(result: dict[str, Any]) -> str:
    clip = result["clips"][0]
    painted = clip["render"]
    stages = ", ".join(f"{stage} {seconds} s" for stage, seconds in result["elapsed_s"].items())
    return "\n".join(
        [
            judged(result),
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
