"""The real command, a talking video that is long enough to learn from, and a model trained on it through the command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from lipwright.data.speech import Speech

DEADLINE_S = 120.0
"""No command of these tests takes nearly so long; a hang fails rather than stays."""

SENTENCES = """
My mother may buy five big blue boats. Bob will pop up above the open bay by half past one. Father parked the car far
from the harbour. She sees three green trees beside the sea, and we choose a blue balloon. Please bring my brown umbrella.
"""


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout; fails where there is something else."""
        return json.loads(self.out)


class Command:
    """The installed ``lipwright``, as people run it."""

    path = Path(sysconfig.get_path("scripts")) / "lipwright"

    def __call__(self, *words: object, cwd: Path, env: dict[str, str] | None = None) -> Ran:
        """Run to the end."""
        return self._ended(self._start(words, cwd, env or {}))

    def interrupted(
        self, *words: object, cwd: Path, when: Callable[[], bool], env: dict[str, str] | None = None,
        number: int = signal.SIGINT,
    ) -> Ran:  # fmt: skip
        """Run, and once `when` is true send a signal to all of its processes, as a terminal does."""
        process = self._start(words, cwd, env or {})
        deadline = time.monotonic() + DEADLINE_S
        while not when():
            assert process.poll() is None, f"it ended before it could be interrupted: {process.communicate()}"
            assert time.monotonic() < deadline, "it never came so far that it could be interrupted"
            time.sleep(0.002)
        os.killpg(process.pid, number)
        return self._ended(process)

    def _start(self, words: tuple[object, ...], cwd: Path, env: dict[str, str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.path, *map(str, words)], cwd=cwd, env=os.environ | {"LIPWRIGHT_DEBUG": ""} | env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def _ended(self, process: subprocess.Popen[str]) -> Ran:
        try:
            out, err = process.communicate(timeout=DEADLINE_S)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return Ran(process.returncode, out, err)


@pytest.fixture(scope="session")
def lipwright() -> Command:
    """Return the installed command; `lipwright("train", corpus, cwd=folder)` runs it."""
    assert Command.path.is_file(), f"{Command.path} is not installed; run make setup"
    return Command()


@pytest.fixture
def own_cache(tmp_path_factory: pytest.TempPathFactory, isolated_cache: Path) -> dict[str, str]:
    """Return an environment whose cache holds the landmark model only: nothing has been tracked yet."""
    folder = tmp_path_factory.mktemp("own-cache")
    for model in isolated_cache.glob("*.task"):
        (folder / model.name).symlink_to(model.resolve())
    return {"LIPWRIGHT_CACHE": str(folder)}


@pytest.fixture(scope="session")
def lesson(say: Callable[[str], Speech], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a video of the astronaut's photograph talking for some 14 s, 256x256 at 25 frames/s, with AAC sound."""
    import soundfile

    from lipwright.data.encoder import Encoding
    from lipwright.data.media import BT709, Yuv, probe
    from lipwright.data.talker import Talker, astronaut, talking_frames
    from lipwright.data.writer import VideoWriter

    folder = tmp_path_factory.mktemp("lesson")
    speech = say(" ".join(SENTENCES.split()))
    soundfile.write(folder / "lesson.wav", speech.samples, speech.rate_hz)
    talker = Talker.from_photo(astronaut(256))
    encoding = Encoding(256, 256, Fraction(1, 12800), Fraction(25), BT709)
    with VideoWriter(folder / "lesson.mp4", encoding, audio=probe(folder / "lesson.wav")) as writer:
        for moment, picture in talking_frames(talker, speech):
            writer.write(Yuv.from_bgr(picture), moment)
    return folder / "lesson.mp4"


@dataclass(frozen=True)
class Trained:
    """A corpus and a model made by the command, and what it printed."""

    corpus: Path
    run: Path
    preprocessed: dict[str, Any]
    reported: dict[str, Any]


@pytest.fixture(scope="session")
def trained(lipwright: Command, lesson: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Return what ``preprocess`` and ``train`` make of the lesson."""
    folder = tmp_path_factory.mktemp("trained")
    first = lipwright("preprocess", lesson, "--out", "corpus", "--json", cwd=folder)
    assert (first.code, first.err) == (0, "")
    second = lipwright(
        "train", "corpus", "--out", "run", "--epochs", 4, "--device", "cpu", "--seed", 5, "--json", cwd=folder
    )  # fmt: skip
    assert (second.code, second.err) == (0, "")
    return Trained(folder / "corpus", folder / "run", first.json, second.json)
