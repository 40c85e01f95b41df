"""A mouth track file holds what was measured or predicted, and what is wrong is told before anything is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lipwright.data.errors import FaceError, InputError, OutputExistsError
from lipwright.data.landmarks import FaceTrack
from lipwright.data.mouth import LIPS, aperture, load_track, track_of
from lipwright.models.lipsync import BASE, LipSync
from lipwright.pipeline.export import export_mouth


def test_a_measured_track_is_the_videos_mouth(tmp_path: Path, talk: Any, talk_track: FaceTrack) -> None:
    report = export_mouth(tmp_path / "track.json", from_video=talk.path)
    own, read = track_of(talk_track), load_track(tmp_path / "track.json")
    assert report == {"out": str(tmp_path / "track.json"), "steps": len(own.xyz), "valid": 1.0, "scale": own.speaker.scale}
    np.testing.assert_allclose(read.xyz, own.xyz, atol=1e-5)
    np.testing.assert_array_equal(read.valid, own.valid)
    document = json.loads((tmp_path / "track.json").read_text())
    assert (document["format"], document["version"], document["step_hz"]) == ("lipwright-mouth", 1, 100)
    assert document["points"] == LIPS.tolist()
    assert document["edits"] == []
    assert np.corrcoef(aperture(read.xyz), np.interp(read.times_s, talk.times_s, talk.aperture))[0, 1] > 0.9


def test_a_predicted_track_lasts_as_long_as_the_sound(
    tmp_path: Path, toy_run: Path, babble: Callable[..., Any], wav: Callable[..., Path]
) -> None:
    sound = wav(babble(1.5))
    (tmp_path / f".track.json.{2**30}-1.partial").touch()  # of a killed process
    report = export_mouth(tmp_path / "track.json", model=toy_run, audio=sound)
    assert not list(tmp_path.glob(".*"))
    track = load_track(tmp_path / "track.json")
    assert report["steps"] == len(track.xyz) == 151
    assert track.valid.all()
    np.testing.assert_allclose(track.speaker.neutral, LipSync.load(toy_run).neutral.numpy(), atol=1e-5)


def test_an_output_is_refused_and_replaced_on_demand(tmp_path: Path, talk: Any, talk_track: FaceTrack) -> None:
    assert talk_track.found.all()
    out = tmp_path / "track.json"
    out.write_text("mine")
    with pytest.raises(OutputExistsError, match=r"track\.json already exists"):
        export_mouth(out, from_video=talk.path)
    assert out.read_text() == "mine"
    export_mouth(out, from_video=talk.path, force=True)
    assert load_track(out).valid.any()


def test_without_a_model_the_base_model_speaks(tmp_path: Path, babble: Callable[..., Any], wav: Callable[..., Path]) -> None:
    export_mouth(tmp_path / "track.json", audio=wav(babble(1.5)))
    track = load_track(tmp_path / "track.json")
    np.testing.assert_allclose(track.speaker.neutral, LipSync.load(BASE).neutral.numpy(), atol=1e-5)
    assert np.ptp(aperture(track.xyz)) > 0.02


@pytest.mark.parametrize(
    "given", [{}, {"model": "run"}, {"from_video": "v.mp4", "audio": "a.wav"}, {"from_video": "v.mp4", "model": "run"}]
)
def test_one_source_is_needed(tmp_path: Path, given: dict[str, str]) -> None:
    with pytest.raises(InputError, match="either --from-video, or --audio"):
        export_mouth(tmp_path / "track.json", **given)
    assert list(tmp_path.iterdir()) == []


def test_a_video_without_a_face_leaves_nothing(tmp_path: Path, bars: Callable[..., Path]) -> None:
    with pytest.raises(FaceError, match=r"bars\.mp4 shows no face"):
        export_mouth(tmp_path / "track.json", from_video=bars())
    assert [p.name for p in tmp_path.iterdir()] == ["bars.mp4"]
