"""Blendshapes follow the mouth: what opens, narrows and widens it moves its own curves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lipwright.data.articulation import Lips, articulate
from lipwright.data.landmarker import BLENDSHAPE_NAMES
from lipwright.data.landmarks import FaceTrack
from lipwright.data.mouth import MouthTrack, measure_speaker, track_of
from lipwright.data.speech import Phone
from lipwright.data.talker import Talker, astronaut
from lipwright.pipeline.blendshapes import gazes, predict_shapes, shapes_of_mouth
from lipwright.pipeline.predict import load_model


def curve(shapes: np.ndarray, name: str) -> np.ndarray:
    return np.asarray(shapes[:, BLENDSHAPE_NAMES.index(name)])


def test_names_are_mediapipes_in_its_order() -> None:
    from mediapipe.tasks.python.vision.face_landmarker import Blendshapes

    ours = [name.lower() for name in BLENDSHAPE_NAMES]
    theirs = [shape.name.replace("_", "").lower() for shape in Blendshapes if shape.name != "TONGUE_OUT"]
    assert [name.removeprefix("_") for name in ours] == theirs


def test_each_sound_moves_its_own_shapes() -> None:
    lips: Lips = Talker.from_photo(astronaut()).lips
    said = {0.2: "ɑː", 0.6: "m", 1.0: "uː", 1.4: "iː"}
    phones = [Phone(name, at - 0.2, at + 0.2) for at, name in said.items()]
    xyz = lips.points(articulate(phones, np.array([*said])))
    shapes = shapes_of_mouth(MouthTrack(xyz, np.ones(4, bool), measure_speaker(np.concatenate([xyz[1:2]] * 20 + [xyz]))))
    assert shapes.min() >= 0
    assert shapes.max() <= 1
    assert curve(shapes, "jawOpen").argmax() == 0
    assert curve(shapes, "jawOpen")[1] == pytest.approx(0, abs=0.02)
    assert curve(shapes, "mouthPucker").argmax() == 2
    assert curve(shapes, "mouthStretchLeft").argmax() == 3
    assert (curve(shapes, "mouthStretchLeft") == curve(shapes, "mouthStretchRight")).all()
    assert not curve(shapes, "eyeBlinkLeft").any()


def test_formulas_follow_mediapipe_on_the_talking_photograph(talk_track: FaceTrack) -> None:
    mouth = track_of(talk_track)
    own = curve(shapes_of_mouth(mouth), "jawOpen")
    seen = np.interp(mouth.times_s, talk_track.times_s, curve(talk_track.blendshapes[:], "jawOpen"))
    assert np.corrcoef(own, seen)[0, 1] > 0.8


def test_a_model_of_footage_says_mouth_and_jaw_alone(toy_run: Any, babble: Callable[..., Any]) -> None:
    model, samples = load_model(toy_run), babble(1.0)
    assert model.config.blendshapes
    blank = MouthTrack(np.zeros((101, 40, 3), np.float32), np.ones(101, bool), measure_speaker(np.ones((9, 40, 3))))
    shapes = predict_shapes(model, samples, blank)
    assert shapes.shape == (101, 52)
    assert curve(shapes, "jawOpen").any()
    assert not curve(shapes, "browInnerUp").any()


def test_a_gaze_follows_the_iris(talk_track: FaceTrack) -> None:
    """The photograph looks at the camera; an iris that is moved to the picture's right and down looks there."""
    frames = slice(0, 3)
    points = np.array(talk_track.points[frames])
    eyes_px = np.linalg.norm(points[0, 263, :2] - points[0, 33, :2])
    moved = points.copy()
    moved[:, [468, 473]] += np.array([0.03, 0.02, 0]) * eyes_px
    before, after = (
        gazes(FaceTrack(*(getattr(talk_track.part(frames), n) if n != "points" else p for n in FaceTrack.__dataclass_fields__)))
        for p in (points, moved)
    )
    for side in ("Left", "Right"):
        assert (np.abs(before[side]) < 0.5).all()
        assert (after[side] - before[side] > 0.1).all()
