"""A mouth as a file, for people and other programs: measured from a video, or predicted from sound; or the network itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lipwright.data.audio import StoredSpeech
from lipwright.data.errors import FaceError, InputError, require_new
from lipwright.data.files import sweep
from lipwright.data.landmarks import face_track
from lipwright.data.media import probe
from lipwright.data.mouth import track_of
from lipwright.pipeline.formats import Format
from lipwright.pipeline.formats.cues import (
    write_moho,
    write_rhubarb_json,
    write_rhubarb_tsv,
    write_rhubarb_xml,
    write_webvtt,
)
from lipwright.pipeline.formats.curves import write_csv, write_json, write_oculus
from lipwright.pipeline.formats.graph import write_graph
from lipwright.pipeline.formats.live_link import write_live_link
from lipwright.pipeline.formats.take import Take
from lipwright.pipeline.predict import load_model, own_speaker, predict_mouth
from lipwright.pipeline.progress import Progress, told_as

WRITERS: dict[Format, Callable[[Take, Path], None]] = {
    Format.track: lambda take, out: take.mouth.save(out),
    Format.json: write_json,
    Format.csv: write_csv,
    Format.arkit_csv: write_live_link,
    Format.oculus: write_oculus,
    Format.rhubarb_tsv: write_rhubarb_tsv,
    Format.rhubarb_xml: write_rhubarb_xml,
    Format.rhubarb_json: write_rhubarb_json,
    Format.moho: write_moho,
    Format.webvtt: write_webvtt,
}


def export_mouth(
    out: Path | str,
    *,
    format: Format | str = Format.track,
    from_video: Path | str | None = None,
    model: Path | str | None = None,
    audio: Path | str | None = None,
    device: str = "cpu",
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a mouth, or with format ``onnx`` the network that predicts it.

    Parameters
    ----------
    out
        File to make.
    format
        One of `Format`; `docs/formats.md` says what is in each.
    from_video
        Measure the mouth in this video.
    audio, model
        Or predict it from this sound with a model, by default the base model, on the model's mean mouth.
    force
        Replace `out` if it exists.

    Returns
    -------
    dict
        ``out``, ``steps``, ``valid`` (share of them), ``scale``; of ``onnx`` ``out``, ``inputs``, ``outputs``.

    Raises
    ------
    InputError
        A file cannot be used, the video shows no face, or there is no such format.
    ModelError
        The model folder cannot be used.
    MissingPartError
        A package that the format needs is not installed.
    """
    out = Path(out)
    if format not in list(Format):
        raise InputError(f"there is no format {format!r}; choose one of {', '.join(Format)}")
    require_new(out, force)
    if format == Format.onnx:
        if audio is not None or from_video is not None:
            raise InputError("format onnx writes the network itself: give --model or nothing, no --audio and no --from-video")
        lipsync = load_model(None if model is None else Path(model), "cpu")
        sweep(out)
        return {"out": str(out)} | write_graph(lipsync, out)
    if from_video is not None and model is None and audio is None:
        take = measure_take(Path(from_video), progress)
    elif from_video is None and audio is not None:
        take = predict_take(Path(audio), None if model is None else Path(model), device)
    else:
        raise InputError("give either --from-video, or --audio with or without --model")
    sweep(out)
    WRITERS[Format(format)](take, out)
    return {
        "out": str(out),
        "steps": take.steps,
        "valid": float(take.mouth.valid.mean()),
        "scale": take.mouth.speaker.scale,
    }


def measure_take(video: Path, progress: Progress | None = None) -> Take:
    """Measure the mouth in a video."""
    media = probe(video)
    track = face_track(media, progress=told_as(progress, "track"))
    if not track.found.any():
        raise FaceError(f"{video} shows no face in any of its {len(track.found)} frames")
    return Take(media, track_of(track), face=track)


def predict_take(audio: Path, model: Path | None = None, device: str = "cpu") -> Take:
    """Predict the mouth that goes with sound, on the model's mean mouth."""
    lipsync = load_model(model, device)
    media = probe(audio)
    samples = StoredSpeech(media)
    return Take(media, predict_mouth(lipsync, samples, own_speaker(lipsync)), lipsync=lipsync, samples=samples)
