"""What the studio shows, as HTML: how far a job is, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from html import escape
from typing import Any
from urllib.parse import quote

import numpy as np

from lipwright.data.edits import Edit
from lipwright.pipeline.charts import course
from lipwright.pipeline.studio.jobs import QUEUED, RUNNING, Job, JobQueue
from lipwright.pipeline.studio.work import CORPUS, FOOTAGE, RENDERS, REPORT, Project
from lipwright.pipeline.studio.worker import DONE, FAILED
from lipwright.pipeline.tally import in_time

MOST_SHOWN = 12
"""Of the jobs that are over."""

DOING = {"check": "Check", "preprocess": "Make the corpus of", "train": "Train", "render": "Render", "paint": "Render again"}
STAGES = {
    "check": "looking",
    "preprocess": "videos",
    "track": "finding the face",
    "predict": "predicting the mouth",
    "bank": "collecting mouths",
    "render": "painting",
    "train": "epochs, to find how many are best",
    "train on all": "epochs, on all of it",
}


def said(words: str, style: str = "note") -> str:
    """Say something in a line."""
    return f'<p class="{style}">{escape(words)}</p>'


def title(job: Job) -> str:
    """Say what a job is."""
    given = job.given
    of = given.get("video") or ", ".join(given.get("videos", ())) or given.get("run") or given.get("out", "")
    return f"{DOING.get(job.kind, job.kind)} {of}"


def _button(job: Job, stopping: bool) -> str:
    if stopping:
        return '<span class="note">stopping …</span>'
    of = f'<span class="sr"> {escape(title(job))}</span>'
    return f'<button type="button" class="quiet" data-cancel="{job.number}">Cancel{of}</button>'


def bar(jobs: JobQueue) -> str:
    """Show what runs and what waits, each with a button that cancels it."""
    rows = []
    for job in reversed(jobs.every()):
        what = f"<b>{escape(title(job))}</b> <small>{escape(job.project)}</small>"
        if job.state == RUNNING:
            stage, done, of = job.progress or ("starting", 0, 0)
            words = f"{STAGES.get(stage, stage)}{f', {done} of {of}' if of else ''}"
            value = f' value="{done}" max="{of}"' if of else ""
            meter = f'<progress{value} aria-label="{escape(title(job))}"></progress><span class="note">{escape(words)}</span>'
            rows.append(f'<li class="runs"><div>{what}{_button(job, jobs.stopping(job))}</div>{meter}</li>')
        elif job.state == QUEUED:
            rows.append(f'<li><div>{what}<span class="note">waits</span>{_button(job, False)}</div></li>')
    return f'<ul class="jobs" aria-label="Jobs">{"".join(rows)}</ul>' if rows else ""


def history(jobs: Sequence[Job]) -> str:
    """List the jobs of a project that are over."""
    rows = []
    for job in [job for job in jobs if job.state not in (QUEUED, RUNNING)][:MOST_SHOWN]:
        took = in_time(job.ended_s - job.began_s) if job.ended_s and job.began_s else ""
        when = time.strftime("%d %b %H:%M", time.localtime(job.ended_s or 0))
        words = [job.words] * bool(job.words) + job.warnings
        why = "".join(said(line, "why") for line in words)
        rows.append(
            f'<tr class="{escape(job.state.replace(" ", "-"))}"><td>{escape(title(job))}{why}</td><td>{escape(job.state)}</td>'
            f'<td class="n">{took}</td><td class="n">{when}</td></tr>'
        )
    if not rows:
        return said("No job has been done yet.")
    head = '<tr><th>Job</th><th>Came to</th><th class="n">Took</th><th class="n">At</th></tr>'
    return f'<table class="lines"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>'


def outcome(job: Job | None) -> str:
    """Say how the last job of a kind went, where it is not done."""
    if job is None or job.state in (DONE, RUNNING, QUEUED):
        warnings = job.warnings if job is not None and job.state == DONE else []
        return "".join(said(line, "why") for line in warnings)
    return said(job.words or job.state, "wrong" if job.state == FAILED else "why")


def address(project: Project, kind: str, name: str) -> str:
    """Return where a browser finds a file, as it is now."""
    path = project.corpus / name if kind == CORPUS else project.folder / kind / name
    stamp = path.stat().st_mtime_ns if path.exists() else 0
    return f"./work/{quote(project.name, safe='')}/{kind}/{quote(name, safe='')}?v={stamp}"


def player(project: Project, kind: str, name: str, words: str, style: str = "") -> str:
    """Show a video."""
    return (
        f'<figure class="{style}"><video controls playsinline preload="metadata" src="{escape(address(project, kind, name))}"'
        f' aria-label="{escape(words)}: {escape(name)}"></video><figcaption>{words}</figcaption></figure>'
    )


def checked(project: Project, video: str | None, job: Job | None) -> str:
    """Show a video, and what was found when it was checked."""
    if video is None:
        return said("Bring a video of someone who talks, then check it: seconds tell what would come of minutes.")
    parts = [player(project, FOOTAGE, video, "as it is")]
    if job is None or job.state != DONE:
        return f'<div class="beside">{parts[0]}<div>{outcome(job) or said("Not checked yet.")}</div></div>'
    clip: dict[str, Any] = job.result or {}
    facts = [
        ("Verdict", clip["verdict"]),
        ("Length", None if clip.get("seconds") is None else f"{clip['seconds']:.1f} s"),
        ("Picture", None if clip.get("width") is None else f"{clip['width']}×{clip['height']}"),
        ("Face seen", None if clip.get("face_rate") is None else f"{clip['face_rate']:.0%}"),
        ("Speech", None if clip.get("speech_share") is None else f"{clip['speech_share']:.0%}"),
        ("Above the noise", None if clip.get("noise_db") is None else f"{clip['loud_db'] - clip['noise_db']:.0f} dB"),
    ]
    numbers = "".join(f"<div><dt>{name}</dt><dd>{escape(str(value))}</dd></div>" for name, value in facts if value is not None)
    words = "".join(f"<li>{escape(line)}</li>" for line in [*clip["reasons"], *clip["advice"]])
    found = f'<ul class="found">{words}</ul>' if words else said("Nothing stands against it.")
    return f'<div class="beside">{parts[0]}<div><dl class="numbers">{numbers}</dl>{found}</div></div>'


def corpus(project: Project, job: Job | None) -> str:
    """Show what the corpus came to."""
    parts = [outcome(job)]
    if job is not None and job.state == DONE and job.result:
        clips = job.result["clips"]
        kept = [clip for clip in clips if clip["status"] == "ok"]
        parts.append(said(f"{len(kept)} clips, {job.result['seconds']:.1f} s of speech.", "lede"))
        left = {(clip["path"], clip["reason"]) for clip in clips if clip["status"] != "ok"}
        parts += [said(f"left out of {name}: {why}", "why") for name, why in sorted(left)]
    if (project.corpus / REPORT).is_file():
        page = escape(address(project, CORPUS, REPORT))
        parts.append(f'<p><a href="{page}" target="_blank" rel="noopener">What it looks and sounds like</a></p>')
    return "".join(parts) or said("There is no corpus yet.")


def learned(rows: Sequence[dict[str, Any]], job: Job | None) -> str:
    """Draw how a training goes."""
    words = outcome(job)
    if job is not None and job.state == DONE and job.result:
        r = job.result["val_aperture_r"]
        quality = "" if r is None else f", the opening of unseen speech correlates by {r:.2f}"
        words += said(f"{job.result['run']}: epoch {job.result['epochs']} was best{quality}.", "lede")
    if not rows:
        return words or said("The curve of a training is drawn here while it goes.")
    return words + _losses(rows)


def _losses(rows: Sequence[dict[str, Any]]) -> str:
    """Draw losses over epochs, the search's and the refit's one after the other."""
    lines = {"train_loss": ("model", "training"), "val_loss": ("val", "validation")}
    points = [(k, row) for k, row in enumerate(rows) if row.get("epoch", 0) > 0 or row.get("train_loss") is not None]
    values = [row[name] for _, row in points for name in lines if row.get(name) is not None]
    if not values:
        return said("The first epoch is not over yet.")
    low, high, last = min(values), max(values), max(len(rows) - 1, 1)
    room = (high - low) or high or 1.0
    drawn, key = [], []
    for name, (style, what) in lines.items():
        place = [(1000 * k / last, 125 - 120 * (row[name] - low) / room) for k, row in points if row.get(name) is not None]
        if place:
            place += [(place[0][0] + 4, place[0][1])] * (len(place) == 1)
            drawn.append(f'<polyline class="{style}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in place)}"/>')
            key.append(f'<i class="{style}"></i>{what}')
    refit = next((k for k, row in enumerate(rows) if row.get("stage") == "refit"), None)
    if refit:
        drawn.append(f'<line class="mark" x1="{1000 * refit / last:.1f}" x2="{1000 * refit / last:.1f}" y1="0" y2="130"/>')
        key.append("right of the line: anew, on all of it")
    return (
        f'<p class="note key">{"".join(key)}</p><div class="plot"><svg viewBox="0 0 1000 136" preserveAspectRatio="none"'
        f' role="img" aria-label="losses over {len(rows)} epochs">{"".join(drawn)}</svg>'
        f'<span class="y" style="top:3.7%">{high:.2g}</span><span class="y" style="top:92%">{low:.2g}</span>'
        f'<span class="x" style="left:0">epoch 1</span><span class="x" style="left:100%">{len(rows)}</span></div>'
    )


def rendered(project: Project, render: str | None, job: Job | None) -> str:
    """Show source and result side by side, what the result says of itself, and how to take it away."""
    if render is None:
        return outcome(job) or said("What is rendered is shown here, beside its source.")
    made = project.made(render)
    result, given = made["result"], made["given"]
    link = f"{escape(address(project, RENDERS, render))}&download=1"
    words = "".join(f"<li>{escape(line)}</li>" for line in made["words"])
    said_it = f"This video is synthetic: {given['sound']} was put into this mouth. Say so wherever it is shown."
    took = f"{result['frames']} frames, {result['seconds']:.2f} s; {result['painted']} of them painted in the last run."
    return (
        f"{outcome(job)}"
        f'<div class="pair">{player(project, FOOTAGE, given["target"], "source", "source")}'
        f"{player(project, RENDERS, render, 'result, synthetic', 'result')}</div>"
        f'<div class="row"><button type="button" class="quiet" data-both>Play both</button>'
        f'<a class="take" href="{link}" download>Download with credentials</a></div>'
        f"{said(said_it, 'lede')}{said(took)}"
        f'<h3>What it says of itself</h3><ul class="found">{words}</ul>'
    )


def edit_words(edit: Edit) -> str:
    """Say what an edit does."""
    what = "closed" if edit.closed else "held" if edit.hold else "as it is"
    gain = f"gain {edit.gain:g}" if edit.gain != 1 else ""
    words = gain if gain and what == "as it is" else ", ".join(filter(None, (what, gain)))
    return f"{edit.start_s:.2f}–{edit.end_s:.2f} s: {words}"


def mouth(plain: np.ndarray, edited: np.ndarray, valid: np.ndarray, step_s: float, edits: Sequence[Edit]) -> str:
    """Draw how far a mouth opens, as predicted and as edited, and where it is edited."""
    length_s = max((len(valid) - 1) * step_s, step_s)
    chart = course({"measured": plain, "model": edited}, valid, step_s, what="opening of the mouth")
    spans = ""
    for edit in edits:
        start, end = max(edit.start_s, 0.0), min(edit.end_s, length_s)
        place = f"left:{100 * start / length_s:.2f}%;width:{100 * max(end - start, 0) / length_s:.2f}%"
        spans += f'<div class="span" style="{place}" title="{escape(edit_words(edit))}"></div>'
    chart = chart.replace('<div class="head"></div>', f'{spans}<div class="head"></div>')
    return (
        '<p class="note key"><i class="measured"></i>predicted<i class="model"></i>edited<i class="edit"></i>edits</p>'
        f'<div class="wide" tabindex="0" role="region" aria-label="Curve of the mouth" data-seconds="{length_s:.3f}">'
        f'<div style="min-width:{round(50 * length_s)}px">{chart}</div></div>'
    )
