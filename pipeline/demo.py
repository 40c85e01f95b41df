"""The whole of Lipwright on a face and a voice that it makes itself: nothing to bring, nothing to download.

A photograph of the astronaut Eileen Collins (NASA, public domain, in scikit-image) is made to talk by rule, with speech
from eSpeak NG. That video is the corpus; a sentence that is not in it is what the trained model has to say.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from lipwright.data.articulation import articulate
from lipwright.data.audio import read_speech
from lipwright.data.encoder import Encoding
from lipwright.data.errors import InputError, MissingPartError
from lipwright.data.landmarks import face_track
from lipwright.data.media import BT709, Yuv, probe, read_frames
from lipwright.data.mouth import aperture, track_of
from lipwright.data.speech import Speech, synthesize
from lipwright.data.talker import Talker, astronaut, talking_frames
from lipwright.data.writer import VideoWriter
from lipwright.pipeline.evaluate import evaluate_model
from lipwright.pipeline.preprocess import preprocess_corpus
from lipwright.pipeline.progress import Progress
from lipwright.pipeline.provenance import synthetic_tags
from lipwright.pipeline.render import render_video
from lipwright.pipeline.settings import TrainSettings
from lipwright.pipeline.train import train_model

RATE = Fraction(25)
SIZE = 512
VOICE = "gmw/en-US+f3"
EPOCHS = 10
"""Enough for a voice and a mouth that follow rules."""

MOMENTS = 3
"""So many are shown in the picture, with the mouth open and shut in turn."""

LESSON = """
Good morning, and welcome to a small workshop where mouths are made. Everything you see here was built by a program.
The photograph is older than most of its viewers, and the voice has never belonged to anybody.
Watch how the lips close for people, baby, maple and remember. They must meet, however fast the words go by.
Five very fine foxes have found their favourite forest. The lower lip slips under the teeth for every one of them.
Who would choose to move a blue balloon through a room full of spoons? Rounded vowels push the lips forward.
She sees three green trees beside the sea, and he keeps sheep. Spread vowels pull the corners of the mouth apart.
Father started the car in the dark and parked far from the harbour. Open vowels drop the jaw.
A network listens to all of this a hundred times each second. It learns which sound comes with which shape.
Some sounds hide inside the mouth, like king, angle and sugar, and leave the lips to their neighbours.
Between sentences there is silence, and in silence a mouth should rest.
Tomorrow we may travel by water, by rail or by air, with twelve boxes of apples, butter and bread.
The carpenter measured every board twice, yet the table wobbled whenever we moved it. Old owls know how to show
great joy without making any sound at all.
Perhaps nobody will notice that the picture was painted, but we shall always say so. Thank you for your patience.
"""
"""What the model learns from: about a minute and a half."""

UNSEEN = """
Please bring my brown umbrella, because the weather above the valley may change before evening.
We hope that a new voice can move an old photograph. Nothing in this message was heard before.
"""
"""What it then has to say."""


def _make_video(path: Path, text: str, seed: int, progress: Progress | None) -> Speech:
    """Write the talker saying `text`, and the sound alone beside it (.wav); return the speech."""
    import soundfile

    speech = synthesize(" ".join(text.split()), voice=VOICE)
    wav = path.with_suffix(".wav")
    soundfile.write(wav, speech.samples, speech.rate_hz, subtype="PCM_16")
    talker = Talker.from_photo(astronaut(SIZE))
    frames = int(speech.duration_s * RATE)
    encoding = Encoding(SIZE, SIZE, 1 / RATE / 512, RATE, BT709)
    with VideoWriter(path, encoding, audio=probe(wav), tags=synthetic_tags()) as writer:
        for k, (when, picture) in enumerate(talking_frames(talker, speech, rate=RATE, seed=seed)):
            writer.write(Yuv.from_bgr(picture), when)
            if progress:
                progress(f"make {path.name}", k + 1, frames)
    return speech


def _side_by_side(left: Path, right: Path, out: Path) -> None:
    """Write two videos of one size next to each other, with the sound of the first."""
    first, second = probe(left), probe(right)
    video = first.need_video()
    encoding = Encoding.like(replace(video, width=2 * video.width))
    with VideoWriter(out, encoding, audio=first, tags=synthetic_tags()) as writer:
        for one, other in zip(read_frames(first), read_frames(second), strict=False):
            planes = zip(vars(one.yuv()).values(), vars(other.yuv()).values(), strict=True)
            writer.write(Yuv(*(np.hstack(pair) for pair in planes)), one.time)


def _plot(run: Path, video: Path, lipsynced: Path, speech: Speech, out: Path) -> None:
    """Draw the opening of the mouth through the unseen sentence, and above it what is seen at some moments of it.

    Parameters
    ----------
    run
        The model.
    video, lipsynced
        The talker saying the sentence, and the target that was made to say it.
    speech
        The sentence.
    out
        Picture to write.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    from lipwright.models.lipsync import LipSync
    from lipwright.pipeline.predict import predict_mouth

    lipsync = LipSync.load(run)
    media = probe(video)
    measured = track_of(face_track(media))
    predicted = predict_mouth(lipsync, read_speech(media), measured.speaker)
    shown, opening = (track.measure(aperture) for track in (measured, predicted))
    commanded = articulate(speech.phones, measured.times_s)[:, 0]
    parts = np.array_split(np.arange(len(shown)), MOMENTS)
    moments = [float(measured.times_s[p[shown[p].argmin() if k % 2 else shown[p].argmax()]]) for k, p in enumerate(parts)]

    figure: Any = plt.figure(figsize=(11, 5.8), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[0.68, 1])
    for pair, moment in zip(above.subfigures(1, MOMENTS, wspace=0.03), moments, strict=True):
        shows = {f"{moment:.1f} s: says it": video, "lip-synced": lipsynced}
        for axes, (label, path) in zip(pair.subplots(1, 2), shows.items(), strict=True):
            axes.imshow(_face_at(path, moment))
            axes.set_title(label)
            axes.set_axis_off()
    axes = below.subplots()
    axes.plot(measured.times_s, commanded, color="0.75", linewidth=1, label="commanded by rule")
    axes.plot(
        measured.times_s, np.where(measured.valid, shown, np.nan), color="#1f5fa8", label="measured, where the talker says it"
    )
    axes.plot(predicted.times_s, opening, color="#d1495b", label="predicted from the sound alone")
    axes.vlines(moments, 0, 0.82, transform=axes.get_xaxis_transform(), color="0.5", linestyle=":")
    axes.set(xlabel="time (s)", ylabel="opening of the mouth", title="A sentence that the model never heard")
    axes.set_xlim(0, measured.times_s[-1])
    axes.set_ylim(0, 1.3 * max(shown.max(), opening.max()))  # room for the legend
    axes.legend(loc="upper right", frameon=False, ncols=3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=120)
    plt.close(figure)


def _face_at(path: Path, time_s: float) -> np.ndarray:
    """Return the talker's face in the frame that a video shows at a time, RGB."""
    frame = next(frame for frame in read_frames(probe(path)) if frame.time + 1 / RATE > time_s)
    return frame.rgb()[round(0.28 * SIZE) : round(0.92 * SIZE), round(0.2 * SIZE) : round(0.84 * SIZE)]


def make_demo(
    out: Path | str, *, seed: int = 0, force: bool = False, device: str = "cpu", progress: Progress | None = None
) -> dict[str, Any]:
    """Make a talking face, learn its mouth from its voice, let it say something new, and judge that.

    Parameters
    ----------
    out
        Folder to make.
    seed
        Of head motion, blinks and training.
    force
        Replace `out` if it exists.

    Returns
    -------
    dict
        What `evaluate_model` returns for the unseen sentence, rendered; ``files``; ``elapsed_s`` by stage.

    Raises
    ------
    MissingPartError
        The ``demo`` extra is not installed.
    InputError
        `out` exists and `force` is false, or is not a demo's folder.
    """
    try:
        import espeakng_loader  # noqa: F401
    except ImportError as error:
        raise MissingPartError(f"the demo needs {error.name}; pip install 'lipwright[demo]'") from error
    out = Path(out)
    names = [
        "talker.mp4",
        "unseen.mp4",
        "corpus",
        "run",
        "lipsynced.mp4",
        "side_by_side.mp4",
        "aperture.png",
        "evaluation.json",
    ]
    if out.exists() and not force:
        raise InputError(f"{out} already exists; choose another --out or pass --force to replace it")
    if out.exists() and {p.name for p in out.iterdir()} - {*names, "talker.wav", "unseen.wav"}:
        raise InputError(f"{out} holds other files than a demo's; choose another --out")
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    talker, unseen, corpus, run, lipsynced, both, plot, report = (out / name for name in names)
    elapsed: dict[str, float] = {}
    began = time.perf_counter()

    def lap(stage: str) -> None:
        elapsed[stage] = round(time.perf_counter() - began - sum(elapsed.values()), 1)

    _make_video(talker, LESSON, seed, progress)
    speech = _make_video(unseen, UNSEEN, seed + 1, progress)
    lap("make")
    preprocess_corpus([talker], corpus, progress=progress)
    lap("preprocess")
    train_model(corpus, run, TrainSettings(epochs=EPOCHS), seed=seed, device=device, progress=progress)
    lap("train")
    render_video(talker, unseen.with_suffix(".wav"), lipsynced, model=run, device=device, progress=progress)
    lap("render")
    judged = evaluate_model(run, [unseen], render=True, bank=talker, device=device, progress=progress)
    lap("evaluate")
    _side_by_side(unseen, lipsynced, both)
    _plot(run, unseen, lipsynced, speech, plot)
    lap("show")
    elapsed["all"] = round(time.perf_counter() - began, 1)
    result = judged | {"files": [str(out / name) for name in names], "elapsed_s": elapsed}
    report.write_text(json.dumps(result, indent=2))
    return result
