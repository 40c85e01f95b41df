"""A live face paints what a render paints, frame by frame, as soon as it can; and closes its mouth in the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from lipwright.data.encoder import Encoding
from lipwright.data.errors import FaceError, MediaError
from lipwright.data.landmarks import FaceTrack, face_track
from lipwright.data.media import BT709, Yuv, probe, to_rgb
from lipwright.data.mouth import LIPS, aperture
from lipwright.data.writer import VideoWriter
from lipwright.pipeline.render import live
from lipwright.pipeline.render.choose import Chooser, Joined, choose_windows
from lipwright.pipeline.render.composite import Painted
from lipwright.pipeline.render.live import AHEAD, CLOSING_S, LiveFace, loop_rows
from lipwright.pipeline.render.painting import painted_frames
from lipwright.pipeline.render.portrait import head_square
from lipwright.pipeline.stream import LiveSteps


@pytest.fixture(scope="module")
def face(talk: Any) -> LiveFace:
    return LiveFace(talk.path)


@pytest.fixture(scope="module")
def said(face: LiveFace) -> LiveSteps:
    """Three seconds of a mouth that opens and closes as it is said, in the face's own way."""
    assert face.speaker.scale
    times_s = np.arange(300) / 100
    own = face._loop.canvas.own
    widest = own[int(aperture(own).argmax())]
    share = (0.5 - 0.5 * np.cos(2 * np.pi * 1.7 * times_s)) * np.random.default_rng(3).uniform(0.3, 1, 300)
    return LiveSteps(
        times_s, (face.speaker.neutral + share[:, None, None] * (widest - face.speaker.neutral)).astype(np.float32)
    )


def _cut(steps: LiveSteps, count: int) -> Iterator[LiveSteps]:
    for k in range(0, len(steps.times_s), count):
        yield LiveSteps(steps.times_s[k : k + count], steps.xyz[k : k + count])


def _all(face: LiveFace, steps: LiveSteps, count: int) -> list[tuple[float, np.ndarray]]:
    session = face.session()
    shown = [(frame.time_s, frame.paint()) for part in _cut(steps, count) for frame in session.push(part)]
    return shown + [(frame.time_s, frame.paint()) for frame in session.finish()]


def _same(a: Joined | None, b: Joined | None) -> bool:
    if a is None or b is None:
        return a is b
    return all(np.array_equal(p, q) for p, q in zip(vars(a).values(), vars(b).values(), strict=True))


def test_frames_come_in_time_however_steps_are_cut(face: LiveFace, said: LiveSteps) -> None:
    one, other = _all(face, said, 3), _all(face, said, 71)
    assert [time for time, _ in one] == [time for time, _ in other] == [k / 25 for k in range(len(one))]
    assert 3 <= len(one) / 25 <= 3 + CLOSING_S
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(one, other, strict=True))
    assert {picture.shape for _, picture in one} == {(*face.size[::-1], 3)}


def test_frames_that_nobody_paints_change_nothing(face: LiveFace, said: LiveSteps) -> None:
    session, painted = face.session(), {}
    for part in _cut(said, 3):
        painted |= {frame.time_s: frame.paint() for frame in session.push(part) if round(frame.time_s * 25) % 7 == 0}
    every = dict(_all(face, said, 3))
    assert len(painted) == 11
    assert all(np.array_equal(picture, every[time_s]) for time_s, picture in painted.items())


def test_a_frame_is_behind_its_step_by_the_look_ahead(face: LiveFace, said: LiveSteps) -> None:
    session = face.session()
    for part in _cut(said, 4):
        late = [part.times_s[-1] - frame.time_s for frame in session.push(part)]
        assert all(AHEAD / 25 <= each < AHEAD / 25 + 0.04 for each in late)


def test_what_is_painted_is_what_a_render_paints_where_no_choice_is_left(
    talk: Any, said: LiveSteps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all frames known ahead, windows are chosen as offline, and the pixels are the same."""
    monkeypatch.setattr(live, "AHEAD", 1000)
    face = LiveFace(talk.path)
    session = face.session()
    assert not any(list(session.push(part)) for part in _cut(said, 3))
    shown = [frame.paint() for frame in session._shown(session._chooser.finish())]  # not `finish`: what closes has a say, too
    media = probe(talk.path)
    track = face_track(media)
    rows = np.array([face._loop.place(k) for k in range(75)])
    pictures = [face._loop.pictures[row] for row in rows]
    bank = face._loop.canvas.bank
    rendered = painted_frames(iter(pictures), track, rows, said.xyz[::4], np.ones(75, bool), bank)
    for own, frame in zip(shown, rendered, strict=True):
        assert isinstance(frame, Painted)
        rgb = to_rgb(frame.picture.to_picture(media.need_video().colour))
        assert np.array_equal(own, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))


@pytest.mark.parametrize(("ahead", "most"), [(0, 1.5), (1, 1.5), (3, 1.2), (100, 1.0)])
def test_windows_chosen_with_a_look_ahead_are_nearly_those_of_all(
    face: LiveFace, said: LiveSteps, ahead: int, most: float
) -> None:
    canvas, mouths = face._loop.canvas, said.xyz[::4]
    pose, painted = canvas.pose[: len(mouths)], np.arange(len(mouths)) % 31 != 30
    offline = choose_windows(canvas.bank, mouths, pose, painted)
    chooser, chosen = Chooser(canvas.bank, ahead), []
    for k, mouth in enumerate(mouths):
        chosen += chooser.push(mouth, pose[k : k + 1], bool(painted[k]))
        assert len(chosen) == max(k + 1 - ahead, 0)
    chosen += chooser.finish()
    assert [j is not None for j in chosen] == painted.tolist()
    if ahead == 100:
        assert all(map(_same, chosen, offline))

    def away(joined: list[Joined | None]) -> float:
        lead = canvas.bank.mouths[[j.windows[0] for j in joined if j]]
        return float(np.sqrt(np.square(lead - mouths[painted]).sum(-1).mean()))

    assert away(chosen) <= most * away(offline)


def test_the_mouth_moves_as_it_is_told_and_rests_in_the_end(face: LiveFace, said: LiveSteps, talk: Any, tmp_path: Path) -> None:
    shown = _all(face, said, 3)
    encoding = Encoding(*face.size, Fraction(1, 12800), Fraction(25), BT709)
    with VideoWriter(tmp_path / "shown.mp4", encoding) as writer:
        for k, (_, picture) in enumerate(shown):
            writer.write(Yuv.from_bgr(picture), Fraction(k, 25))
    track = face_track(probe(tmp_path / "shown.mp4"))
    read = aperture(track.pose.to_face(track.points[:].astype(np.float64))[:, LIPS])
    asked = aperture(said.xyz[::4])
    assert np.corrcoef(read[:75], asked)[0, 1] > 0.85
    assert read[-1] < np.median(asked)


def test_frames_without_a_face_are_shown_as_they_are(
    talk: Any, talk_pictures: list[Yuv], said: LiveSteps, tmp_path: Path
) -> None:
    grey = Yuv(np.full((320, 320), 120, np.uint8), *(np.full((160, 160), 128, np.uint8) for _ in range(2)))
    with VideoWriter(tmp_path / "gap.mp4", Encoding(320, 320, Fraction(1, 12800), Fraction(25), BT709)) as writer:
        for k in range(75):
            writer.write(grey if 30 <= k < 36 else talk_pictures[k], Fraction(k, 25))
    face = LiveFace(tmp_path / "gap.mp4")
    shown = [picture for _, picture in _all(face, said, 3)]
    lost = np.flatnonzero(face._loop.canvas.strength == 0)
    for k in lost[lost < 75]:
        assert np.array_equal(shown[k], face._loop.paint(int(k), said.xyz[0], None))
    assert np.isnan(face._loop.canvas.pose.scale[lost]).all()


def test_what_is_larger_is_shown_close_round_the_head(
    talk: Any, talk_pictures: list[Yuv], said: LiveSteps, tmp_path: Path
) -> None:
    """A head in a wide picture: the square has the face as large as it can be, and is made once."""
    wide, high = 800, 560
    with VideoWriter(tmp_path / "wide.mp4", Encoding(wide, high, Fraction(1, 12800), Fraction(25), BT709)) as writer:
        for k, own in enumerate(talk_pictures[:60]):
            planes = [np.full((high // s, wide // s), v, np.uint8) for v, s in ((90, 1), (128, 2), (128, 2))]
            for plane, part, step in zip(planes, vars(own).values(), (1, 2, 2), strict=True):
                part = cv2.resize(part, (520 // step, 520 // step), interpolation=cv2.INTER_LINEAR)
                plane[20 // step : 540 // step, 250 // step : 770 // step] = part
            writer.write(Yuv(*planes), Fraction(k, 25))
    media = probe(tmp_path / "wide.mp4")
    left, top, edge = head_square(face_track(media), live.SIDE)
    assert (left % 2, top % 2, edge % 2) == (0, 0, 0)
    assert 0 <= left <= wide - edge
    assert 0 <= top <= high - edge
    face = LiveFace(tmp_path / "wide.mp4")
    assert face.size == (live.SIDE, live.SIDE)
    points = face._loop.canvas.points[..., :2]
    assert ((points > 0) & (points < live.SIDE)).all()
    assert len(_all(face, said, 30)) >= 75

    def again(*_: object) -> None:
        raise AssertionError("it was to be in the cache")

    assert LiveFace(tmp_path / "wide.mp4", progress=again).size == face.size


def _track(shots: list[int], times_s: np.ndarray) -> FaceTrack:
    count = len(times_s)
    nothing, no = np.zeros((count, 0)), np.zeros(count, bool)
    return FaceTrack(np.arange(count), times_s, nothing, nothing, 10, 10, np.array(shots), no, no)


def test_frames_are_held_from_one_shot_at_the_live_rate() -> None:
    painted = np.ones(150, bool)
    painted[:50] = False
    track = _track([0, 50, 90], np.arange(150) / 50)
    assert loop_rows(track, painted, 1000).tolist() == list(range(90, 150, 2))
    assert loop_rows(track, painted, 10).tolist() == list(range(50, 70, 2))
    slow = _track([0], np.arange(4) / 12.5)
    assert loop_rows(slow, np.ones(4, bool), 1000).tolist() == [0, 0, 1, 1, 2, 2, 3]


def test_a_face_that_cannot_be_painted_is_refused_in_words(
    bars: Callable[..., Path], talk_pictures: list[Yuv], tmp_path: Path
) -> None:
    with pytest.raises(FaceError, match="shows no face"):
        LiveFace(bars())
    with pytest.raises(MediaError, match="does not exist"):
        LiveFace(tmp_path / "none.mp4")
    still = talk_pictures[0]
    with VideoWriter(tmp_path / "still.mp4", Encoding(320, 320, Fraction(1, 12800), Fraction(25), BT709)) as writer:
        for k in range(12):
            writer.write(still, Fraction(k, 25))
    track = face_track(probe(tmp_path / "still.mp4"))
    if aperture(track.pose.to_face(track.points[:].astype(np.float64))[:, LIPS]).max() < 0.05:
        with pytest.raises(FaceError, match="never shows the mouth open"):
            LiveFace(tmp_path / "still.mp4")
