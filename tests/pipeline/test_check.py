"""A check says beforehand what preprocess will make of a video, and why."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lipwright.data.audio import read_speech
from lipwright.data.errors import InputError
from lipwright.data.media import Yuv, probe, read_frames
from lipwright.pipeline.check import IN_PART, NOT_USABLE, USABLE, WHOLE_S, check_video, check_videos
from lipwright.pipeline.preprocess import preprocess_corpus

Make = Callable[..., Path]
LATE_S = 0.3


@pytest.fixture(scope="module")
def faces(talk: Any) -> list[Yuv]:
    return [frame.yuv() for frame in read_frames(probe(talk.path), threads=1)]


@pytest.fixture
def interrupted(talk: Any, faces: list[Yuv], encode: Make) -> Path:
    """The talking photograph for 40 s, but for the seconds 15 to 25; all of it later than its sound."""
    nobody = Yuv(*(np.full_like(p, 90) for p in vars(faces[0]).values()))
    once = len(faces)
    pictures = [(Fraction(k, 25), nobody if 375 <= k < 625 else faces[k % once]) for k in range(1000)]
    sound = np.tile(read_speech(probe(talk.path))[: once * 640], 9)
    late = round(LATE_S * 16000)
    return encode("long.mp4", video=pictures, audio=[(Fraction(0), sound[None, late : 640_000 + late])], audio_rate_hz=16000)


def test_a_long_video_is_judged_by_looks_as_preprocess_judges_it(interrupted: Path, tmp_path: Path) -> None:
    clip = check_video(interrupted)
    assert json.loads(json.dumps(clip)) == clip
    assert clip["seconds"] > WHOLE_S
    assert clip["looked_at"] < 650  # of 1000
    assert clip["verdict"] == IN_PART
    (first, second) = clip["ranges"]
    np.testing.assert_allclose([*first, *second], [0, 15, 25, 39.96], atol=0.5)
    assert clip["face_rate"] == pytest.approx(0.75, abs=0.02)
    (reason,) = clip["reasons"]
    assert re.match(r"no face in 2[3-7]% of the time", reason)
    assert (clip["faces"], clip["rate"]) == (1, "25")
    assert clip["lag_ms"] == pytest.approx(1000 * LATE_S, abs=40)
    assert any("ms late: preprocess puts it right" in line for line in clip["advice"])
    rows = preprocess_corpus([interrupted], tmp_path / "corpus")["clips"]
    taken = [(row["start_s"], row["end_s"]) for row in rows if row["status"] == "ok"]
    late_s = rows[0]["lag_ms"] / 1000
    assert rows[0]["lag_corrected"]
    np.testing.assert_allclose(np.array(clip["ranges"]), np.array(taken) + late_s, atol=0.7)
    assert clip["lag_ms"] == pytest.approx(rows[0]["lag_ms"], abs=20)


def test_a_short_video_is_judged_whole(talk: Any) -> None:
    clip = check_video(talk.path)
    assert clip["verdict"] == USABLE
    assert clip["reasons"] == []
    assert clip["looked_at"] == len(talk.times_s)
    np.testing.assert_allclose(clip["ranges"], [[0, talk.times_s[-1]]], atol=0.02)
    assert (clip["width"], clip["height"], clip["faces"], clip["cuts"]) == (320, 320, 1, 0)
    assert clip["face_px"] > 64
    assert clip["speech_share"] > 0.6
    assert clip["clipped_share"] == 0
    assert any("a minute or two" in line for line in clip["advice"])


def test_two_people_are_told_what_to_do(faces: list[Yuv], talk: Any, encode: Make) -> None:
    def both(k: int) -> Yuv:
        planes = zip(vars(faces[k]).values(), vars(faces[k + 20]).values(), strict=True)
        return Yuv(*(np.hstack([a, b[:, ::-1]]) for a, b in planes))

    sound = read_speech(probe(talk.path))[None]
    path = encode(
        "two.mp4", video=[(Fraction(k, 25), both(k)) for k in range(75)], audio=[(Fraction(0), sound)], audio_rate_hz=16000
    )
    clip = check_video(path)
    assert (clip["verdict"], clip["faces"]) == (NOT_USABLE, 2)
    assert any(line.startswith("several faces in 100%") and "--face" in line for line in clip["reasons"])


def test_a_clipped_sound_is_told(faces: list[Yuv], talk: Any, encode: Make) -> None:
    sound = np.clip(20 * read_speech(probe(talk.path)), -1, 1)[None]
    pictures = [(Fraction(k, 25), face) for k, face in enumerate(faces[:75])]
    clip = check_video(encode("loud.mp4", video=pictures, audio=[(Fraction(0), sound)], audio_rate_hz=16000))
    assert clip["clipped_share"] > 0.01
    assert any("clipped" in line for line in clip["advice"])


def test_sound_that_ends_early_shortens_what_can_be_used(faces: list[Yuv], talk: Any, encode: Make) -> None:
    sound = read_speech(probe(talk.path))[None, : 3 * 16000]
    pictures = [(Fraction(k, 25), face) for k, face in enumerate(faces)]
    clip = check_video(encode("early.mp4", video=pictures, audio=[(Fraction(0), sound)], audio_rate_hz=16000))
    assert clip["verdict"] == IN_PART
    assert clip["ranges"][-1][1] == pytest.approx(3.0, abs=0.1)
    assert any(line.startswith("the sound ends at 3") for line in clip["reasons"])


@pytest.mark.parametrize("what", ["mute", "silent", "faceless", "slow", "sound alone", "broken"])
def test_what_cannot_be_used_says_why(
    what: str, faces: list[Yuv], bars: Make, encode: Make, wav: Make, tone: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    pictures = [(Fraction(k, 25), face) for k, face in enumerate(faces[:75])]
    slow = [(Fraction(k, 5), face) for k, face in enumerate(faces[:20])]
    loud = {"audio": [(Fraction(0), tone(4.0))], "audio_rate_hz": 16000}
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    path, why = {
        "mute": lambda: (encode("mute.mp4", video=pictures), "no sound: it can be a target of render"),
        "silent": lambda: (
            encode("silent.mp4", video=pictures, audio=[(Fraction(0), np.zeros((1, 48000), np.float32))], audio_rate_hz=16000),
            "silent",
        ),
        "faceless": lambda: (bars(frames=75, size=(160, 120), audio=probe(wav(tone(3.0)))), "no face in 100%"),
        "slow": lambda: (encode("slow.mp4", video=slow, **loud), "5 frames a second: 8.3 are needed"),
        "sound alone": lambda: (wav(tone(3.0)), "has no video stream"),
        "broken": lambda: (tmp_path / "broken.mp4", "cannot be read as video or audio"),
    }[what]()
    clip = check_video(path)
    assert clip["verdict"] == NOT_USABLE
    assert clip["ranges"] == []
    assert any(line.startswith(why) for line in clip["reasons"]), clip["reasons"]
    assert json.loads(json.dumps(clip)) == clip


def test_a_picture_that_pauses_is_judged_by_the_rest(bars: Make, encode: Make, picture: Any, tone: Any) -> None:
    times = [*np.arange(0, 40, 1), *np.arange(70, 90, 1)]
    path = encode(
        "gap.mkv",
        video=[(Fraction(int(t)), picture(64, 48, k)) for k, t in enumerate(times)],
        audio=[(Fraction(0), tone(90.0))],
    )
    clip = check_video(path)
    assert clip["verdict"] == NOT_USABLE
    assert clip["looked_at"] > 0
    assert any(reason.startswith("no face in 100%") for reason in clip["reasons"])


def test_folders_are_searched_and_progress_is_told(talk: Any, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "talk.mp4").symlink_to(talk.path)
    (tmp_path / "a" / "notes.txt").write_text("")
    told: list[tuple[str, int, int]] = []
    result = check_videos([tmp_path], progress=lambda *t: told.append(t))
    assert [Path(c["path"]).name for c in result["clips"]] == ["talk.mp4"]
    assert told == [("check", 1, 1)]
    with pytest.raises(InputError, match="does not exist"):
        check_videos([tmp_path / "gone.mp4"])
