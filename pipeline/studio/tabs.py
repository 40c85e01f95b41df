"""The tabs of the studio, one for each step: what may be chosen, what is asked for, what is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from lipwright.data.edits import MOST_GAIN, Edit
from lipwright.data.errors import InputError, LipwrightError
from lipwright.data.faces import WHICH
from lipwright.data.features import STEP_HZ
from lipwright.data.mouth import MouthTrack, aperture, load_track
from lipwright.pipeline.errors import in_words
from lipwright.pipeline.settings import RenderSettings, TrainSettings, help_of
from lipwright.pipeline.studio import shown
from lipwright.pipeline.studio.page import TOLD_S, Frame, Values
from lipwright.pipeline.studio.work import CONSENTS, FOOTAGE, RENDERS, RUNS, SOUNDS, SUFFIXES, Project, plain_name
from lipwright.pipeline.studio.worker import BASE, MOST_EDITED_S, NOTHING

ANY_FACE, NO_CONSENT, RESUMED = "", "", "resume "
"""Choices that are none, and what stands before the name of a run that is to be gone on with."""

FACES = [("the largest", ANY_FACE), *((f"the {which} one", which) for which in WHICH if which != "largest")]
GAIN, HOLD, CLOSED = "gain", "hold", "closed"
DRAWN_EVERY = 4
"""Steps of the curve: 25 points a second."""


def check(frame: Frame) -> None:
    """Bring videos, and see what would come of them."""
    _bring(frame, FOOTAGE, "Bring videos of the person talking")
    with gr.Row(equal_height=False):
        video = frame.choose("video", gr.Dropdown(label="Video"), lambda project, _: project.names(FOOTAGE))
        go = gr.Button("Check", variant="primary", min_width=140, scale=0)

    def found(project: Project, values: Values) -> str:
        return shown.checked(project, values["video"], _last(frame, project, "check", video=values["video"]))

    def ask(project: Project, video: str) -> None:
        frame.jobs.ask(project.name, "check", {"video": _chosen(video, "video")})

    frame.show(found)
    frame.on(go.click, ask, [video])


def footage(frame: Frame) -> None:
    """Make the corpus."""
    videos = frame.choose(
        "videos", gr.CheckboxGroup(label="Videos to learn from", info="Brought under Check. All are taken as one person's."),
        lambda project, _: project.names(FOOTAGE),
    )  # fmt: skip
    with gr.Row(equal_height=False):
        face = gr.Dropdown(
            [("leave such moments out", ANY_FACE), *((f"the {w} one", w) for w in WHICH)],
            value=ANY_FACE,
            label="Of several faces",
        )
        go = gr.Button("Make the corpus", variant="primary", min_width=180, scale=0)
    frame.show(lambda project, _: shown.corpus(project, _last(frame, project, "preprocess")))

    def ask(project: Project, videos: list[str], face: str) -> None:
        if not videos:
            raise InputError("no video is ticked; bring one under Check, and tick it here")
        frame.jobs.ask(project.name, "preprocess", {"videos": videos, "face": face or None})

    frame.on(go.click, ask, [videos, face])


def train(frame: Frame) -> None:
    """Train a model on the corpus."""
    help_ = help_of(TrainSettings)

    def starts(project: Project, _: Values) -> list[tuple[str, str]]:
        from lipwright.pipeline.course import FIT_FILE

        runs = project.names(RUNS)
        begun = [run for run in runs if (project.folder / RUNS / run / FIT_FILE).is_file()]
        return [
            ("the base model, which knows speech", BASE),
            ("nothing", NOTHING),
            *((f"{run}: go on with it where it stopped", f"{RESUMED}{run}") for run in begun),
            *((f"{run}: train another from it", run) for run in runs),
        ]

    with gr.Row(equal_height=False):
        start = frame.choose("start", gr.Dropdown(label="Start from"), starts, follow=False)
        epochs = gr.Slider(1, 60, TrainSettings().epochs, step=1, label="Epochs", info=help_["epochs"])
        go = gr.Button("Train", variant="primary", min_width=140, scale=0)

    def curve(project: Project, _: Values) -> str:
        job = _last(frame, project, "train")
        return shown.learned(project.metrics(job.given["run"]) if job else [], job)

    frame.show(curve)

    def ask(project: Project, start: str, epochs: float) -> None:
        if not (project.corpus / "corpus.json").is_file():
            raise InputError("there is no corpus to learn from yet; make it under Footage")
        resume = start.startswith(RESUMED)
        run = start.removeprefix(RESUMED) if resume else "run {number}"
        asked = {"run": run, "init": BASE, "epochs": int(epochs)} if not resume else _begun(project, run)
        frame.jobs.ask(
            project.name,
            "train",
            {"init": start, **asked, "resume": True} if resume else {**asked, "init": start, "resume": False},
        )

    frame.on(go.click, ask, [start, epochs])


def _begun(project: Project, run: str) -> dict[str, Any]:
    """Return what a run was begun with, to go on with it."""
    from lipwright.models.lipsync import LipSync

    training = LipSync.load(project.path(RUNS, run)).config.training
    init = training["init"]
    return {"run": run, "init": init if init in (BASE, NOTHING) else Path(init).name, "epochs": training["settings"]["epochs"]}


def render(frame: Frame) -> None:
    """Render a sound onto a video."""
    help_, usual = help_of(RenderSettings), RenderSettings()
    _bring(frame, SOUNDS, "Bring speech: a sound, or a video with sound")
    with gr.Row(equal_height=False):
        target = frame.choose(
            "target", gr.Dropdown(label="Video", info="Whose mouth."), lambda project, _: project.names(FOOTAGE)
        )
        sound = frame.choose(
            "sound", gr.Dropdown(label="Sound", info="What it is to say."), lambda project, _: project.names(SOUNDS)
        )
        model = frame.choose(
            "model", gr.Dropdown(label="Model", info="What moves it."),
            lambda project, _: [("the base model", BASE), *((run, run) for run in project.names(RUNS))],
        )  # fmt: skip
    with gr.Accordion("More", open=False):
        gain = gr.Slider(0, MOST_GAIN, usual.mouth_gain, step=0.05, label="Mouth gain", info=help_["mouth_gain"])
        closed = gr.Checkbox(usual.closed_in_silence, label="Closed in silence", info=help_["closed_in_silence"])
        preview = gr.Checkbox(usual.preview, label="Preview", info=help_["preview"])
        label = gr.Checkbox(usual.label, label="Label", info=help_["label"])
        face = gr.Dropdown(FACES, value=ANY_FACE, label="Of several faces")
        _bring(frame, CONSENTS, "Bring a record of their consent: text, JSON or PDF. Its hash is signed, nothing else of it")
        consent = frame.choose(
            "consent", gr.Dropdown(label="Record of consent"),
            lambda project, _: [("none", NO_CONSENT), *((name, name) for name in project.names(CONSENTS))],
        )  # fmt: skip
    with gr.Row(equal_height=False):
        agreed = gr.Checkbox(
            False, label="The person in the video is me, or has agreed to this", container=False, elem_id="agreed"
        )
        go = gr.Button("Render", variant="primary", min_width=140, scale=0)
    frame.choose("result", gr.Dropdown(label="Result"), lambda project, _: project.names(RENDERS))

    def outcome(project: Project, values: Values) -> str:
        job = _last(frame, project, "render")
        job = job if job is None or values["result"] in (None, job.given["out"]) or job.result is None else None
        return shown.rendered(project, values["result"], job)

    frame.show(outcome)

    def ask(
        project: Project, target: str, sound: str, model: str, gain: float, closed: bool, preview: bool, label: bool, face: str,
        consent: str, agreed: bool,
    ) -> None:  # fmt: skip
        if not agreed:
            raise InputError("ask the person first: this puts words into their mouth; tick that they have agreed")
        _chosen(target, "video"), _chosen(sound, "sound")
        given = {
            "out": f"{plain_name(f'{Path(target).stem[:30]} says {Path(sound).stem[:30]}')} {{number}}.mp4",
            "target": target, "sound": sound, "model": model, "consent": consent or None, "face": face or None,
            "settings": {"mouth_gain": gain, "closed_in_silence": closed, "preview": preview, "label": label},
        }  # fmt: skip
        frame.jobs.ask(project.name, "render", given)

    frame.on(go.click, ask, [target, sound, model, gain, closed, preview, label, face, consent, agreed])


def edit(frame: Frame) -> None:
    """Change a mouth by hand."""
    edited = frame.choose("edited", gr.Dropdown(label="Result"), lambda project, _: project.names(RENDERS))
    frame.show(lambda project, values: _curve(project, values["edited"]), elem_id="curve")
    frame.show(lambda project, values: _edited(frame, project, values["edited"]), elem_id="edited")
    with gr.Row(equal_height=False):
        start = gr.Number(0.0, label="From, s", minimum=0, step=0.01, precision=2, min_width=100, elem_id="from")
        end = gr.Number(1.0, label="To, s", minimum=0, step=0.01, precision=2, min_width=100, elem_id="to")
        what = gr.Radio(
            [("moves by the gain", GAIN), ("held as it is", HOLD), ("closed", CLOSED)],
            value=GAIN,
            label="The mouth",
            min_width=200,
        )
        gain = gr.Slider(0, MOST_GAIN, 1.5, step=0.05, label="Gain", min_width=160)
        add = gr.Button("Add", min_width=100, scale=0)
    with gr.Row(equal_height=False):
        ticked = frame.choose(
            "edits", gr.CheckboxGroup(label="Edits"), lambda project, values: _edits(project, values["edited"]), follow=False
        )
        remove = gr.Button("Remove what is ticked", min_width=180, scale=0)
        go = gr.Button("Render the change", variant="primary", min_width=180, scale=0)

    def put(project: Project, edited: str, start: float, end: float, what: str, gain: float) -> None:
        track = _track(project, _chosen(edited, "result"))
        if start is None or end is None or not start < end:
            raise InputError(f"an edit from {start} to {end} s has no length; its start must come before its end")
        length_s = len(track.valid) / STEP_HZ
        if start >= length_s:
            raise InputError(f"the mouth ends at {length_s:.2f} s; an edit from {start:g} s on would change nothing")
        edit = Edit(start, end, gain if what == GAIN else 1.0, what == CLOSED, what == HOLD)
        replace(track, edits=(*track.edits, edit)).save(project.mouth(edited))

    def drop(project: Project, edited: str, ticked: list[str]) -> None:
        track = _track(project, _chosen(edited, "result"))
        kept = tuple(edit for name, edit in _named(track.edits).items() if name not in (ticked or []))
        replace(track, edits=kept).save(project.mouth(edited))

    def ask(project: Project, edited: str) -> None:
        _track(project, _chosen(edited, "result"))
        frame.jobs.ask(project.name, "paint", {"out": edited})

    frame.on(add.click, put, [edited, start, end, what, gain])
    frame.on(remove.click, drop, [edited, ticked])
    frame.on(go.click, ask, [edited])


def _bring(frame: Frame, kind: str, words: str) -> None:
    """Let files be brought into the project."""
    files = gr.File(label=words, file_count="multiple", file_types=[*SUFFIXES[kind]], height=110, elem_id=f"bring-{kind}")

    def take(project: Project, given: list[dict[str, Any]] | None) -> None:
        for file in given or []:
            try:
                project.take_in(kind, frame.work.upload(file["path"]))
            except (InputError, OSError) as error:  # the others are taken all the same
                gr.Warning(escape(in_words(error)), duration=TOLD_S, title="Not taken")

    frame.on(files.upload, take, [files], files)


def _last(frame: Frame, project: Project, kind: str, **given: Any) -> Any:
    return frame.jobs.last(project.name, kind, **given)


def _chosen(name: str | None, what: str) -> str:
    if not name:
        raise InputError(f"no {what} is chosen; bring or make one first")
    return name


def _track(project: Project, render: str) -> MouthTrack:
    """Read a render's mouth, once while it stays the same."""
    path = project.mouth(render)
    if not path.is_file():
        raise InputError(
            f"the mouth of {render} is not laid out for editing: that is done up to {MOST_EDITED_S / 60:.0f} minutes"
        )
    return _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _read(path: Path, _: int) -> MouthTrack:
    return load_track(path)


def _edits(project: Project, render: str | None) -> list[tuple[str, str]]:
    if render is None:
        return []
    try:
        return [(shown.edit_words(edit), name) for name, edit in _named(_track(project, render).edits).items()]
    except (LipwrightError, OSError):  # the curve says so
        return []


def _named(edits: Sequence[Edit]) -> dict[str, Edit]:
    """Name edits by what they are: a tick at one that is gone must not come to mean another."""
    return {f"{edit} {edits[:k].count(edit)}": edit for k, edit in enumerate(edits)}


@lru_cache(maxsize=2)
def _openings(path: Path, mark: int) -> tuple[np.ndarray, np.ndarray]:
    track = _read(path, mark)
    return replace(track, edits=()).measure(aperture), track.measure(aperture)


def _curve(project: Project, render: str | None) -> str:
    if render is None:
        return shown.said("Render something first: its mouth can be changed here, and only what changes is painted again.")
    track, path = _track(project, render), project.mouth(render)
    plain, edited = _openings(path, path.stat().st_mtime_ns)
    steps = slice(None, None, DRAWN_EVERY)
    return shown.mouth(plain[steps], edited[steps], track.valid[steps], DRAWN_EVERY / STEP_HZ, track.edits)


def _edited(frame: Frame, project: Project, render: str | None) -> str:
    if render is None:
        return ""
    job = _last(frame, project, "paint", out=render)
    made = project.made(render)
    result = made["result"]
    words = shown.outcome(job)
    if project.mouth(render).is_file() and [asdict(edit) for edit in _track(project, render).edits] != made.get("edits", []):
        words += shown.said("The edits as they are now are not rendered yet.")
    elif job is not None and job.result is not None:
        words += shown.said(f"{job.result['painted']} of {job.result['frames']} frames were painted again.", "lede")
    elif result["painted"] < result["frames"]:
        words += shown.said(f"{result['painted']} of {result['frames']} frames were painted; the others were kept.")
    here = '<button type="button" class="quiet" data-here="{}">Set {} to the player’s time</button>'
    return (
        f'{words}<div class="beside">{shown.player(project, RENDERS, render, "result, synthetic", "result")}'
        f'<div class="row top">{here.format("from", "From")}{here.format("to", "To")}</div></div>'
    )
