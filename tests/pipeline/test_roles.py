"""Who is given what: paths for one or for each face, and refusals where they do not fit together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lipwright.data.audio import SAMPLE_RATE_HZ, StoredSpeech
from lipwright.data.errors import FaceError, InputError
from lipwright.data.landmarks import FaceTrack
from lipwright.data.media import probe
from lipwright.data.mouth import measure_mouth, measure_speaker
from lipwright.pipeline.render.roles import Script, motion_of, require_apart, scripts_of

A, B, M, T = Path("a.wav"), Path("b.wav"), Path("run"), Path("mouth.json")


def test_one_sound_is_one_persons() -> None:
    assert scripts_of("a.wav", "run", face="left") == [Script("left", A, M, None, None)]
    assert scripts_of(A) == [Script(None, A, None, None, None)]


def test_each_face_has_its_own_and_what_is_given_once_is_for_all() -> None:
    assert scripts_of({"left": A, "right": B}, M) == [Script("left", A, M, None, None), Script("right", B, M, None, None)]
    each = scripts_of({"left": A, "right": "b.wav"}, {"left": M}, {"right": T}, {"right": "film.mp4"})
    assert each == [Script("left", A, M, None, None), Script("right", B, None, T, Path("film.mp4"))]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"audio": A, "model": M, "mouth": T}, "either a model or a mouth track"),
        ({"audio": {"left": A, "right": B}, "model": M, "mouth": {"left": T}}, "either a model or a mouth track"),
        ({"audio": {"left": A}, "face": "left"}, "not both"),
        ({"audio": {"left": A}, "model": {"right": M}}, "for the face right, but no sound"),
        ({"audio": A, "bank": {"left": M}}, "for the face left, but no sound"),
        ({"audio": {"upper": A}}, "upper is no face"),
        ({"audio": A, "face": "upper"}, "upper is no face"),
    ],
)
def test_what_does_not_fit_together_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        scripts_of(**given)


def test_silence_after_a_short_line_makes_it_no_louder(talk: Any, talk_track: FaceTrack) -> None:
    """Beside somebody who speaks for long, a short line is heard as it would be alone."""
    speaker, script = measure_speaker(measure_mouth(talk_track)), Script(None, talk.path, None, None, None)
    mouths = []
    for seconds in (0, 120):
        samples = StoredSpeech(probe(talk.path))
        motion = motion_of(script, samples, "cpu")
        samples.extend(seconds * SAMPLE_RATE_HZ)
        mouths.append(motion(speaker, "").at(np.arange(400) / 100)[0])
    np.testing.assert_allclose(mouths[0], mouths[1], atol=1e-5)


def test_two_sounds_need_two_faces(talk_track: FaceTrack) -> None:
    elsewhere = replace(talk_track, points=talk_track.points[:] + np.array([400, 0, 0], np.float32))
    require_apart({"left": talk_track, "right": elsewhere}, Path("two.mp4"))
    with pytest.raises(FaceError, match=r"two\.mp4 shows one face where left and right"):
        require_apart(
            {"left": talk_track, "right": replace(talk_track, points=talk_track.points[:] + np.float32(3))}, Path("two.mp4")
        )
