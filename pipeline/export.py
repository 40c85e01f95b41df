"""A mouth as a file, for people and other programs: measured from a video, or predicted from sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lipwright.data.audio import StoredSpeech
from lipwright.data.errors import FaceError, InputError, require_new
from lipwright.data.files import sweep
from lipwright.data.landmarks import face_track
from lipwright.data.media import probe
from lipwright.data.mouth import Speaker, track_of
from lipwright.pipeline.predict import load_model, predict_mouth
from lipwright.pipeline.progress import Progress, told_as


def export_mouth(
    out: Path | str,
    *,
    from_video: Path | str | None = None,
    model: Path | str | None = None,
    audio: Path | str | None = None,
    device: str = "cpu",
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a mouth track file.

    Parameters
    ----------
    out
        JSON file to make.
    from_video
        Measure the mouth in this video.
    audio, model
        Or predict it from this sound with a model, by default the base model, on the model's mean mouth.
    force
        Replace `out` if it exists.

    Returns
    -------
    dict
        ``out``, ``steps``, ``valid`` (share of them), ``scale``.

    Raises
    ------
    InputError
        A file cannot be used, or the video shows no face.
    ModelError
        The model folder cannot be used.
    """
    out = Path(out)
    require_new(out, force)
    if from_video is not None and model is None and audio is None:
        media = probe(from_video)
        track = face_track(media, progress=told_as(progress, "track"))
        if not track.found.any():
            raise FaceError(f"{from_video} shows no face in any of its {len(track.found)} frames")
        motion = track_of(track)
    elif from_video is None and audio is not None:
        lipsync = load_model(None if model is None else Path(model), device)
        speaker = Speaker(lipsync.neutral.cpu().numpy(), lipsync.config.scale)
        motion = predict_mouth(lipsync, StoredSpeech(probe(audio)), speaker)
    else:
        raise InputError("give either --from-video, or --audio with or without --model")
    sweep(out)
    motion.save(out)
    return {
        "out": str(out),
        "steps": len(motion.xyz),
        "valid": float(motion.valid.mean()),
        "scale": motion.speaker.scale,
    }
