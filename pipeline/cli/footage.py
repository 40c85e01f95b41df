"""The commands that look at footage and make corpora of it: check, preprocess."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from lipwright.pipeline.cli.command import (
    EXIT_INPUT,
    EXIT_SOME_FAILED,
    Common,
    Face,
    Failure,
    columns,
    command,
    progress_bar,
    tell,
)


@command
def check(
    videos: Annotated[list[Path], typer.Argument(metavar="VIDEO...", help="Videos, or folders of them.")],
    *,
    common: Common,
) -> None:
    """Say what preprocess would make of videos, and what is wrong with them, before any work is spent."""
    from lipwright.pipeline import check_videos
    from lipwright.pipeline.check import NOT_USABLE

    with progress_bar(common.quiet) as progress:
        result = check_videos(videos, progress=progress)
    tell(result, common.json, lambda: _checked(result))
    failed = sum(clip["verdict"] == NOT_USABLE for clip in result["clips"])
    if failed:
        of = len(result["clips"])
        raise Failure(EXIT_SOME_FAILED if failed < of else EXIT_INPUT, f"{failed} of {of} videos cannot be used")


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
    return "\n".join([columns(rows), *words])


@command
def preprocess(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Videos, or folders of them.")],
    out: Annotated[Path, typer.Option("--out", help="Corpus folder to make or to add to.")],
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes; by default one a core, of all machines with --ray.")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="ADDRESS",
            help="Share the work out to the machines of the Ray cluster at HOST:PORT. All have this Lipwright installed "
            "and see INPUT and CORPUS under the same paths.",
        ),
    ] = None,
    speaker: Annotated[str | None, typer.Option("--speaker", help="Who speaks in all of the videos.")] = None,
    face: Annotated[
        Face | None,
        typer.Option(
            "--face",
            help="Which face to follow where there are several: in each shot the largest, or the one at the left or right; or "
            "the largest of the first shot all along. Without, such stretches are left out.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    *,
    common: Common,
) -> None:
    """Take features and mouths from videos into a corpus. A second run does only what is missing."""
    from lipwright.pipeline import preprocess_corpus

    with progress_bar(common.quiet) as progress:
        result = preprocess_corpus(
            inputs,
            out,
            speaker=speaker,
            face=face and face.value,
            workers=workers,
            ray=ray,
            force=common.force,
            dry_run=dry_run,
            progress=progress,
        )
    if dry_run:
        tell(result, common.json, lambda: _planned(out, result["plan"]))
        return
    tell(result, common.json, lambda: _taken_in(out, result))
    failed = [row for row in result["clips"] if row["start_s"] is None]
    if failed:
        reasons = "\n".join(str(row["reason"]) for row in failed)
        raise Failure(EXIT_SOME_FAILED if len(failed) < len(result["clips"]) else EXIT_INPUT, reasons)


LISTED = 20
"""Sources of a plan that are named; `--json` names them all."""


def _planned(out: Path, plan: list[dict[str, Any]]) -> str:
    """Say how many sources are in which state, and name what would be worked on."""
    work = [item for item in plan if item["to_do"]]
    bytes_in_all = sum(item["bytes"] or 0 for item in work)
    lines = [f"{out}: {len(work)} of {len(plan)} videos to take in, {bytes_in_all / 1e6:,.1f} MB"]
    counts = Counter(item["state"] for item in plan)
    lines.append(columns([[f"  {state}", str(count)] for state, count in counts.most_common()]))
    lines += [f"{item['path']}: {item['state']}, speaker {item['speaker']}" for item in work[:LISTED]]
    if len(work) > LISTED:
        lines.append(f"and {len(work) - LISTED} more; --json names them all")
    return "\n".join(lines)


def _taken_in(out: Path, result: dict[str, Any]) -> str:
    """Say what was taken, what was left out of videos and why, and which of them were out of sync."""
    from lipwright.pipeline.report import REPORT
    from lipwright.pipeline.tally import by_reason

    good = [row for row in result["clips"] if row["status"] == "ok"]
    lines = [f"{out}: {len(good)} clips, {result['seconds']:.1f} s of speech in {result['elapsed_s']:.1f} s"]
    left = by_reason(row for row in result["clips"] if row["status"] != "ok" and row["start_s"] is not None)
    if left:
        lines.append("left out: " + ", ".join(f"{seconds:.1f} s {reason}" for reason, seconds in left))
    late = {row["path"]: row["lag_ms"] for row in good if row["lag_corrected"]}
    for path, lag_ms in late.items():
        lines.append(f"{path}: the picture was {abs(lag_ms):.0f} ms {'late' if lag_ms > 0 else 'early'}; put in sync")
    lines.append(f"what it looks and sounds like: {out / REPORT}")
    return "\n".join(lines)
