"""The command line's contract: what it offers, how it fails, and that asking for help loads nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

from lipwright.data.errors import (
    CorpusError,
    FaceError,
    InputError,
    LipwrightError,
    MediaError,
    MissingPartError,
    OutputExistsError,
    TrackError,
)
from lipwright.models.errors import ModelError
from lipwright.models.lipsync import LipSync
from lipwright.models.recurrent import CELLS, DIRECTIONS
from lipwright.pipeline import cli
from lipwright.pipeline.cli import command, models, video
from lipwright.pipeline.predict import load_model
from lipwright.pipeline.settings import DELAY_MS, Codec, RenderSettings, TrainSettings, help_of

COMMANDS = ("preprocess", "train", "render", "evaluate", "export", "stream", "verify", "demo")
HEAVY = (
    "torch",
    "cv2",
    "mediapipe",
    "librosa",
    "av",
    "sklearn",
    "scipy",
    "numba",
    "matplotlib",
    "c2pa",
    "cryptography",
    "websockets",
)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[CliRunner]:
    """Run commands in this process; their signal handlers are put back afterwards."""
    import signal

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setenv("COLUMNS", "200")
    yield CliRunner()
    for number, handler in before.items():
        signal.signal(number, handler)


# Help -----------------------------------------------------------------------------------------------------------------


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import json, sys\n"
        "from lipwright.pipeline.cli import app\n"
        f"for words in [[], *([name] for name in {COMMANDS!r})]:\n"
        "    try:\n"
        "        app([*words, '--help'])\n"
        "    except SystemExit as end:\n"
        "        assert end.code in (0, None), end.code\n"
        f"print(json.dumps(sorted(set({HEAVY!r}) & set(sys.modules))))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == []
    assert done.stderr == ""


def test_every_command_is_offered_and_takes_the_common_options(run: CliRunner) -> None:
    listed = run.invoke(cli.app, ["--help"]).output
    for name in COMMANDS:
        assert f"\n  {name} " in listed
        described = run.invoke(cli.app, [name, "--help"]).output
        for option in ("--json", "--seed", "--device", "--force", "--quiet", "-q", "--verbose", "-v"):
            assert option in described
        assert "auto|cpu|cuda|mps" in described


def test_training_options_show_the_settings_own_help_and_defaults(run: CliRunner) -> None:
    described = " ".join(run.invoke(cli.app, ["train", "--help"]).output.split())
    for name in ("cell", "direction", "delay_ms", "bptt_s", "hidden", "layers", "epochs"):
        assert f"--{name.replace('_', '-')}" in described
        assert help_of(TrainSettings)[name] in described
        default = getattr(TrainSettings(), name)
        assert default is None or f"[default: {default}" in described


def test_rendering_options_show_the_settings_own_help(run: CliRunner) -> None:
    described = " ".join(run.invoke(cli.app, ["render", "--help"]).output.split())
    for name, words in help_of(RenderSettings).items():
        option = {"retime": "no-retime"}.get(name, name.removesuffix("_s").replace("_", "-"))
        assert f"--{option}" in described
        assert name == "retime" or words in described


def test_the_choices_of_cell_and_direction_are_the_networks() -> None:
    assert tuple(models.Cell) == CELLS
    assert tuple(models.Direction) == (*DIRECTIONS, "whole") == tuple(DELAY_MS)


def test_the_choices_of_codec_are_the_settings() -> None:
    assert tuple(video.Codec) == get_args(Codec)


# Failing --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LipwrightError("x"), 1), (InputError("x"), 3), (MediaError("x"), 3), (FaceError("x"), 3), (CorpusError("x"), 3),
        (TrackError("x"), 3), (OutputExistsError("x"), 3), (ModelError("x"), 3), (MissingPartError("x"), 4),
        (ImportError("no module x"), 4), (FileNotFoundError(2, "No such file", "a.mp4"), 3),
        (PermissionError(13, "Permission denied", "b.mp4"), 3), (KeyboardInterrupt(), 130), (ZeroDivisionError("x"), 1),
        (OSError("no file"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)  # fmt: skip
def test_every_error_is_words_and_an_exit_code(error: BaseException, code: int) -> None:
    seen, words = command.explain(error)
    assert seen == code
    assert words
    assert len(words.splitlines()) <= 2
    if isinstance(error, OSError) and error.filename:
        assert str(error.filename) in words


def test_an_unforeseen_error_says_how_to_see_more() -> None:
    assert "LIPWRIGHT_DEBUG=1" in command.explain(ZeroDivisionError("division by zero"))[1]


RENDER = ["render", "--target", "a.mp4", "--audio", "a.wav", "--out", "o.mp4"]
USAGE = [
    ["render", "--model", "m", "--mouth", "t.json", "--target", "a.mp4", "--audio", "a.wav", "--out", "o.mp4"],
    ["render", "--model", "m", "--out", "o.mp4"],
    ["render", "--jobs", "j.csv", "--target", "a.mp4"],
    ["render", "--jobs", "j.csv", "--model", "m"],
    [*RENDER, "--speaker-audio", "left=b.wav"],
    [*RENDER, "--mouth-gain", "5"],
    [*RENDER, "--crf", "60"],
    [*RENDER, "--start", "5", "--end", "3"],
    [*RENDER, "--alpha", "--overlay"],
    [*RENDER, "--alpha", "--codec", "hevc"],
    [*RENDER, "--preset", "warp"],
    [*RENDER, "--codec", "vp9"],
    [*RENDER, "--model", "m", "--model", "n"],
    [*RENDER, "--bank", "left="],
    [*RENDER, "--model", "left=m"],
    ["render", "--target", "a.mp4", "--out", "o.mp4", "--speaker-audio", "left=b.wav", "--face", "left"],
    ["render", "--target", "a.mp4", "--out", "o.mp4", "--speaker-audio", "b.wav"],
    ["render", "--target", "a.mp4", "--out", "o.mp4", "--speaker-audio", "left=b.wav", "--speaker-audio", "left=c.wav"],
    ["preprocess", "--out", "c"],
    ["preprocess", "a.mp4"],
    ["preprocess", "a.mp4", "--out", "c", "--workers", "0"],
    ["train", "c", "--out", "r", "--epochs", "0"],
    ["train", "c", "--out", "r", "--delay-ms", "5"],
    ["train", "c", "--out", "r", "--device", "abacus"],
    ["evaluate", "--model", "m"],
    ["evaluate", "--model", "m", "a.mp4", "--bank", "b.mp4"],
    ["export", "--out", "t.json"],
    ["export", "--out", "t.json", "--from-video", "a.mp4", "--model", "m", "--audio", "a.wav"],
    ["export", "--out", "t.json", "--model", "m"],
    ["export", "--out", "t.json", "--from-video", "a.mp4", "--format", "bvh"],
    ["stream", "--rate", "100"],
    ["stream", "--channels", "9"],
    ["stream", "--format", "mp3"],
    ["stream", "--gain-db", "nan"],
    ["stream", "--gain-db", "90"],
    ["stream", "--visemes", "anime"],
    ["stream", "--osc", "9000"],
    ["stream", "--osc", "localhost:port"],
    ["stream", "--token", "t"],
    ["stream", "--target", "a.mp4"],
    ["stream", "--microphone", "--rate", "16000"],
    ["stream", "--listen", "here"],
    ["stream", "--listen", "127.0.0.1:65536"],
    ["stream", "--listen", "0", "--points"],
    ["stream", "--listen", "0", "--microphone"],
    ["stream", "--listen", "0", "--bank", "b.mp4"],
    ["render", "--bogus"],
    ["dance"],
]


@pytest.mark.parametrize("words", USAGE, ids=" ".join)
def test_usage_errors_exit_2_and_touch_nothing(
    words: list[str], run: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run.invoke(cli.app, [*words, "--json"] if len(words) > 1 and words[1] != "--bogus" else words)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("listens", [False, True])
def test_a_model_that_hears_the_whole_clip_does_not_stream(run: CliRunner, tmp_path: Path, listens: bool) -> None:
    base = load_model()
    LipSync(replace(base.config, lookahead_ms=None, delay_steps=0)).save(tmp_path / "whole")
    done = run.invoke(cli.app, ["stream", "--model", str(tmp_path / "whole"), *(["--listen", "0"] if listens else [])])
    assert (done.exit_code, done.stdout) == (3, "")
    assert f"{tmp_path / 'whole'} hears the whole clip" in done.stderr
    assert "--direction both" in done.stderr


def test_a_microphone_needs_portaudio(run: CliRunner) -> None:
    try:
        import sounddevice  # noqa: F401
    except OSError:
        done = run.invoke(cli.app, ["stream", "--microphone"])
        assert (done.exit_code, done.stdout) == (4, "")
        assert "apt install libportaudio2" in done.stderr
    else:
        pytest.skip("PortAudio is installed here")


def test_osc_to_nobody(run: CliRunner) -> None:
    done = run.invoke(cli.app, ["stream", "--osc", "nowhere.invalid:9000"])
    assert (done.exit_code, done.stdout) == (3, "")
    assert "nowhere.invalid" in done.stderr


def test_debugging_shows_the_traceback(run: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(command.DEBUG_VARIABLE, "1")
    done = run.invoke(cli.app, ["preprocess", str(tmp_path / "gone.mp4"), "--out", str(tmp_path / "c")])
    assert isinstance(done.exception, InputError)


def test_an_interrupt_that_a_library_lost_is_raised_at_the_next_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_stopped", False)
    with command.progress_bar(quiet=True) as progress:
        progress("work", 1, 10)
        with pytest.raises(KeyboardInterrupt):
            command.stop()
        with pytest.raises(KeyboardInterrupt):
            progress("work", 2, 10)


def test_progress_without_a_terminal_writes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with command.progress_bar(quiet=False) as progress:
        progress("work", 1, 0)
        progress("work", 2, 10)
    assert capfd.readouterr() == ("", "")
