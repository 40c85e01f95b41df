"""Bad input, through the real command: the exit code of the contract, one or two lines that name the file and say what to
do, no traceback, nothing on stdout that is not the one JSON document, and nothing new in the folder.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile

from lipwright.data.encoder import Encoding
from lipwright.data.landmarks import face_track
from lipwright.data.media import BT709, Yuv, probe, read_frames
from lipwright.data.mouth import load_track, track_of
from lipwright.data.writer import VideoWriter

Refuse = Callable[..., None]


def _remux(source: Path, out: Path, kinds: tuple[str, ...], until_s: float = 1e9) -> Path:
    """Copy the streams of some kinds; the index comes last, as FFmpeg writes by itself."""
    with av.open(str(source)) as given, av.open(str(out), "w") as made:
        kept = {s.index: made.add_stream_from_template(s) for s in given.streams if s.type in kinds}
        for packet in given.demux([given.streams[i] for i in kept]):
            if packet.dts is None or packet.pts * packet.time_base >= until_s:
                continue
            packet.stream = kept[packet.stream.index]
            made.mux(packet)
    return out


@pytest.fixture(scope="module")
def bad(lesson: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files that are wrong, each in one way, and of some that are only unusual."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "text.mp4").write_text("Dear diary, today I renamed you.\n" * 500)
    first = lesson.read_bytes()
    assert first.index(b"moov") < first.index(b"mdat")
    (folder / "cut_index_first.mp4").write_bytes(first[: int(len(first) * 0.6)])
    last = _remux(lesson, folder / "whole.mp4", ("video", "audio")).read_bytes()
    assert last.index(b"mdat") < last.index(b"moov")
    (folder / "cut_index_last.mp4").write_bytes(last[: int(len(last) * 0.6)])
    (folder / "whole.mp4").unlink()
    _remux(lesson, folder / "mute.mp4", ("video",), until_s=1.0)
    _remux(lesson, folder / "blind.mp4", ("audio",))
    _remux(lesson, folder / "short.mp4", ("video", "audio"), until_s=2.2)

    sound, rate = soundfile.read(lesson.with_suffix(".wav"), dtype="float32")
    (folder / "empty.wav").write_bytes(b"")
    (folder / "empty.mp4").write_bytes(b"")
    for name, samples in {
        "header.wav": np.zeros(0), "one.wav": np.full(1, 0.1), "nan.wav": np.full(16000, np.nan),
        "silence.wav": np.zeros(16000),
    }.items():  # fmt: skip
        soundfile.write(folder / name, samples.astype(np.float32), 16000, subtype="FLOAT")
    import soxr

    for hz in (8000, 96000):
        soundfile.write(folder / f"{hz}.wav", soxr.resample(sound[:rate], rate, hz), hz)
    six = np.repeat(soxr.resample(sound[:rate], rate, 48000)[:, None], 6, 1) * np.linspace(0.2, 0.7, 6)
    soundfile.write(folder / "surround.wav", six, 48000)
    for name, voice in (("faceless.mp4", lesson.with_suffix(".wav")), ("silent.mp4", folder / "silence.wav")):
        pictures = [Yuv.from_bgr(np.full((256, 256, 3), 90, np.uint8))] * 25
        if name == "silent.mp4":
            pictures = [frame.yuv() for frame in read_frames(probe(folder / "short.mp4"))]
        encoding = Encoding(256, 256, Fraction(1, 12800), Fraction(25), BT709)
        with VideoWriter(folder / name, encoding, audio=probe(voice)) as writer:
            for k, picture in enumerate(pictures):
                writer.write(picture, Fraction(k, 25))
    return folder


@pytest.fixture
def refuse(lipwright: Any, tmp_path: Path) -> Refuse:
    """Return a function that runs a command which has to fail, and looks at all that it may and may not do."""

    def check(*words: object, code: int = 3, names: str, says: str, env: dict[str, str] | None = None) -> None:
        before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
        ran = lipwright(*words, "--json", cwd=tmp_path, env=env)
        assert ran.code == code, ran.err
        assert ran.out == ""
        lines = ran.err.splitlines()
        assert 1 <= len(lines) <= 2, ran.err
        assert all(line.strip() for line in lines)
        assert lines[0].startswith("lipwright: ")
        assert "Traceback" not in ran.err
        assert names in ran.err
        assert re.search(says, ran.err), ran.err
        assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before

    return check


# Files ----------------------------------------------------------------------------------------------------------------

BROKEN = r"may be truncated or of another kind"
TARGETS = [
    ("gone.mp4", "does not exist; check the path"),
    ("text.mp4", BROKEN),
    ("cut_index_last.mp4", BROKEN),
    ("empty.mp4", r"is empty \(0 bytes\)"),
    ("blind.mp4", "no video stream; give a video"),
    ("faceless.mp4", "no face in any of its 25 frames"),
    ("", "is a folder"),
]
SOUNDS = [
    ("gone.wav", "does not exist; check the path"),
    ("text.mp4", BROKEN),
    ("cut_index_last.mp4", BROKEN),
    ("mute.mp4", "no audio stream; give a file"),
    ("empty.wav", r"is empty \(0 bytes\)"),
    ("header.wav", BROKEN),
    ("one.wav", r"1 samples .* at least 0.1 s is needed"),
    ("nan.wav", "16000 sound samples that are not numbers .*; export it again"),
]


@pytest.mark.parametrize(("name", "says"), TARGETS, ids=lambda v: v.split()[0] if v else "folder")
def test_a_target_that_cannot_be_used(refuse: Refuse, bad: Path, trained: Any, name: str, says: str) -> None:
    refuse(
        "render", "--model", trained.run, "--target", bad / name, "--audio", bad / "8000.wav", "--out", "out.mp4",
        names=str(bad / name), says=says,
    )  # fmt: skip


@pytest.mark.parametrize(("name", "says"), SOUNDS, ids=lambda v: v.split()[0])
def test_a_sound_that_cannot_be_used(refuse: Refuse, bad: Path, lesson: Path, trained: Any, name: str, says: str) -> None:
    refuse(
        "render", "--model", trained.run, "--target", lesson, "--audio", bad / name, "--out", "out.mp4",
        names=str(bad / name), says=says,
    )  # fmt: skip


@pytest.fixture(scope="module")
def short_track(bad: Path) -> Path:
    """The measured mouth of ``short.mp4``, as a file."""
    track_of(face_track(probe(bad / "short.mp4"))).save(bad / "short.json")
    return bad / "short.json"


@pytest.mark.parametrize(
    ("name", "by"), [("8000.wav", "model"), ("silence.wav", "model"), ("96000.wav", "mouth"), ("surround.wav", "mouth")]
)
def test_unusual_sound_works_and_is_written_at_its_own_rate(
    lipwright: Any, bad: Path, trained: Any, short_track: Path, tmp_path: Path, name: str, by: str
) -> None:
    motion = trained.run if by == "model" else short_track
    ran = lipwright(
        "render", f"--{by}", motion, "--target", bad / "short.mp4", "--audio", bad / name, "--out", "out.mp4", "--json",
        cwd=tmp_path,
    )  # fmt: skip
    assert (ran.code, ran.err) == (0, "")
    assert ran.json["frames"] == 25
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]
    sound, given = probe(tmp_path / "out.mp4").need_audio(), probe(bad / name).need_audio()
    assert (sound.rate_hz, sound.channels) == (given.rate_hz, given.channels)


def test_the_usable_part_of_a_truncated_video_works_with_a_warning(
    lipwright: Any, bad: Path, short_track: Path, tmp_path: Path, own_cache: dict[str, str]
) -> None:
    ran = lipwright(
        "render", "--mouth", short_track, "--target", bad / "cut_index_first.mp4", "--audio", bad / "8000.wav", "--out",
        "out.mp4", "--json", cwd=tmp_path, env=own_cache,
    )  # fmt: skip
    assert ran.code == 0
    assert re.fullmatch(rf"{bad / 'cut_index_first.mp4'} ends early: [\d.]+ of [\d.]+ s can be read", ran.err.strip())
    assert ran.json["frames"] == 25


def test_preprocess_takes_what_it_can_and_names_the_rest(lipwright: Any, bad: Path, tmp_path: Path) -> None:
    wrong = ["text.mp4", "cut_index_last.mp4", "mute.mp4", "blind.mp4", "faceless.mp4", "empty.mp4", "silent.mp4"]
    given = [bad / name for name in (*wrong, "cut_index_first.mp4", "short.mp4")]
    ran = lipwright("preprocess", *given, "--out", "corpus", "--workers", 1, "--json", cwd=tmp_path)
    assert ran.code == 5
    assert "Traceback" not in ran.err
    rows = {Path(row["path"]).name: row for row in ran.json["clips"]}
    assert len(rows) == len(given)
    assert {name for name, row in rows.items() if row["status"] == "ok"} == {"cut_index_first.mp4", "short.mp4"}
    for name in wrong:
        assert rows[name]["status"] == "rejected"
        assert rows[name]["reason"] in ran.err
        assert name in rows[name]["reason"]
    assert sorted(p.stem for p in (tmp_path / "corpus" / "clips").iterdir()) == sorted(
        rows[name]["id"] for name in ("cut_index_first.mp4", "short.mp4")
    )


def test_preprocess_of_nothing_usable_fails(lipwright: Any, refuse: Refuse, bad: Path, tmp_path: Path) -> None:
    ran = lipwright("preprocess", bad / "text.mp4", bad / "mute.mp4", "--out", "corpus", "--json", cwd=tmp_path)
    assert ran.code == 3
    assert [row["status"] for row in ran.json["clips"]] == ["rejected", "rejected"]
    assert len(ran.err.splitlines()) == 2
    assert all(name in ran.err for name in ("text.mp4", "mute.mp4"))
    refuse("train", "corpus", "--out", "run", names="corpus", says="nothing to train on")
    refuse("preprocess", bad / "gone.mp4", "--out", "other", names="gone.mp4", says="does not exist; check the path")
    refuse("train", "gone", "--out", "run", names="gone", says="make one with lipwright preprocess")


LESSONS = [
    (["--delay-ms", 60_000], 3, "--delay-ms 60000 is longer than the longest clip"),
    (["--bptt-s", 0.01], 3, "window of one step.*use 0.02 or more"),
    (["--bptt-s", "nan"], 3, "window of one step.*use 0.02 or more"),
]


@pytest.mark.parametrize(("words", "code", "says"), LESSONS)
def test_a_network_that_cannot_learn_so(refuse: Refuse, trained: Any, words: list[Any], code: int, says: str) -> None:
    refuse("train", trained.corpus, "--out", "run", *words, code=code, names="--", says=says)


def test_an_unknown_cell_or_direction_is_a_usage_error(lipwright: Any, trained: Any, tmp_path: Path) -> None:
    for option, choices in (("--cell", "lstm.*gru.*rnn-tanh.*rnn-relu"), ("--direction", "forward.*both")):
        ran = lipwright("train", trained.corpus, "--out", "run", option, "transformer", cwd=tmp_path)
        assert ran.code == 2
        assert re.search(f"Invalid value for '{option}': .*'transformer' is not one of.*{choices}", ran.err)
        assert ran.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_training_that_cannot_be_gone_on_with(refuse: Refuse, trained: Any, tmp_path: Path) -> None:
    again = ["train", trained.corpus, "--resume", "--epochs", 4, "--device", "cpu", "--out"]
    refuse(*again, "gone", names="gone", says="no training to resume; train without --resume first")
    shutil.copytree(trained.run, tmp_path / "run")
    for words, says in (
        (["--cell", "gru"], "trained with cell lstm, not gru; resume it so"),
        (["--hidden", 12], "trained with hidden 60, not 12; resume it so"),
        (["--delay-ms", 90], "trained with --delay-ms 400, not --delay-ms 90; resume it so"),
    ):
        refuse(*again, "run", *words, names="run", says=says)


def test_a_corpus_with_values_that_are_not_numbers(refuse: Refuse, trained: Any, tmp_path: Path) -> None:
    from lipwright.data.corpus import Corpus

    shutil.copytree(trained.corpus, tmp_path / "corpus")
    corpus = Corpus.load(tmp_path / "corpus")
    (row,) = corpus.usable
    clip = corpus.load_clip(row["id"])
    clip.features[7, 3] = np.inf
    corpus.save_clip(row["id"], clip)
    refuse("train", "corpus", "--out", "run", names=row["id"], says="not numbers; run lipwright preprocess again")


def test_what_cannot_be_inspected(refuse: Refuse, trained: Any, tmp_path: Path) -> None:
    refuse("inspect", trained.run, "--out", "look.txt", names="look.txt", says="use .png, .svg or .pdf")
    refuse("inspect", trained.run, "gone", names="gone", says="does not exist; train one")
    refuse("inspect", trained.run, "--corpus", "gone", names="gone", says="make one with lipwright preprocess")
    (tmp_path / "inspect.png").write_bytes(b"mine")
    refuse("inspect", trained.run, names="inspect.png", says="already exists")


def test_evaluate_judges_what_it_can_and_names_the_rest(lipwright: Any, bad: Path, trained: Any, tmp_path: Path) -> None:
    ran = lipwright(
        "evaluate", "--model", trained.run, bad / "faceless.mp4", bad / "short.mp4", bad / "mute.mp4", "--json", cwd=tmp_path
    )
    assert ran.code == 5
    assert [clip["path"] for clip in ran.json["clips"] if "error" not in clip] == [str(bad / "short.mp4")]
    lines = ran.err.splitlines()
    assert len(lines) == 2
    assert "faceless.mp4" in lines[0]
    assert "mute.mp4" in lines[1]


def test_evaluate_of_nothing_usable_fails(refuse: Refuse, bad: Path, trained: Any) -> None:
    refuse("evaluate", "--model", trained.run, bad / "mute.mp4", names="mute.mp4", says="no audio stream; give a file")


# Models ---------------------------------------------------------------------------------------------------------------

MODELS = [
    ("gone", "gone", "does not exist; train one"),
    ("empty", "empty", "config.json and model.safetensors missing; train it again"),
    ("config.json", "config.json", "is not a model's configuration .*; train it again"),
    ("model.safetensors", "model.safetensors", "broken or truncated .*; train it again"),
    ("features", "features", "other feature settings .*; train it again"),
]


def _broken_model(kind: str, run: Path, folder: Path) -> Path:
    out = folder / kind.split(".")[0]
    if kind == "empty":
        out.mkdir()
    elif kind != "gone":
        shutil.copytree(run, out)
        if kind == "features":
            config = json.loads((out / "config.json").read_text())
            config["features"]["mfcc"] = 20
            (out / "config.json").write_text(json.dumps(config))
        else:
            whole = (out / kind).read_bytes()
            (out / kind).write_bytes(whole[: len(whole) // 3])
    return out


@pytest.mark.parametrize(("kind", "names", "says"), MODELS, ids=[kind for kind, *_ in MODELS])
def test_a_model_that_cannot_be_used(
    refuse: Refuse, trained: Any, bad: Path, tmp_path: Path, own_cache: dict[str, str], kind: str, names: str, says: str
) -> None:
    """It is told before any face is tracked."""
    folder = _broken_model(kind, trained.run, tmp_path)
    refuse(
        "render", "--model", folder, "--target", bad / "short.mp4", "--audio", bad / "8000.wav", "--out", "out.mp4",
        names=names, says=says, env=own_cache,
    )  # fmt: skip
    assert not list(Path(own_cache["LIPWRIGHT_CACHE"]).rglob("*.safetensors"))
    if kind == "features":  # the other commands read a model by the same function
        for words in (["evaluate", bad / "short.mp4"], ["export", "--audio", bad / "8000.wav", "--out", "out.json"]):
            refuse(*words, "--model", folder, names=names, says=says, env=own_cache)


def test_a_truncated_ridge_stops_the_comparison_but_not_the_render(
    refuse: Refuse, lipwright: Any, trained: Any, bad: Path, tmp_path: Path
) -> None:
    folder = _broken_model("ridge.safetensors", trained.run, tmp_path)
    refuse("evaluate", "--model", folder, bad / "short.mp4", names="ridge.safetensors", says="broken .*; train the model again")
    ran = lipwright("export", "--model", folder, "--audio", bad / "8000.wav", "--out", "track.json", cwd=tmp_path)
    assert ran.code == 0


@pytest.mark.parametrize(
    "content", [None, "{", '{"format": "lipwright-mouth", "version": 9}', "[]", '{"format": "lipwright-mouth"}']
)
def test_a_mouth_track_that_cannot_be_used(refuse: Refuse, bad: Path, tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "track.json").write_text(content)
    refuse(
        "render", "--mouth", "track.json", "--target", bad / "short.mp4", "--audio", bad / "8000.wav", "--out", "out.mp4",
        names="track.json", says="does not exist; write one|is not a mouth track|is a mouth track of version",
    )  # fmt: skip


# Outputs and parts ----------------------------------------------------------------------------------------------------


def test_an_existing_output_stays_as_it_is(refuse: Refuse, lipwright: Any, trained: Any, bad: Path, tmp_path: Path) -> None:
    says = "already exists; choose another --out or pass --force"
    video = bad / "short.mp4"
    for name in ("out.mp4", "track.json", "run"):
        (tmp_path / name).write_text("mine")
    render = ["render", "--mouth", "own.json", "--target", video, "--audio", bad / "8000.wav"]
    refuse(*render, "--out", "out.mp4", names="out.mp4", says=says)
    refuse("export", "--from-video", video, "--out", "track.json", names="track.json", says=says)
    refuse("train", trained.corpus, "--out", "run", names="run", says=says)
    assert {(tmp_path / name).read_text() for name in ("out.mp4", "track.json", "run")} == {"mine"}
    ran = lipwright("export", "--from-video", video, "--out", "track.json", "--force", "-q", cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert load_track(tmp_path / "track.json").valid.all()
    (tmp_path / "own.json").write_bytes((tmp_path / "track.json").read_bytes())
    ran = lipwright(*render, "--out", "out.mp4", "--force", cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert probe(tmp_path / "out.mp4").video is not None


def test_an_output_that_cannot_be_written(refuse: Refuse, trained: Any, bad: Path) -> None:
    words = ["render", "--model", trained.run, "--target", bad / "short.mp4", "--audio", bad / "8000.wav", "--out"]
    refuse(*words, "out.avi", names="out.avi", says=r"cannot write .* \.mp4")
    refuse(*words, "nowhere/out.mp4", names="nowhere", says="is not a folder; create it first")


def test_a_missing_landmark_model(refuse: Refuse, trained: Any, bad: Path, tmp_path: Path, own_cache: dict[str, str]) -> None:
    nothing = own_cache | {"LIPWRIGHT_FACE_LANDMARKER": "nothing.task"}
    says = "LIPWRIGHT_FACE_LANDMARKER names .* does not exist; correct or unset it"
    refuse("preprocess", bad / "short.mp4", "--out", "corpus", code=4, names="nothing.task", says=says, env=nothing)
    words = ["--target", bad / "short.mp4", "--audio", bad / "8000.wav", "--out", "out.mp4"]
    refuse("render", "--model", trained.run, *words, code=4, names="nothing.task", says=says, env=nothing)
    (tmp_path / "wrong.task").write_bytes(b"not it")
    wrong = own_cache | {"LIPWRIGHT_FACE_LANDMARKER": "wrong.task"}
    refuse(
        "preprocess", bad / "short.mp4", "--out", "corpus", code=4, names="wrong.task", says="is not the face landmark model",
        env=wrong,
    )  # fmt: skip


def test_a_start_that_is_not_there(refuse: Refuse, trained: Any) -> None:
    refuse(
        "train", trained.corpus, "--out", "run", "--init", "nowhere",
        names="nowhere", says="not a model folder; start from one, from base or from none",
    )  # fmt: skip


def test_usage(refuse: Refuse, bad: Path) -> None:
    words = ["--target", bad / "short.mp4", "--audio", bad / "8000.wav", "--out", "out.mp4"]
    both = ["--model", "run", "--mouth", "mouth.json"]
    refuse("render", *words, *both, code=2, names="--model RUN or --mouth TRACK.json", says="not both")
