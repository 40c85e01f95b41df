"""The tutorial, run from top to bottom on a short demo: what it says that comes out comes out, but for numbers."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()

RUN_AS = {
    "lipwright train corpus --out run": "lipwright train corpus --out run --epochs 2",
    "ffmpeg -loglevel error -i demo-out/unseen.wav -f s16le -ar 16000 -ac 1 -": "cat speech.raw",
}
"""What is run in place of what is told: less training, and no program that may not be here."""

ALIKE = [
    (r'"viseme": "\w+"', '"viseme": "X"'),
    (r"[+-]?\d+(\.\d+)?(?: ms)?|[?–]", "#"),
    (r"\s+", " "),
]
"""What may differ: which mouth is shown, numbers, also those that are not known, and the width of columns."""

FOR_BREVITY = re.compile(r"talker\.mp4: (\d+ s can be used: a minute or two|whether sound and picture belong together)")
"""What is printed besides, as this footage is shorter than the demo's."""

STEPS = re.findall(r"```(python)?\n(.*?)```", TUTORIAL, re.DOTALL)


def _shape(line: str) -> str:
    for pattern, alike in ALIKE:
        line = re.sub(pattern, alike, line)
    return line.strip()


def _differences(told: list[str], printed: list[str]) -> Iterator[str]:
    """Yield where what was printed is not what was told; after "…" anything may come."""
    if told[-1:] == ["…"]:
        told = told[:-1]
        printed = printed[: len(told)]
    if len(told) != len(printed):
        yield f"told are {len(told)} lines, printed {len(printed)}"
    for one, other in zip(told, printed, strict=False):
        if _shape(one) != _shape(other):
            yield f"told: {one}\nprinted: {other}"


@pytest.fixture
def clone(lesson: Path, talk: Any, tmp_path: Path) -> Path:
    """Return a folder in which a short demo has been made: its footage is the lesson, its sentences are the talk."""
    import numpy as np
    import soundfile
    import soxr

    demo = tmp_path / "demo-out"
    demo.mkdir()
    (demo / "talker.mp4").symlink_to(lesson)
    for suffix in (".mp4", ".wav"):
        (demo / f"unseen{suffix}").symlink_to(talk.path.with_suffix(suffix))
    samples, rate_hz = soundfile.read(talk.path.with_suffix(".wav"))
    heard = soxr.resample(samples, rate_hz, 16_000)
    (tmp_path / "speech.raw").write_bytes(np.round(32767 * heard.clip(-1, 1)).astype("<i2").tobytes())
    return tmp_path


def test_every_step_does_what_it_says(lipwright: Any, installed: Any, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clone)
    done = []
    for language, block in STEPS:
        if language:
            exec(compile(block, "tutorial.md", "exec"), {})
        if not block.startswith("$ "):
            continue
        told, *lines = block.removeprefix("$ ").splitlines()
        command = told
        for one, other in RUN_AS.items():
            command = command.replace(one, other)
        if "|" in command:
            path = os.pathsep.join([str(installed.path.parent), os.environ["PATH"]])
            shell = ["bash", "-o", "pipefail", "-c", command]
            ran = subprocess.run(shell, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False)
            code, out, err = ran.returncode, ran.stdout, ran.stderr
        else:
            quick = lipwright(*shlex.split(command)[1:], cwd=clone)
            code, out, err = quick.code, quick.out, quick.err
        assert (code, err) == (0, ""), told
        printed = [line for line in out.splitlines() if not FOR_BREVITY.match(line)]
        assert list(_differences(lines, printed)) == [], told
        done.append(shlex.split(told)[1])
    assert done[:4] == ["check", "preprocess", "train", "render"]
    assert len(done) >= 9


def test_a_word_that_differs_is_seen() -> None:
    assert list(_differences(["corpus: 1 clips, 88.1 s"], ["corpus: 12 clips, 3 s"])) == []
    assert list(_differences(["corpus: 1 clips, 88.1 s"], ["corpus: 1 clip, 88.1 s"]))
    assert list(_differences(["a", "…"], ["a", "b", "c"])) == []
    assert list(_differences(["a"], ["a", "b"]))


def test_the_demo_makes_what_the_tutorial_shows() -> None:
    made = (ROOT / "pipeline" / "demo.py").read_text()
    files = set(re.findall(r"demo-out/([\w.]+)", TUTORIAL))
    assert len(files) >= 8
    assert {name for name in files if f'"{name.removesuffix(".wav")}' not in made} == set()
    make = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)$", TUTORIAL, re.MULTILINE):
        assert f"\n{target}:" in make
