"""Small mouths are labelled with what is read when they are painted, large ones with what was tracked."""

from __future__ import annotations

import itertools
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from lipwright.data.faces import height_px
from lipwright.data.follower import Follower
from lipwright.data.landmarker import Faces
from lipwright.data.landmarks import FaceTrack
from lipwright.data.media import file_sha256, probe
from lipwright.data.mouth import LIPS, aperture
from lipwright.pipeline.render import reading
from lipwright.pipeline.render.bank import Bank, measure_sharpness
from lipwright.pipeline.render.composite import paint_mouth
from lipwright.pipeline.render.reading import FEWEST, READ, bank_for, build_bank, read_again


@pytest.fixture(scope="module")
def read_bank(talk: Any, talk_track: FaceTrack) -> Bank:
    """Return the bank of the talking photograph, read again."""
    return build_bank(probe(talk.path), talk_track, file_sha256(talk.path))


def test_readings_anew_agree_with_what_was_tracked(read_bank: Bank, talk_bank: Bank, talk: Any) -> None:
    known = aperture(read_bank.mouths)
    assert np.corrcoef(known, aperture(talk_bank.mouths))[0, 1] > 0.9
    assert np.corrcoef(known, talk.aperture[talk_bank.frames])[0, 1] > 0.9
    rest = np.setdiff1d(np.arange(478), READ)
    assert np.array_equal(read_bank.face[:, rest], talk_bank.face[:, rest])
    there = read_bank.pose.to_pixels(read_bank.mouths.astype(np.float64))
    np.testing.assert_allclose(read_bank.points[:, LIPS], there, atol=0.01)


def test_labels_of_a_large_face_are_what_was_read(talk: Any, talk_bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "FINE_PX", int(np.median(height_px(talk_bank.points))))
    assert np.array_equal(read_again(talk_bank, probe(talk.path)), talk_bank.face[:, READ])


def test_a_bank_is_read_once_and_anew_when_its_file_is_broken(talk: Any, talk_track: FaceTrack, read_bank: Bank) -> None:
    media, sha256, file = probe(talk.path), file_sha256(talk.path), read_bank.file.with_suffix(".safetensors")
    inode = file.stat().st_ino
    again = build_bank(media, talk_track, sha256)
    assert file.stat().st_ino == inode
    assert np.array_equal(again.face, read_bank.face)
    file.write_bytes(b"broken")
    anew = build_bank(media, talk_track, sha256)
    np.testing.assert_allclose(anew.face, read_bank.face, atol=1e-5)
    assert not list(Path(file).parent.glob("*partial*"))


def test_a_handful_of_windows_is_taken_as_tracked(talk: Any, talk_bank: Bank) -> None:
    few = np.arange(FEWEST - 1)
    arrays = {name: getattr(talk_bank, name)[few] for name in ("frames", "boxes", "points", "pose", "face")}
    bank = replace(talk_bank, **arrays)
    assert np.array_equal(read_again(bank, probe(talk.path)), bank.face[:, READ])


def test_reading_in_threads_leaves_standard_error_as_it_was(talk: Any, talk_bank: Bank) -> None:
    before = os.fstat(2)
    read_again(talk_bank, probe(talk.path))
    assert (os.fstat(2).st_dev, os.fstat(2).st_ino) == (before.st_dev, before.st_ino)


def test_an_error_ends_reading_before_the_landmarkers_are_closed(
    talk: Any, talk_bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed while another thread is in it, MediaPipe takes the process with it."""
    calls, closed = itertools.count(), []

    class Slow(Follower):
        busy = False

        def __call__(self, rgb: np.ndarray, time_s: float) -> Faces:
            self.busy = True
            time.sleep(0.3)
            found = super().__call__(rgb, time_s)
            self.busy = False
            return found

        def __exit__(self, *error: object) -> None:
            closed.append(self.busy)
            while self.busy:  # the process shall live on, to tell
                time.sleep(0.01)
            super().__exit__(*error)

    def broken(*painting: Any) -> Any:
        if next(calls) == 2:
            time.sleep(0.15)  # the other thread is with its landmarker by now
            raise RuntimeError("on purpose")
        return paint_mouth(*painting)

    monkeypatch.setattr(reading, "Follower", Slow)
    monkeypatch.setattr(reading, "paint_mouth", broken)
    with pytest.raises(RuntimeError, match="on purpose"):
        read_again(talk_bank, probe(talk.path))
    assert closed == [False, False]


def test_other_footage_gives_the_mouths_and_the_target_its_likeness(talk: Any, talk_track: FaceTrack, read_bank: Bank) -> None:
    bank = bank_for(probe(talk.path), talk_track, file_sha256(talk.path), Path(talk.path))
    assert np.array_equal(bank.face, read_bank.face)
    assert bank.likeness is not None
    assert read_bank.likeness is not None
    np.testing.assert_allclose(bank.likeness.mean, read_bank.likeness.mean, atol=1e-3)


def test_a_blurred_mouth_is_less_sharp(talk_bank: Bank, tmp_path: Path) -> None:
    blurred = bytearray(talk_bank.file.read_bytes())
    for k in range(0, len(talk_bank.frames), 2):
        window, start = talk_bank.window(k), int(talk_bank.offsets[k])
        blurred[start : start + window.y.size] = cv2.GaussianBlur(window.y, (0, 0), 2).tobytes()
    (tmp_path / "half.yuv").write_bytes(blurred)
    sharpness = measure_sharpness(replace(talk_bank, file=tmp_path / "half.yuv"))
    assert sharpness[::2].max() < sharpness[1::2].min()
    assert np.median(measure_sharpness(talk_bank)) == pytest.approx(1)
