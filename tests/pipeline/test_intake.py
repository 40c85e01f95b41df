"""Videos are cut into segments, each with its own sound; sound and picture that lie apart are put together."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lipwright.data.audio import read_speech
from lipwright.data.corpus import Clip, Corpus
from lipwright.data.errors import Cancelled, CorpusError, InputError, MissingPartError
from lipwright.data.face_space import ANCHORS, CANONICAL
from lipwright.data.features import FeatureSettings, compute_features
from lipwright.data.landmarks import FaceTrack
from lipwright.data.manifest import Row
from lipwright.data.media import Yuv, file_sha256, probe, read_frames
from lipwright.data.mouth import LIPS, Speaker
from lipwright.data.segments import NO_FACE, NO_SOUND, OTHER_SOUND
from lipwright.data.speech import Speech
from lipwright.models.errors import ModelError
from lipwright.pipeline import intake
from lipwright.pipeline.intake import LEAST_CORRECTED_MS, Source, give_up, take_in
from lipwright.pipeline.predict import load_model, predict_mouth

FEATURES = FeatureSettings()


def take(path: Path, corpus: Path) -> tuple[list[Row], list[Clip]]:
    """The rows of a video, and the clips of those that can be used."""
    rows = take_in(Source(path, "somebody"), Corpus.create(corpus, FEATURES).folder, FEATURES)
    opened = Corpus.load(corpus)
    assert json.loads(json.dumps(rows)) == rows
    return rows, [opened.load_clip(row["id"]) for row in rows if row["status"] == "ok"]


# Segments -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def broken_up(talk: Any, encode: Callable[..., Path]) -> Path:
    """Three seconds of the talking photograph, a second and a half of nobody, and the rest, mirrored."""
    faces = [frame.yuv() for frame in read_frames(probe(talk.path), threads=1)]
    nobody = Yuv(*(np.full_like(p, 90) for p in vars(faces[0]).values()))
    mirrored = [Yuv(*(np.ascontiguousarray(p[:, ::-1]) for p in vars(face).values())) for face in faces]
    pictures = [*faces[:75], *[nobody] * 37, *mirrored[75:150]]
    sound = read_speech(probe(talk.path))
    return encode(
        "broken.mp4",
        video=[(Fraction(k, 25), picture) for k, picture in enumerate(pictures)],
        audio=[(Fraction(0), np.tile(sound, 2)[None])],
        audio_rate_hz=16000,
    )


def test_of_what_is_left_out_no_clip_is_made(broken_up: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[float] = []
    clip_of = intake._clip_of
    monkeypatch.setattr(
        intake, "_clip_of", lambda cut, usable, row, *rest: made.append(row["start_s"]) or clip_of(cut, usable, row, *rest)
    )
    rows, _ = take(broken_up, tmp_path / "corpus")
    assert made == [row["start_s"] for row in rows if row["status"] == "ok"]


def test_a_video_is_cut_where_its_picture_is(broken_up: Path, tmp_path: Path) -> None:
    rows, clips = take(broken_up, tmp_path / "corpus")
    assert [row["reason"] for row in rows] == [None, NO_FACE, None]
    assert [row["status"] for row in rows] == ["ok", "rejected", "ok"]
    assert [row["frames"] for row in rows] == [75, 37, 75]
    assert [(row["start_s"], row["end_s"]) for row in rows] == [(0.0, 2.97), (3.0, 4.45), (4.48, 7.45)]
    assert [row["id"] for row in rows] == [f"{file_sha256(broken_up)[:12]}-{ms}" for ms in (0, 3000, 4480)]
    assert len(list((tmp_path / "corpus" / "clips").iterdir())) == 2
    samples = read_speech(probe(broken_up))
    whole = compute_features(samples)
    for row, clip in zip((rows[0], rows[2]), clips, strict=True):
        steps = slice(round(100 * row["start_s"]), round(100 * row["end_s"]))
        np.testing.assert_allclose(clip.features, whole[steps], rtol=0, atol=1e-4)  # dB
        np.testing.assert_allclose(clip.audio / 32767, samples[160 * steps.start : 160 * steps.stop], atol=1e-4)
        np.testing.assert_allclose(clip.times_s, np.arange(75) / 25, atol=1e-9)
        assert clip.valid.all()
        assert row["face_rate"] == 1


def test_a_segment_after_the_end_of_the_sound_is_left(broken_up: Path, encode: Callable[..., Path], tmp_path: Path) -> None:
    pictures = [(frame.time, frame.yuv()) for frame in read_frames(probe(broken_up))]
    sound = read_speech(probe(broken_up))[: 5 * 16000]
    path = encode("early.mp4", video=pictures, audio=[(Fraction(0), sound[None])], audio_rate_hz=16000)
    rows, clips = take(path, tmp_path / "corpus")
    assert [row["reason"] for row in rows] == [None, NO_FACE, NO_SOUND]
    assert len(clips) == 1


@pytest.mark.parametrize(("music_s", "why"), [(2.4, None), (4.5, OTHER_SOUND)])
def test_music_is_no_training_material(
    talk: Any, encode: Callable[..., Path], music: Callable[..., np.ndarray], tmp_path: Path, music_s: float, why: str | None
) -> None:
    pictures = [(frame.time, frame.yuv()) for frame in read_frames(probe(talk.path))]
    sound = read_speech(probe(talk.path)).copy()
    first = len(sound) - round(music_s * 16000)
    sound[first:] = music(music_s)
    path = encode("music.mp4", video=pictures, audio=[(Fraction(0), sound[None])], audio_rate_hz=16000)
    (row,), clips = take(path, tmp_path / "corpus")
    if why is not None:
        assert row["reason"] == f"{path} has no speech where its face could be learned from ({why})"
        return
    assert row["other_sound_s"] == pytest.approx(music_s, abs=0.3)
    valid = clips[0].mouth_track(Speaker(np.zeros((40, 3), np.float32), 0.2)).valid
    assert valid[20 : first // 160 - 20].all()
    assert not valid[first // 160 + 20 :].any()


def test_a_video_that_is_too_short_is_told_so(talk: Any, encode: Callable[..., Path], tmp_path: Path) -> None:
    pictures = [(frame.time, frame.yuv()) for frame in read_frames(probe(talk.path))][:30]
    sound = read_speech(probe(talk.path))[: 2 * 16000]
    path = encode("short.mp4", video=pictures, audio=[(Fraction(0), sound[None])], audio_rate_hz=16000)
    (row,), _ = take(path, tmp_path / "corpus")
    assert row["reason"] == f"{path} never shows a face for 2 s that can be learned from (it has 1.2 s)"


# Lag ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def speech(say: Callable[[str], Speech]) -> np.ndarray:
    """Half a minute of synthesized speech at 16 kHz."""
    import soxr

    from lipwright.pipeline.demo import LESSON

    said = say(" ".join(LESSON.split()[:90]))
    return soxr.resample(said.samples, said.rate_hz, 16000).astype(np.float32)


def seen(samples: np.ndarray, late_s: float, length_s: float) -> FaceTrack:
    """A face that says what the base model hears, later than it sounds."""
    closed = np.zeros((40, 3), np.float32)
    closed[:, :2] = 0.3 * np.array([(np.cos(a), 0.3 * np.sin(a)) for a in np.linspace(0, 2 * np.pi, 40)]) + [0, 0.9]
    mouth = predict_mouth(load_model(), samples, Speaker(closed, 0.2)).xyz[:]
    times_s = np.arange(round(length_s * 25)) / 25
    points = np.zeros((len(times_s), 478, 3), np.float32)
    points[:, 152] = [0, 1.0, 0]
    points[:, ANCHORS] = np.array(list(CANONICAL.values()))
    points[:, LIPS] = mouth[np.clip(np.round(100 * (times_s - late_s)).astype(int), 0, len(mouth) - 1)]
    points = 150 * points + 200
    n = len(times_s)
    shots, crowded = np.zeros(1, np.int64), np.zeros(n, bool)
    return FaceTrack(np.arange(n), times_s, points, np.zeros((n, 52), np.float32), 400, 400, shots, crowded, np.zeros(n, bool))


LAGS_MS = [-400, -120, -80, 0, 40, 80, 120, 400]


@pytest.mark.parametrize("lag_ms", LAGS_MS)
def test_a_lag_is_found_and_what_is_far_apart_is_put_together(
    speech: np.ndarray, bars: Callable[..., Path], wav: Callable[..., Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, lag_ms: int,
) -> None:  # fmt: skip
    track = seen(speech, lag_ms / 1000, len(speech) / 16000)
    monkeypatch.setattr(intake, "face_track", lambda *_, **__: track)
    path = bars(audio=probe(wav(speech)))
    (row, *others), (clip, *_) = take(path, tmp_path / "corpus")
    assert not others
    assert abs(row["lag_ms"] - lag_ms) < 15
    assert row["lag_confidence"] > 5
    assert row["lag_corrected"] == (abs(lag_ms) > LEAST_CORRECTED_MS)
    frame = track.times_s - (row["lag_ms"] / 1000 if row["lag_corrected"] else 0)
    np.testing.assert_allclose(clip.times_s + row["start_s"], frame, atol=1e-6)
    whole = compute_features(read_speech(probe(path)))
    steps = slice(round(100 * row["start_s"]), round(100 * row["end_s"]))
    np.testing.assert_allclose(clip.features, whole[steps], rtol=0, atol=1e-4)  # dB


def test_in_little_speech_a_lag_is_told_but_not_corrected(
    speech: np.ndarray, bars: Callable[..., Path], wav: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speech = speech[: 16 * 16000]
    monkeypatch.setattr(intake, "face_track", lambda *_, **__: seen(speech, 0.2, 16))
    (row,), _ = take(bars(audio=probe(wav(speech))), tmp_path / "corpus")
    assert abs(row["lag_ms"] - 200) < 15
    assert not row["lag_corrected"]


def test_another_persons_sound_is_not_corrected(
    speech: np.ndarray, bars: Callable[..., Path], wav: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = len(speech) // 2 // 160 * 160
    monkeypatch.setattr(intake, "face_track", lambda *_, **__: seen(np.roll(speech, half), 0.3, len(speech) / 16000))
    (row,), _ = take(bars(audio=probe(wav(speech))), tmp_path / "corpus")
    assert row["lag_confidence"] < 4
    assert not row["lag_corrected"]


# What goes wrong ------------------------------------------------------------------------------------------------------


def fail(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let reading a video go wrong."""

    def raise_it(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(intake, "face_track", raise_it)


@pytest.mark.parametrize("error", [ValueError("odd stride"), OSError(5, "Input/output error"), MemoryError("12 GiB")], ids=repr)
def test_whatever_is_wrong_with_a_source_is_its_row(
    talk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    fail(monkeypatch, error)
    ((row,), _) = take(talk.path, tmp_path / "corpus")
    assert (row["status"], row["start_s"]) == ("rejected", None)
    assert row["reason"] == f"{talk.path} cannot be read ({type(error).__name__}: {error})"
    assert row["reason"] in caplog.text


def test_an_error_that_names_the_source_is_its_row_wherever_it_lies(
    talk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Corpus.create(tmp_path / "corpus", FEATURES)
    inside = tmp_path / "corpus" / "talk.mp4"
    inside.write_bytes(talk.path.read_bytes())
    fail(monkeypatch, OSError(13, "Permission denied", str(inside)))
    ((row,), _) = take(inside, tmp_path / "corpus")
    assert "Permission denied" in row["reason"]


def test_what_would_happen_to_the_next_source_too_is_raised(
    talk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolated_cache: Path
) -> None:
    folder = tmp_path / "corpus"
    for error in (
        OSError(28, "No space left on device"),
        OSError(30, "Read-only file system", "anywhere"),
        OSError(13, "Permission denied", str(folder / "clips" / "x.safetensors")),
        OSError(5, "Input/output error", str(isolated_cache / "tracks" / "x.safetensors")),
        MissingPartError("no landmark model"),
        ModelError("the base model is broken"),
        ImportError("libGL.so.1"),
        Cancelled("stopped"),
        KeyboardInterrupt(),
    ):
        fail(monkeypatch, error)
        with pytest.raises(type(error)) as caught:
            take(talk.path, folder)
        assert caught.value is error


def test_a_folder_that_is_gone_is_not_the_fault_of_the_videos_in_it(tmp_path: Path) -> None:
    folder = Corpus.create(tmp_path / "corpus", FEATURES).folder
    with pytest.raises(InputError, match=r"away cannot be seen; is its disk there\?"):
        take_in(Source(tmp_path / "away" / "talk.mp4", "somebody"), folder, FEATURES)
    (row,) = take_in(Source(tmp_path / "talk.mp4", "somebody"), folder, FEATURES)
    assert row["status"] == "rejected"
    with pytest.raises(CorpusError, match=r"elsewhere cannot be seen .*; is its disk there\?"):
        take_in(Source(tmp_path / "talk.mp4", "somebody"), tmp_path / "elsewhere", FEATURES)


def test_a_machine_that_would_make_other_clips_makes_none_and_says_why(
    talk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("silero_vad", reason="silero-vad is not installed; pip install 'lipwright[voice]'")
    folder = Corpus.create(tmp_path / "corpus", FEATURES).folder
    monkeypatch.setitem(sys.modules, "silero_vad", None)
    with pytest.raises(MissingPartError, match=r"other settings than the corpus \(voices\); install the same extras"):
        take_in(Source(talk.path, "somebody"), folder, FEATURES)
    assert list((folder / "clips").iterdir()) == []


def test_a_source_that_ends_its_process_is_a_row_that_tells_how(talk: Any, tmp_path: Path) -> None:
    (row,) = give_up(Source(talk.path, "somebody"), tmp_path, FEATURES, "SIGSEGV")
    assert row["reason"].startswith(f"{talk.path} ended the process that read it (SIGSEGV); try it alone with --force")
    assert (row["status"], row["sha256"], row["bytes"]) == ("rejected", file_sha256(talk.path), talk.path.stat().st_size)
