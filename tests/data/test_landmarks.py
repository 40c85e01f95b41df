"""Face tracks: the real landmarker on real frames, one row a frame, cached by content."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.numpy import load_file

from lipwright.data import landmarks
from lipwright.data.errors import MediaError
from lipwright.data.follower import LINGERS_S, Finds, follow, lasting, track_images
from lipwright.data.landmarker import BLENDSHAPES, POINTS, Landmarker
from lipwright.data.landmarks import FaceTrack, face_track, track_faces
from lipwright.data.media import Yuv, probe, read_frames
from lipwright.data.mouth import aperture, measure_mouth, track_of

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def track(talk) -> FaceTrack:
    return face_track(probe(talk.path))


# Tracks ---------------------------------------------------------------------------------------------------------------


def test_every_frame_has_a_row_at_its_own_time(talk, track: FaceTrack) -> None:
    frames = list(read_frames(probe(talk.path), threads=1))
    assert track.pts.tolist() == [f.pts for f in frames]
    np.testing.assert_allclose(track.times_s, [float(f.time) for f in frames], atol=1e-9)
    np.testing.assert_allclose(track.times_s, talk.times_s, atol=1e-9)
    assert track.points.shape == (len(frames), POINTS, 3)
    assert track.blendshapes.shape == (len(frames), BLENDSHAPES)
    assert (track.width, track.height) == (320, 320)


def test_the_face_is_found_inside_the_picture(track: FaceTrack) -> None:
    assert track.found.all()
    points, blendshapes = track.points[:], track.blendshapes[:]
    inside = (points[..., :2] > 0) & (points[..., :2] < 320)
    assert inside.all()
    assert ((blendshapes >= 0) & (blendshapes <= 1)).all()
    eyes, mouth, chin = (points[:, k, 1] for k in (33, 13, 152))
    assert (eyes < mouth).all()
    assert (mouth < chin).all()


def test_the_measured_mouth_follows_the_commanded_one(talk, track: FaceTrack) -> None:
    measured = aperture(measure_mouth(track))
    assert np.corrcoef(measured, talk.aperture)[0, 1] > 0.9
    speaker = track_of(track).speaker
    assert speaker.scale is not None
    assert speaker.scale > 0.1
    assert aperture(speaker.neutral) < 0.03


def test_frames_without_a_face_are_marked_and_not_fatal(talk, picture) -> None:
    faces = [f.rgb() for f in read_frames(probe(talk.path), threads=1)][:6]
    blank = np.full_like(faces[0], 90)
    images = [*faces[:3], blank, blank, *faces[3:]]
    points, shapes = track_images((Fraction(k, 2), image) for k, image in enumerate(images))
    found = np.isfinite(points[:, 0, 0])
    assert found.tolist() == [True] * 3 + [False] * 2 + [True] * 3
    assert np.isnan(points[~found]).all()
    assert np.isnan(shapes[~found]).all()
    assert np.isfinite(shapes[found]).all()


def test_a_video_without_any_face_has_an_empty_track(bars: Make) -> None:
    track = track_faces(probe(bars("30000/1001", frames=5, size=(160, 120))))
    assert not track.found.any()
    assert track.points.shape == (5, POINTS, 3)
    np.testing.assert_allclose(track.times_s, np.arange(5) * 1001 / 30000)


def test_each_shot_is_tracked_as_if_it_were_alone(talk, encode: Make) -> None:
    faces = [frame.yuv() for frame in read_frames(probe(talk.path), threads=1)]
    mirrored = [Yuv(*(np.ascontiguousarray(p[:, ::-1]) for p in vars(face).values())) for face in faces]
    first, second = faces[:12], [Yuv(255 - m.y, m.v, m.u) if k < 5 else m for k, m in enumerate(mirrored[40:55])]

    path = encode("both.mp4", video=[(Fraction(k, 25), picture) for k, picture in enumerate(first + second)])
    both = track_faces(probe(path))
    assert both.shots.tolist() == [0, 12, 17]
    frames = list(read_frames(probe(path), threads=1))
    for shot in (slice(0, 12), slice(17, None)):
        assert both.found[shot].all()
        points, blendshapes = track_images((f.time, f.rgb()) for f in frames[shot])
        np.testing.assert_array_equal(both.points[shot], points)
        np.testing.assert_array_equal(both.blendshapes[shot], blendshapes)


@pytest.fixture
def pair(talk, encode: Make) -> Path:
    """The talking photograph, and beside it itself, mirrored, ahead by two seconds; in the end that fades away."""
    frames = [frame.yuv() for frame in read_frames(probe(talk.path), threads=1)]
    pictures = []
    for k in range(60):
        there = np.clip((45 - k) / 10, 0, 1)  # not at once: that would be another shot
        planes = zip(vars(frames[k]).values(), vars(frames[k + 50]).values(), strict=True)
        pictures.append(Yuv(*(np.hstack([a, (120 + there * (b[:, ::-1] - 120.0)).astype(np.uint8)]) for a, b in planes)))
    return encode("pair.mp4", video=[(Fraction(k, 25), picture) for k, picture in enumerate(pictures)])


def test_of_two_faces_the_one_that_is_meant_is_followed(pair: Path, track: FaceTrack) -> None:
    left, right, largest = (track_faces(probe(pair), which=which) for which in ("left", "right", "largest"))
    assert left.found.all()
    assert (left.points[:][..., 0].mean(1) < 320).all()
    assert right.found[:35].all()
    assert not right.found[50:].any()
    assert (right.points[right.found][..., 0].mean(1) > 320).all()
    assert np.abs(np.diff(largest.points[:35][..., 0].mean(1))).max() < 20  # it does not change over
    for tracked in (left, right, largest):
        assert not tracked.crowded.any()
    ours, theirs = aperture(measure_mouth(left)), aperture(measure_mouth(track))[:60]
    assert np.corrcoef(ours, theirs)[0, 1] > 0.9


def test_where_there_are_others_it_is_marked(pair: Path, track: FaceTrack) -> None:
    tracked = track_faces(probe(pair))
    assert tracked.crowded[:35].all()
    assert not tracked.crowded[58:].any()  # 0.5 s after it has faded away
    assert not track.crowded.any()


@pytest.mark.parametrize("comes", [10, 45])
def test_a_face_in_the_background_is_followed_only_where_it_is_alone_and_marked_when_it_is_not(talk, comes: int) -> None:
    face = next(iter(read_frames(probe(talk.path), threads=1))).rgb()
    small = cv2.resize(face, None, fx=0.48, fy=0.48, interpolation=cv2.INTER_AREA)

    def images() -> Iterator[tuple[Fraction, np.ndarray]]:
        for k in range(60):  # the small one is there first; somebody else fades in before it
            canvas = np.full((320, 480, 3), 120, np.uint8)
            canvas[80 : 80 + len(small), : len(small)] = small
            canvas[:, 160:] = 120 + np.clip((k - comes) / 10, 0, 1) * (face - 120.0)
            yield Fraction(k, 25), canvas

    finds = Finds()
    followed = follow(images(), "largest", finds)
    found = followed.faces >= 0
    across = finds.points(followed.faces)[found][..., 0].mean(1)
    if comes == 10:
        assert (across > 160).all()
        assert found[20:].all()
        assert not found[:10].any()
        assert not followed.crowded.any()
    else:
        assert (across < 160).all()
        assert followed.crowded[-5:].all()
        assert not followed.crowded[:30].any()


@pytest.mark.parametrize(("frames", "counts"), [(4, False), (9, True)])
def test_what_looks_like_a_face_for_a_moment_does_not_count(talk, frames: int, counts: bool) -> None:
    face = next(iter(read_frames(probe(talk.path), threads=1))).rgb()

    def images() -> Iterator[tuple[Fraction, np.ndarray]]:
        for k in range(60):
            yield Fraction(k, 25), np.hstack([face, face[:, ::-1] if 30 <= k < 30 + frames else np.full_like(face, 120)])

    assert follow(images(), "largest", Finds()).crowded.any() == counts


def test_others_count_a_while_before_and_after_they_are_found() -> None:
    crowded = np.zeros(100, bool)
    crowded[[0, 60, 61]] = True
    times_s = np.arange(100) / 25
    near = np.abs(times_s[:, None] - times_s[crowded]).min(1)
    counts = lasting(crowded, times_s, LINGERS_S)
    assert counts[near < 0.49].all()
    assert not counts[near > 0.51].any()
    assert lasting(np.zeros(0, bool), np.zeros(0), LINGERS_S).shape == (0,)


def test_each_choice_has_its_own_track(pair: Path, isolated_cache: Path) -> None:
    media = probe(pair)
    left, right = (face_track(media, which=which, sha256="feed") for which in ("left", "right"))
    assert not np.array_equal(left.points, right.points, equal_nan=True)
    np.testing.assert_array_equal(face_track(media, which="left", sha256="feed").points, left.points)
    assert len(list((isolated_cache / "tracks").glob("feed-*"))) == 2


@pytest.mark.parametrize("tall", [False, True])
def test_a_face_too_small_for_the_whole_picture_is_followed_in_a_square(talk, tall: bool) -> None:
    faces = [f.rgb() for f in read_frames(probe(talk.path), threads=1)][:60]
    wide = np.full((60, 400, 1500, 3), 120, np.uint8)
    for k in range(15, 60):  # nobody is there before
        there = 900 + 3 * k
        wide[k, 150:310, there : there + 160] = cv2.resize(faces[k], (160, 160), interpolation=cv2.INTER_AREA)
    pictures = [np.ascontiguousarray(w.transpose(1, 0, 2)) if tall else w for w in wide]
    if tall:  # the face stays upright
        for k in range(15, 60):
            pictures[k][900 + 3 * k : 1060 + 3 * k, 150:310] = wide[k, 150:310, 900 + 3 * k : 1060 + 3 * k]
    with Landmarker(still=True) as find:
        assert len(find(pictures[30], 0.0)[0]) == 0
    points, blendshapes = track_images((Fraction(k, 25), picture) for k, picture in enumerate(pictures))
    found = np.isfinite(points[:, 0, 0])
    assert not found[:15].any()
    assert found[26:].all()  # looked for once a second
    assert np.isfinite(blendshapes[found]).all()
    along, across = (1, 0) if tall else (0, 1)
    nose = points[26:, 4]
    left = 900 + 3 * np.arange(26, 60)
    assert ((nose[:, along] > left + 30) & (nose[:, along] < left + 130)).all()
    assert ((nose[:, across] > 180) & (nose[:, across] < 280)).all()


def test_no_images_have_no_rows() -> None:
    points, shapes = track_images([])
    assert points.shape == (0, POINTS, 3)
    assert shapes.shape == (0, BLENDSHAPES)


def test_sound_alone_cannot_be_tracked(wav, tone) -> None:
    with pytest.raises(MediaError, match=r"sound\.wav has no video stream"):
        track_faces(probe(wav(tone(0.5))))


@pytest.mark.parametrize("width", [318, 319, 320])
def test_faces_are_found_at_widths_whose_rows_ffmpeg_pads(talk, encode: Make, width: int) -> None:
    frame = next(read_frames(probe(talk.path), threads=1)).yuv()
    half = -(-width // 2)
    narrow = type(frame)(*(np.ascontiguousarray(p[:, :w]) for p, w in ((frame.y, width), (frame.u, half), (frame.v, half))))
    track = track_faces(probe(encode("narrow.mp4", video=[(Fraction(k, 25), narrow) for k in range(2)])))
    assert track.found.all()


def test_a_turned_video_is_tracked_upright(talk, encode: Make) -> None:
    frame = next(read_frames(probe(talk.path), threads=1)).yuv()
    lying = type(frame)(*(np.ascontiguousarray(np.rot90(p, -1)) for p in (frame.y, frame.u, frame.v)))
    path = encode("lying.mp4", video=[(Fraction(k, 25), lying) for k in range(2)], turn_degrees=90)
    track = track_faces(probe(path))
    assert track.found.all()
    assert (track.points[:][:, 33, 1] < track.points[:][:, 13, 1]).all()


def test_progress_counts_frames(bars: Make) -> None:
    seen: list[tuple[int, int]] = []
    track_faces(probe(bars(frames=4, size=(160, 120))), progress=lambda done, of: seen.append((done, of)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


# The cache ------------------------------------------------------------------------------------------------------------


def assert_same(a: FaceTrack, b: FaceTrack) -> None:
    for name, values in vars(a).items():
        np.testing.assert_array_equal(values, getattr(b, name))


def test_the_same_bytes_are_tracked_once(talk, track: FaceTrack, tmp_path: Path) -> None:
    def never(done: int, of: int) -> None:
        raise AssertionError("tracked again")

    copy = shutil.copy(talk.path, tmp_path / "another name.mp4")
    assert_same(face_track(probe(copy), progress=never), track)


def test_a_kept_track_is_a_safetensors_file(track: FaceTrack, tmp_path: Path) -> None:
    landmarks._keep(track, tmp_path / "kept.safetensors")
    for name, array in load_file(tmp_path / "kept.safetensors").items():
        np.testing.assert_array_equal(array, getattr(track, name))
    back = landmarks._kept(tmp_path / "kept.safetensors", track.width, track.height)
    assert back is not None
    assert_same(back, track)


def test_a_part_of_a_track_is_one_of_its_frames(track: FaceTrack) -> None:
    part = track.part(slice(10, 30))
    for name in ("pts", "times_s", "points", "blendshapes", "crowded"):
        np.testing.assert_array_equal(getattr(part, name), getattr(track, name)[10:30])
    assert part.shots.tolist() == [0]
    np.testing.assert_array_equal(part.pose.shift, track.pose.shift[10:30])
    arrays = replace(track, points=track.points[:], blendshapes=track.blendshapes[:]).part(slice(10, 30))
    np.testing.assert_array_equal(arrays.points, part.points)


def test_what_is_hidden_in_one_shot_is_not_in_the_next(talk, encode: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    faces = [frame.yuv() for frame in read_frames(probe(talk.path), threads=1)][:24]
    negative = [Yuv(255 - face.y, face.v, face.u) for face in faces]
    path = encode("cut.mp4", video=[(Fraction(k, 25), picture) for k, picture in enumerate(faces[:12] + negative[12:])])
    monkeypatch.setattr(landmarks, "find_hidden", lambda *_: np.arange(24) == 11)
    tracked = track_faces(probe(path))
    assert tracked.shots.tolist() == [0, 12]
    assert np.flatnonzero(tracked.hidden).tolist() == [9, 10, 11]


def test_other_bytes_are_tracked_anew(bars: Make) -> None:
    first = face_track(probe(bars(frames=3, size=(160, 120))))
    second = face_track(probe(bars(frames=4, size=(160, 120))))
    assert (len(first.pts), len(second.pts)) == (3, 4)


@pytest.mark.parametrize("content", [b"", b"garbage", None])
def test_a_broken_cache_entry_is_made_anew(bars: Make, isolated_cache: Path, content: bytes | None) -> None:
    media = probe(bars(frames=3, size=(160, 120), name="cached.mp4"))
    before = face_track(media, sha256="feed")
    entry = next((isolated_cache / "tracks").glob("feed-*"))
    entry.write_bytes(entry.read_bytes()[:-20] if content is None else content)
    assert_same(face_track(media, sha256="feed"), before)
    assert_same(face_track(media, sha256="feed"), before)
    assert not list((isolated_cache / "tracks").glob("*partial*"))


# Real clips -----------------------------------------------------------------------------------------------------------


def test_a_real_face_at_a_variable_rate_is_followed(clips: Path) -> None:
    track = face_track(probe(clips / "turned_6s_vfr.mp4"))
    assert len(track.pts) == 135
    assert track.found.mean() > 0.95
    assert np.ptp(np.diff(track.times_s)) > 0.005
    speaker = track_of(track).speaker
    assert speaker.scale is not None
    assert 0.03 < speaker.scale < 0.6
