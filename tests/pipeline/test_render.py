"""Frames without a face, or without a mouth to paint, pass through as they are; edits act inside their span alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lipwright.data.edits import Edit
from lipwright.data.encoder import Encoding
from lipwright.data.errors import InputError, OutputExistsError
from lipwright.data.landmarks import FaceTrack, face_track
from lipwright.data.media import BT709, Yuv, file_sha256, probe, read_frames
from lipwright.data.mouth import LIPS, MouthTrack, Speaker, load_track, measure_mouth, track_of
from lipwright.data.writer import VideoWriter
from lipwright.pipeline.render import render_video
from lipwright.pipeline.render.bank import Bank
from lipwright.pipeline.render.composite import Painted
from lipwright.pipeline.render.painting import outside_difference, painted_frames
from lipwright.pipeline.render.reading import build_bank


def _planes(frame: Yuv | Painted) -> list[np.ndarray]:
    return list(vars(frame.picture if isinstance(frame, Painted) else frame).values())


def _equal(a: Yuv | Painted, b: Yuv | Painted) -> bool:
    return all(np.array_equal(p, q) for p, q in zip(_planes(a), _planes(b), strict=True))


@pytest.fixture(scope="module")
def interrupted_talk(talk_pictures: list[Yuv], talk: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of the talking photograph whose middle second shows no face."""
    path = tmp_path_factory.mktemp("gap") / "gap.mp4"
    grey = Yuv(np.full((320, 320), 120, np.uint8), *(np.full((160, 160), 128, np.uint8) for _ in range(2)))
    encoding = Encoding(320, 320, Fraction(1, 12800), Fraction(25), BT709)
    with VideoWriter(path, encoding, audio=probe(talk.path)) as writer:
        for k in range(75):
            writer.write(grey if 25 <= k < 50 else talk_pictures[k], Fraction(k, 25))
    return path


def test_frames_without_a_face_pass_through_untouched(interrupted_talk: Path) -> None:
    media = probe(interrupted_talk)
    track = face_track(media)
    assert not track.found[26:49].any()
    assert track.found[:24].all()
    mouth = np.nan_to_num(measure_mouth(track))
    mouths = np.repeat(mouth[10][None], 75, 0)  # the same open mouth everywhere
    pictures = [frame.yuv() for frame in read_frames(media)]
    bank = build_bank(media, track, file_sha256(interrupted_talk))
    painted = list(painted_frames(iter(pictures), track, np.arange(75), mouths, np.ones(75, bool), bank))
    assert [isinstance(frame, Painted) for frame in painted] == track.found.tolist()
    for own, frame in zip(pictures, painted, strict=True):
        if isinstance(frame, Painted):
            assert outside_difference(own, frame) == 0
        else:
            assert frame is own


def test_a_face_whose_mouth_is_beyond_the_edge_passes_through_untouched(
    talk_track: FaceTrack, talk_bank: Bank, talk_pictures: list[Yuv]
) -> None:
    rows = np.arange(10)
    end = int(talk_track.points[rows][:, LIPS, 1].min()) // 2 * 2 - 2
    cut = [Yuv(p.y[:end], p.u[: end // 2], p.v[: end // 2]) for p in talk_pictures[:10]]
    painted = list(painted_frames(iter(cut), talk_track, rows, talk_bank.mouths[:10], np.ones(10, bool), talk_bank))
    assert all(frame is own for frame, own in zip(painted, cut, strict=True))


def test_frames_without_a_mouth_to_paint_pass_through_untouched(
    talk_track: FaceTrack, talk_bank: Bank, talk_pictures: list[Yuv]
) -> None:
    valid = np.random.default_rng(8).uniform(size=len(talk_pictures)) < 0.5
    painted = list(
        painted_frames(
            iter(talk_pictures),
            talk_track,
            np.arange(len(valid)),
            talk_bank.mouths,
            valid,
            talk_bank,
        )
    )
    assert [isinstance(frame, Painted) for frame in painted] == valid.tolist()
    assert all(frame is own for frame, own in zip(painted, talk_pictures, strict=True) if not isinstance(frame, Painted))


@pytest.mark.parametrize("edit", [Edit(1.0, 2.0, gain=2.0), Edit(1.0, 2.0, closed=True), Edit(1.0, 2.0, gain=0.3)])
def test_an_edit_changes_the_picture_inside_its_span_alone(
    edit: Edit, talk_track: FaceTrack, talk_bank: Bank, talk_pictures: list[Yuv]
) -> None:
    own = track_of(talk_track)
    times = talk_track.times_s
    versions = []
    for track in (own, replace(own, edits=(edit,))):
        mouths, valid = track.at(times)
        versions.append(list(painted_frames(iter(talk_pictures), talk_track, np.arange(len(valid)), mouths, valid, talk_bank)))
    same = np.array(
        [
            all(np.ptp(p - q.astype(int)) <= 1 for p, q in zip(_planes(a), _planes(b), strict=True))
            for a, b in zip(*versions, strict=True)
        ]
    )
    inside = (times > edit.start_s) & (times < edit.end_s)
    # Next to the span, the steady choice of windows may set in earlier: another picture of the same mouth.
    near = (times > edit.start_s - 0.3) & (times < edit.end_s + 0.3)
    assert same[~near].mean() > 0.95
    assert (~same[inside]).mean() > 0.7  # a closed mouth has nothing to close


def test_a_mouth_of_one_speaker_is_painted_on_another(
    tmp_path: Path, talk: Any, talk_track: FaceTrack, resting: np.ndarray, opened: Callable[[np.ndarray], np.ndarray]
) -> None:
    """A track of somebody with other lips and a wider range opens the target's mouth over the target's own range."""
    steps = 200
    course = 0.5 - 0.5 * np.cos(np.arange(steps) / 12)
    stranger = MouthTrack(opened(0.9 * course), np.ones(steps, bool), Speaker(resting, 0.81))
    stranger.save(tmp_path / "track.json")
    report = render_video(talk.path, talk.path, tmp_path / "out.mp4", mouth=tmp_path / "track.json")
    assert report["outside_max_abs"] == 0
    shown = track_of(face_track(probe(tmp_path / "out.mp4")))
    target = track_of(talk_track).speaker
    from lipwright.data.mouth import aperture

    opening = aperture(shown.xyz[10:190])
    assert np.corrcoef(opening, course[10:190])[0, 1] > 0.85
    assert target.scale is not None
    assert np.ptp(opening) == pytest.approx(target.scale * np.ptp(course) / 0.9, rel=0.4)


def test_the_output_has_the_targets_times_tags_and_picture_outside_the_mask(
    tmp_path: Path, talk: Any, talk_track: FaceTrack
) -> None:
    track_of(talk_track).save(tmp_path / "track.json")
    seen = []
    report = render_video(
        talk.path, talk.path, tmp_path / "out.mkv", mouth=tmp_path / "track.json",
        progress=lambda what, done, of: seen.append((what, done, of)),
    )  # fmt: skip
    assert report["frames"] == seen[-1][1] == seen[-1][2]
    assert abs(report["seconds"] - report["frames"] / 25) <= 1 / 25
    assert report["outside_max_abs"] == 0
    assert 0 < report["mask_share"] < 1
    assert report["synthetic"] is True
    assert [f.name for f in tmp_path.iterdir() if f.name.startswith(".")] == []
    assert len(list(read_frames(probe(tmp_path / "out.mkv")))) == report["frames"]


def test_an_empty_span_of_the_mouth_leaves_the_source(tmp_path: Path, talk: Any, talk_track: FaceTrack) -> None:
    own = track_of(talk_track)
    replace(own, valid=np.zeros(len(own.valid), bool)).save(tmp_path / "track.json")
    report = render_video(talk.path, talk.path, tmp_path / "out.mp4", mouth=tmp_path / "track.json")
    assert report["mask_share"] == 0
    assert report["frames"] >= len(talk_track.pts)


def test_an_output_is_refused_before_work_and_replaced_on_demand(tmp_path: Path, talk: Any, talk_track: FaceTrack) -> None:
    track, out = tmp_path / "track.json", tmp_path / "out.mp4"
    track_of(talk_track).save(track)
    out.write_bytes(b"mine")
    with pytest.raises(OutputExistsError, match=r"out\.mp4"):
        render_video(talk.path, talk.path, out, mouth=track)
    assert out.read_bytes() == b"mine"
    render_video(talk.path, talk.path, out, mouth=track, force=True)
    assert probe(out).video is not None


@pytest.mark.parametrize("name", ["out.avi", "out", "folder.mp4", "nowhere/out.mp4"])
def test_an_output_that_cannot_be_written_is_refused_before_work(
    tmp_path: Path, talk: Any, talk_track: FaceTrack, name: str
) -> None:
    track_of(talk_track).save(tmp_path / "track.json")
    (tmp_path / "folder.mp4").mkdir()
    work: list[Any] = []
    with pytest.raises(InputError, match=name.split("/")[0]):
        render_video(
            talk.path, talk.path, tmp_path / name, mouth=tmp_path / "track.json", force=True,
            progress=lambda *done: work.append(done),
        )  # fmt: skip
    assert not work
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.mp4", "track.json"]


def test_an_input_is_never_overwritten(tmp_path: Path, talk: Any, talk_track: FaceTrack) -> None:
    track_of(talk_track).save(tmp_path / "track.json")
    link = tmp_path / "same.mp4"
    link.symlink_to(talk.path)
    before = talk.path.read_bytes()
    bank = tmp_path / "bank.mp4"
    bank.write_bytes(before)
    for out in (talk.path, link, bank):
        with pytest.raises(InputError, match="is an input"):
            render_video(talk.path, talk.path, out, mouth=tmp_path / "track.json", bank=bank, force=True)
    assert bank.read_bytes() == before
    assert talk.path.read_bytes() == before


def test_a_render_has_one_source_of_motion(tmp_path: Path, talk: Any) -> None:
    with pytest.raises(InputError, match="either a model or a mouth track"):
        render_video(
            talk.path, talk.path, tmp_path / "out.mp4", model=tmp_path / "run", mouth=tmp_path / "track.json"
        )  # fmt: skip


def test_an_interrupted_render_leaves_nothing(tmp_path: Path, talk: Any, talk_track: FaceTrack) -> None:
    # A mouth that no other test has: spans of theirs are kept.
    replace(track_of(talk_track), edits=(Edit(0, 9, gain=0.9),)).save(tmp_path / "track.json")

    def interrupt(what: str, done: int, of: int) -> None:
        if what == "render" and done == 30:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        render_video(talk.path, talk.path, tmp_path / "out.mp4", mouth=tmp_path / "track.json", progress=interrupt)
    assert [p.name for p in tmp_path.iterdir()] == ["track.json"]
    assert load_track(tmp_path / "track.json").valid.any()
