"""The real command, a talking video that is long enough to learn from, and a model trained on it through the command."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from lipwright.data.speech import Speech

DEADLINE_S = 600.0
"""No command of these tests takes nearly so long, even beside other work; a hang fails rather than stays."""

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

    def __call__(
        self, *words: object, cwd: Path, env: dict[str, str] | None = None,
        meanwhile: Callable[[Any], None] = lambda process: None,
    ) -> Ran:  # fmt: skip
        """Run to the end; `meanwhile` is called with the process."""
        process = self._start([*map(str, words)], cwd, os.environ | {"LIPWRIGHT_DEBUG": ""} | (env or {}))
        try:
            meanwhile(process)
            out, err = process.communicate(timeout=DEADLINE_S)
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        return Ran(process.returncode, out, err)

    def interrupted(
        self, *words: object, cwd: Path, when: Callable[[], bool], env: dict[str, str] | None = None,
        number: int = signal.SIGINT,
    ) -> Ran:  # fmt: skip
        """Run, and once `when` is true send a signal to all of its processes, as a terminal does."""

        def interrupt(process: Any) -> None:
            deadline = time.monotonic() + DEADLINE_S
            while not when():
                assert process.poll() is None, f"it ended before it could be interrupted: {process.communicate()}"
                assert time.monotonic() < deadline, "it never came so far that it could be interrupted"
                time.sleep(0.002)
            os.killpg(process.pid, number)

        return self(*words, cwd=cwd, env=env, meanwhile=interrupt)

    def _start(self, words: list[str], cwd: Path, env: dict[str, str]) -> Any:
        return subprocess.Popen(
            [self.path, *words], cwd=cwd, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip


class QuickCommand(Command):
    """``lipwright`` in processes of its own that have the libraries loaded already: see ``forks.py``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._forks = subprocess.Popen(
            [sys.executable, "-P", Path(__file__).with_name("forks.py")], bufsize=0, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def close(self) -> None:
        self._forks.communicate()

    def _start(self, words: list[str], cwd: Path, env: dict[str, str]) -> Any:
        return Fork(self._forks, Path(mkdtemp(dir=self._folder)), {"words": words, "cwd": str(cwd), "env": env})


class Fork:
    """A process of a `QuickCommand`, as far as `subprocess.Popen` is used here."""

    def __init__(self, forks: subprocess.Popen[bytes], folder: Path, asked: dict[str, Any]) -> None:
        assert forks.stdin is not None
        assert forks.stdout is not None
        self._answers = forks.stdout
        self._files = folder / "out", folder / "err"
        self.returncode: int | None = None
        out, err = map(str, self._files)
        forks.stdin.write(json.dumps(asked | {"out": out, "err": err}).encode() + b"\n")
        self.pid = int(self._answers.readline())

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._answers], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("lipwright", timeout or 0)
            self.returncode = int(self._answers.readline())
        return self.returncode

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        out, err = (file.read_text() for file in self._files)
        return out, err


@pytest.fixture(scope="session")
def installed() -> Command:
    """Return the installed command; each job is done by it once."""
    assert Command.path.is_file(), f"{Command.path} is not installed; run make setup"
    return Command()


@pytest.fixture(scope="session")
def lipwright(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """Return the command, without what its imports take; `lipwright("train", corpus, cwd=folder)` runs it."""
    command = QuickCommand(tmp_path_factory.mktemp("forks"))
    yield command
    command.close()


@pytest.fixture
def own_cache(tmp_path_factory: pytest.TempPathFactory, isolated_cache: Path) -> dict[str, str]:
    """Return an environment whose cache holds the landmark model only: nothing has been tracked yet."""
    folder = tmp_path_factory.mktemp("own-cache")
    for model in isolated_cache.glob("*.task"):
        (folder / model.name).symlink_to(model.resolve())
    return {"LIPWRIGHT_CACHE": str(folder)}


@pytest.fixture(scope="session")
def lesson(say: Callable[[str], Speech], once: Callable[..., Path]) -> Path:
    """Return a video of the astronaut's photograph talking for some 14 s, 256x256 at 25 frames/s, with AAC sound."""

    def make(folder: Path) -> None:
        import soundfile

        from lipwright.data.encoder import Encoding
        from lipwright.data.media import BT709, Yuv, probe
        from lipwright.data.talker import Talker, astronaut, talking_frames
        from lipwright.data.writer import VideoWriter

        speech = say(" ".join(SENTENCES.split()))
        soundfile.write(folder / "lesson.wav", speech.samples, speech.rate_hz)
        talker = Talker.from_photo(astronaut(256))
        encoding = Encoding(256, 256, Fraction(1, 12800), Fraction(25), BT709)
        with VideoWriter(folder / "lesson.mp4", encoding, audio=probe(folder / "lesson.wav")) as writer:
            for moment, picture in talking_frames(talker, speech):
                writer.write(Yuv.from_bgr(picture), moment)

    return once("lesson", make) / "lesson.mp4"


@dataclass(frozen=True)
class Trained:
    """A corpus and a model made by the command, and what it printed."""

    corpus: Path
    run: Path
    preprocessed: dict[str, Any]
    reported: dict[str, Any]


@pytest.fixture(scope="session")
def trained(installed: Command, lesson: Path, once: Callable[..., Path]) -> Trained:
    """Return what ``preprocess`` and ``train`` make of the lesson."""

    def make(folder: Path) -> None:
        for words in (
            ["preprocess", lesson, "--out", "corpus"],
            ["train", "corpus", "--out", "run", "--epochs", 4, "--device", "cpu", "--seed", 5],
        ):
            ran = installed(*words, "--json", cwd=folder)
            assert (ran.code, ran.err) == (0, "")
            (folder / f"{words[0]}.json").write_text(ran.out)

    folder = once("trained", make)
    told = (json.loads((folder / f"{job}.json").read_text()) for job in ("preprocess", "train"))
    return Trained(folder / "corpus", folder / "run", *told)
