"""The three jobs, one after the other through the real command: from a talking video to a lip-synced one, and what an
interruption, a second run or little data do to them.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from safetensors.numpy import load_file

from lipwright.data.corpus import Corpus
from lipwright.data.encoder import Encoding
from lipwright.data.landmarks import face_track
from lipwright.data.media import BT709, Yuv, probe, read_frames
from lipwright.data.mouth import aperture, load_track, track_of
from lipwright.data.writer import VideoWriter

RENDER_KEYS = {
    "out", "frames", "seconds", "elapsed_s", "bank_s", "tracking_s", "frames_per_s", "peak_rss_mb", "outside_max_abs",
    "mask_share", "painted", "synthetic", "credentials", "signer", "unsigned",
}  # fmt: skip
METRICS = {"aperture_r", "aperture_gain", "width_r", "lmd", "lmd_ratio", "lag_ms", "closure_f1", "jitter_ratio"}
PICTURE = {"mouth_psnr", "mouth_ssim", "sharpness_ratio", "flicker_ratio", "outside_max_abs", "mask_share"}


def _times(path: Path) -> list[Fraction]:
    return [frame.time for frame in read_frames(probe(path))]


def _sound_packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.audio[0]) if packet.size]


def _tags(path: Path) -> str:
    with av.open(str(path)) as container:
        return " ".join(container.metadata.values())


def _audio_s(path: Path) -> float:
    """Length of a file's sound, as decoded."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        return sum(frame.samples for frame in container.decode(stream)) / stream.rate


# From a talking video to a lip-synced one -----------------------------------------------------------------------------


def test_check_says_what_can_be_used(installed: Any, lipwright: Any, lesson: Path, talk: Any, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    ran = installed("check", lesson, talk.path, tmp_path / "broken.mp4", "--json", cwd=tmp_path)
    assert ran.code == 5
    assert ran.json.keys() == {"clips", "elapsed_s"}
    assert [clip["verdict"] for clip in ran.json["clips"]] == ["usable", "usable", "not usable"]
    for clip in ran.json["clips"]:
        assert clip.keys() >= {"path", "verdict", "reasons", "lag_ms", "lag_confidence", "face_rate", "ranges"}
    assert ran.err.strip() == "lipwright: 1 of 3 videos cannot be used"
    words = lipwright("check", talk.path, tmp_path / "broken.mp4", cwd=tmp_path)
    assert words.code == 5
    head, own, other, *lines = words.out.splitlines()
    assert head.split()[:2] == ["verdict", "s"]
    assert own.split()[:2] == ["talk.mp4", "usable"]
    assert other.split()[:3] == ["broken.mp4", "not", "usable"]
    assert any(line.startswith("broken.mp4: cannot be read as video or audio") for line in lines)
    assert lipwright("check", tmp_path / "broken.mp4", cwd=tmp_path).code == 3
    assert list(tmp_path.iterdir()) == [tmp_path / "broken.mp4"]


def test_preprocess_reports_its_rows(trained: Any, lesson: Path) -> None:
    report = trained.preprocessed
    assert report.keys() == {"clips", "seconds", "frames", "elapsed_s"}
    (row,) = report["clips"]
    assert row.keys() >= {
        "id", "path", "sha256", "speaker", "start_s", "end_s", "rate", "frames", "face_rate", "lag_ms", "split", "status",
        "reason",
    }  # fmt: skip
    assert row["status"] == "ok"
    assert row["frames"] == report["frames"] == len(_times(lesson))
    assert row["split"]["validation"] is not None
    head = json.loads((trained.corpus / "corpus.json").read_text())
    assert head.keys() >= {"format", "version", "settings", "settings_hash"}
    assert [json.loads(line) for line in (trained.corpus / "manifest.jsonl").read_text().splitlines()] == report["clips"]


def test_train_reports_its_model(trained: Any) -> None:
    report = trained.reported
    assert report.keys() == {"run", "init", "epochs", "steps", "val_loss", "val_aperture_r", "elapsed_s"}
    assert (report["run"], report["init"]) == ("run", "base")
    assert 0 <= report["epochs"] <= 4
    assert report["val_loss"] > 0
    assert -1 <= report["val_aperture_r"] <= 1
    rows = [json.loads(line) for line in (trained.run / "metrics.jsonl").read_text().splitlines()]
    searched, refitted = ([row["epoch"] for row in rows if row["stage"] == stage] for stage in ("search", "refit"))
    assert searched == [1, 2, 3, 4]
    assert refitted == searched[: report["epochs"]]


def test_the_command_trains_as_the_library_does_bit_by_bit(trained: Any, tmp_path: Path) -> None:
    from lipwright.pipeline import train_model
    from lipwright.pipeline.settings import TrainSettings

    train_model(trained.corpus, tmp_path / "again", TrainSettings(epochs=4), device="cpu", seed=5)
    ours, theirs = load_file(tmp_path / "again" / "model.safetensors"), load_file(trained.run / "model.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_sound_longer_than_the_target_plays_it_forth_and_back(
    installed: Any, trained: Any, talk: Any, lesson: Path, tmp_path: Path
) -> None:
    """The model's mouth; the sound is PCM and is encoded."""
    sound = lesson.with_suffix(".wav")
    ran = installed(
        "render", "--model", trained.run, "--target", talk.path, "--audio", sound, "--out", "out.mp4", "--json", cwd=tmp_path
    )
    assert (ran.code, ran.err) == (0, "")
    report = ran.json
    assert report.keys() == RENDER_KEYS
    assert report["synthetic"] is True
    assert report["outside_max_abs"] == 0
    assert 0 < report["mask_share"] < 1
    times, own = _times(tmp_path / "out.mp4"), _times(talk.path)
    assert report["frames"] == len(times) > len(own)
    assert times == [Fraction(k, 25) for k in range(len(times))]
    length = probe(sound).need_audio()
    assert length.rate_hz == probe(tmp_path / "out.mp4").need_audio().rate_hz
    assert abs(len(times) / 25 - _audio_s(sound)) <= 1 / 25
    assert report["seconds"] == pytest.approx(_audio_s(sound), abs=0.002)
    assert "synthetic" in _tags(tmp_path / "out.mp4").lower()
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_no_training_is_needed(lipwright: Any, lesson: Path, talk: Any, tmp_path: Path) -> None:
    """The base model speaks where no model is named."""
    sound = lesson.with_suffix(".wav")
    ran = lipwright("render", "--target", talk.path, "--audio", sound, "--out", "out.mp4", "--json", cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert ran.json.keys() == RENDER_KEYS
    painted = track_of(face_track(probe(tmp_path / "out.mp4")))
    assert np.ptp(aperture(painted.xyz[painted.valid])) > 0.05
    ran = lipwright("evaluate", lesson, "--json", cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    (clip,) = ran.json["clips"]
    assert clip["seen"] is False
    assert clip["aperture_r"] > 0.7  # the lesson's mouth follows the rule that the base model has learned
    assert clip.keys() >= METRICS | {"baselines"}


@pytest.fixture(scope="module")
def measured(installed: Any, lesson: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lesson's mouth, measured by ``export``."""
    folder = tmp_path_factory.mktemp("measured")
    ran = installed("export", "--from-video", lesson, "--format", "track", "--out", "track.json", "--json", cwd=folder)
    assert (ran.code, ran.err) == (0, "")
    assert ran.json["steps"] == len(load_track(folder / "track.json").xyz)
    return folder / "track.json"


def test_sound_shorter_than_the_target_cuts_it_and_aac_is_copied(
    lipwright: Any, measured: Path, lesson: Path, talk: Any, tmp_path: Path
) -> None:
    """A mouth track in place of a model; the sound comes from another video, as AAC."""
    ran = lipwright(
        "render", "--mouth", measured, "--target", lesson, "--audio", talk.path, "--out", "out.mp4", "--json", cwd=tmp_path
    )
    assert (ran.code, ran.err) == (0, "")
    out = tmp_path / "out.mp4"
    times, own = _times(out), _times(lesson)
    assert len(times) < len(own)
    assert times == own[: len(times)]
    assert abs(len(times) / 25 - _audio_s(talk.path)) <= 1 / 25
    assert _sound_packets(out) == _sound_packets(talk.path)
    assert probe(out).need_audio().start == probe(talk.path).need_audio().start
    assert "synthetic" in _tags(out).lower()
    # It is the lesson's own mouth that is shown, although the sound is another.
    shown, asked = track_of(face_track(probe(out))), load_track(measured)
    steps = min(len(shown.xyz), len(asked.xyz))
    assert np.corrcoef(aperture(shown.xyz[:steps]), aperture(asked.xyz[:steps]))[0, 1] > 0.9


def test_evaluate_with_and_without_the_picture(lipwright: Any, trained: Any, talk: Any, lesson: Path, tmp_path: Path) -> None:
    plain = lipwright("evaluate", "--model", trained.run, lesson, talk.path, "--json", cwd=tmp_path)
    assert (plain.code, plain.err) == (0, "")
    assert plain.json.keys() == {"clips", "mean"}
    assert [clip["seen"] for clip in plain.json["clips"]] == [True, False]
    for clip in plain.json["clips"]:
        assert clip.keys() == {"path", "seen", "baselines"} | METRICS
    assert plain.json["mean"]["lmd"] == pytest.approx(np.mean([clip["lmd"] for clip in plain.json["clips"]]))
    full = lipwright("evaluate", "--model", trained.run, talk.path, "--render", "--bank", lesson, "--json", cwd=tmp_path)
    assert (full.code, full.err) == (0, "")
    (clip,) = full.json["clips"]
    assert {k: clip[k] for k in METRICS} == {k: plain.json["clips"][1][k] for k in METRICS}
    painted = clip["render"]
    assert painted.keys() >= METRICS | PICTURE | {"model", "untouched"}
    assert painted["outside_max_abs"] == 0
    assert painted["aperture_r"] > 0.8  # the measured mouth, on other frames, from other footage, tracked again
    assert painted["untouched"]["aperture_r"] < 0.6  # leaving the picture alone fails
    assert list(tmp_path.iterdir()) == []


def test_people_get_words_and_tables(installed: Any, trained: Any, talk: Any, tmp_path: Path) -> None:
    ran = installed("evaluate", "--model", trained.run, talk.path, cwd=tmp_path)
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert re.search(r"talk\.mp4 +model +ridge +mean mouth", lines[0])
    assert {line.split()[0] for line in lines[1:]} >= METRICS


def test_inspect_shows_how_far_back_a_gradient_flows(installed: Any, lipwright: Any, trained: Any, tmp_path: Path) -> None:
    ran = installed("inspect", trained.run, "--json", cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    (look,) = ran.json["runs"]
    assert (look["run"], look["cell"]) == (str(trained.run), "lstm")
    assert (tmp_path / "inspect.png").read_bytes().startswith(b"\x89PNG")
    words = lipwright("inspect", trained.run, trained.run, "--out", "look.svg", cwd=tmp_path)
    assert words.code == 0
    assert words.out.count(str(trained.run)) == 2
    assert words.out.splitlines()[-1] == "look.svg"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_goes_on_from_the_command_line(
    lipwright: Any, trained: Any, tmp_path: Path, number: int
) -> None:
    words = ["train", trained.corpus, "--out", "run", "--device", "cpu", "--json", "--epochs", 12, "--hidden", 8]

    def learning() -> bool:
        return any(len(path.read_text().splitlines()) >= 2 for path in tmp_path.glob(".run.*/metrics.jsonl"))

    ran = lipwright.interrupted(*words, cwd=tmp_path, number=number, when=learning)
    assert (ran.code, ran.out) == (130, "")
    assert ran.err.splitlines()[-1] == "lipwright: interrupted; run holds the best so far: go on with --resume"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    rows = len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert lipwright(*words, cwd=tmp_path).code == 3
    assert lipwright(*words, "--resume", cwd=tmp_path).code == 0
    stages = [json.loads(row)["stage"] for row in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(stages) > rows
    assert stages[-1] == "refit"


# Corpora --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def footage(talk: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips of two speakers in sub-folders, a twin of one of them, and files that are no videos."""
    folder = tmp_path_factory.mktemp("footage")
    pictures = [frame.yuv() for frame in read_frames(probe(talk.path))]
    for name, first in {"ann/1.mp4": 0, "ann/2.mp4": 51, "bob/3.mp4": 102}.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        begin = Fraction(first, 25)
        encoding, span_s = Encoding(320, 320, Fraction(1, 12800), Fraction(25), BT709), (begin, begin + Fraction(51, 25))
        with VideoWriter(path, encoding, audio=probe(talk.path), audio_span_s=span_s) as writer:
            for j, picture in enumerate(pictures[first : first + 51]):
                writer.write(picture, Fraction(j, 25))
    (folder / "bob" / "twin.mp4").write_bytes((folder / "ann" / "1.mp4").read_bytes())
    (folder / "notes.txt").write_text("not a video")
    (folder / "ann" / "cover.jpg").write_bytes(b"not a video")
    return folder


def _clips(corpus: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (corpus / "clips").iterdir() if not p.name.startswith(".")}


def _rows(corpus: Path) -> list[str]:
    return (corpus / "manifest.jsonl").read_text().splitlines()


@pytest.fixture(scope="module")
def undisturbed(lipwright: Any, footage: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The corpus of the footage, made in one go by two processes, and what the command did."""
    folder = tmp_path_factory.mktemp("undisturbed")
    ran = lipwright("preprocess", footage, "--out", "corpus", "--workers", 2, "--json", cwd=folder)
    assert ran.code == 0
    return folder / "corpus", ran


def test_a_sub_folder_is_a_speaker_and_only_videos_count(undisturbed: tuple[Path, Any], footage: Path) -> None:
    corpus, ran = undisturbed
    rows = {Path(row["path"]).relative_to(footage.resolve()).as_posix(): row for row in ran.json["clips"]}
    assert {name: row["speaker"] for name, row in rows.items()} == {"ann/1.mp4": "ann", "ann/2.mp4": "ann", "bob/3.mp4": "bob"}
    assert all(row["status"] == "ok" for row in rows.values())
    assert "twin.mp4 holds the same bytes as" in ran.err
    assert len(list((corpus / "clips").iterdir())) == 3


def test_a_second_run_redoes_nothing(lipwright: Any, undisturbed: tuple[Path, Any], footage: Path) -> None:
    corpus, first = undisturbed
    before = {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in (corpus / "clips").iterdir()}
    second = lipwright("preprocess", footage, "--out", corpus, "--json", cwd=corpus.parent)
    assert second.code == 0
    assert second.json["clips"] == first.json["clips"]
    assert {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in (corpus / "clips").iterdir()} == before


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 2), (signal.SIGKILL, 1)], ids=["ctrl-c", "killed"])
def test_an_interrupted_preprocess_resumes_to_the_same_corpus(
    lipwright: Any, undisturbed: tuple[Path, Any], footage: Path, tmp_path: Path, own_cache: dict[str, str], number: int,
    workers: int,
) -> None:  # fmt: skip
    corpus = tmp_path / "corpus"
    words = ["preprocess", footage, "--out", corpus, "--json", "--workers", workers]
    ran = lipwright.interrupted(
        *words, cwd=tmp_path, env=own_cache, number=number, when=lambda: any(corpus.glob("clips/*.safetensors"))
    )
    assert ran.out == ""
    assert 1 <= len(_clips(corpus)) < 3
    Corpus.load(corpus)
    if number == signal.SIGINT:
        assert ran.code == 130
        assert ran.err.splitlines()[-1] == "lipwright: interrupted; nothing half-written was left"
        assert "Traceback" not in ran.err
        assert not list(tmp_path.rglob("*partial*"))
        assert not list(Path(own_cache["LIPWRIGHT_CACHE"]).rglob("*partial*"))
    done = lipwright(*words, cwd=tmp_path, env=own_cache)
    assert done.code == 0
    assert _clips(corpus) == _clips(undisturbed[0])
    assert _rows(corpus) == _rows(undisturbed[0])
    assert done.json["clips"] == undisturbed[1].json["clips"]


def test_an_interrupted_render_leaves_nothing(lipwright: Any, measured: Path, lesson: Path, tmp_path: Path) -> None:
    def writing() -> bool:
        return any(p.stat().st_size > 0 for p in tmp_path.glob(".out.*"))

    ran = lipwright.interrupted(
        "render", "--mouth", measured, "--target", lesson, "--audio", lesson, "--out", "out.mp4", "--json", cwd=tmp_path,
        when=writing,
    )  # fmt: skip
    assert ran.code == 130
    assert ran.out == ""
    assert ran.err == "lipwright: interrupted; nothing half-written was left\n"
    assert list(tmp_path.iterdir()) == []


def test_little_data_is_trained_on_for_all_epochs_and_that_is_said(
    lipwright: Any, undisturbed: tuple[Path, Any], tmp_path: Path
) -> None:
    ran = lipwright(
        "train", undisturbed[0], "--out", "run", "--hidden", 8, "--bptt-s", 0.1, "--device", "cpu", "--json", cwd=tmp_path
    )
    assert ran.code == 0
    assert re.fullmatch(r"too little footage to keep some for validation: all 24 epochs are trained", ran.err.strip())
    assert ran.json["val_loss"] is None
    assert ran.json["val_aperture_r"] is None
    assert ran.json["epochs"] == 24


# Frames without a face ------------------------------------------------------------------------------------------------


@pytest.fixture
def gap(lesson: Path, tmp_path: Path) -> Path:
    """Three seconds of the lesson whose middle second is grey."""
    path = tmp_path / "gap.mp4"
    grey = Yuv(np.full((256, 256), 120, np.uint8), *(np.full((128, 128), 128, np.uint8) for _ in range(2)))
    encoding = Encoding(256, 256, Fraction(1, 12800), Fraction(25), BT709)
    with VideoWriter(path, encoding, audio=probe(lesson)) as writer:
        for frame in read_frames(probe(lesson)):
            if frame.index == 75:
                break
            writer.write(grey if 25 <= frame.index < 50 else frame.yuv(), frame.time)
    return path


def test_a_second_without_a_face_is_passed_over(
    lipwright: Any, gap: Path, measured: Path, wav: Callable[..., Path], tone: Callable[..., Any], tmp_path: Path
) -> None:
    sound = wav(tone(3.0))
    words = ["--mouth", measured, "--target", gap, "--audio", sound]
    ran = lipwright("render", *words, "--out", "out.mp4", "--json", cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert ran.json["frames"] == 75
    shown = [frame.yuv() for frame in read_frames(probe(tmp_path / "out.mp4"))]
    for k in range(27, 48):
        assert np.abs(shown[k].y.astype(int) - 120).max() <= 3
