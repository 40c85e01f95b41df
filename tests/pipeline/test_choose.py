"""The bank's windows are chosen by shape, only where a mouth is to be painted, and steadily in time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lipwright.data.face_space import Pose
from lipwright.data.mouth import LIPS
from lipwright.pipeline.render.bank import Bank
from lipwright.pipeline.render.choose import JOINED, choose_windows, join_windows

FRAMES = 60


def _bank(mouths: np.ndarray) -> tuple[Bank, Pose]:
    count = len(mouths)
    pose = Pose(np.tile(np.eye(3), (count, 1, 1)), np.full(count, 100.0), np.zeros((count, 3)))
    face = np.zeros((count, 478, 3), np.float32)
    face[:, LIPS] = mouths
    nowhere = np.zeros((count, 4), np.int64)
    return Bank(
        Path("none"), np.arange(count), nowhere, face * 100, pose, face, np.ones(count, np.float32), np.ones(count, bool)
    ), pose


@pytest.fixture
def talked(opened: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return opened(np.random.default_rng(4).uniform(0, 0.4, FRAMES))


def test_the_very_frame_is_picked_when_the_bank_holds_it(talked: np.ndarray) -> None:
    bank, pose = _bank(talked)
    assert (choose_windows(bank, talked, pose, np.ones(FRAMES, bool)) == np.arange(FRAMES)).all()


@pytest.mark.parametrize("wanted", [0, 17, FRAMES - 1])
def test_a_single_frame_is_found_wherever_it_is(talked: np.ndarray, wanted: int) -> None:
    bank, pose = _bank(talked)
    at = np.array([wanted])
    assert choose_windows(bank, talked[at], pose[at], np.ones(1, bool)).tolist() == [wanted]


def test_nothing_is_chosen_where_nothing_is_painted(talked: np.ndarray) -> None:
    bank, pose = _bank(talked)
    valid = np.random.default_rng(5).uniform(size=FRAMES) < 0.6
    lost = Pose(*(np.where(valid.reshape(-1, *[1] * (v.ndim - 1)), v, np.nan) for v in vars(pose).values()))
    mouths = np.where(valid[:, None, None], talked, 0).astype(np.float32)
    chosen = choose_windows(bank, mouths, lost, valid)
    assert (chosen[~valid] == -1).all()
    assert (chosen[valid] == np.flatnonzero(valid)).all()
    assert (choose_windows(bank, mouths, lost, np.zeros(FRAMES, bool)) == -1).all()


def test_a_bank_of_one_window_serves_every_frame(talked: np.ndarray) -> None:
    bank, pose = _bank(talked[:1])
    pose = pose[np.zeros(FRAMES, int)]
    assert (choose_windows(bank, talked, pose, np.ones(FRAMES, bool)) == 0).all()


def test_a_still_mouth_does_not_flicker(talked: np.ndarray) -> None:
    """Noise in what is asked for does not tear the choice from one window to another and back."""
    twice = np.concatenate([talked, talked])  # every mouth is there twice
    bank, pose = _bank(twice)
    rng = np.random.default_rng(6)
    still = (talked[[20] * FRAMES] + rng.normal(0, 2e-4, (FRAMES, 40, 3))).astype(np.float32)
    chosen = choose_windows(bank, still, pose[np.full(FRAMES, 20)], np.ones(FRAMES, bool))
    assert len(set(chosen)) == 1


def test_the_chosen_window_leads_those_that_are_joined(talked: np.ndarray) -> None:
    bank, pose = _bank(talked)
    valid = np.arange(FRAMES) % 7 != 3
    chosen = choose_windows(bank, talked, pose, valid)
    joined = join_windows(bank, talked, pose, chosen)
    assert [windows[0][0] if windows else -1 for windows in joined] == chosen.tolist()
    for windows in filter(None, joined):
        assert len({w for w, _ in windows}) == JOINED
        shares = [share for _, share in windows]
        assert sum(shares) == pytest.approx(1)
        assert shares[0] == max(shares)  # it shows the very mouth


def test_windows_nearer_in_shape_have_larger_shares(talked: np.ndarray) -> None:
    bank, pose = _bank(talked)
    for k, windows in enumerate(join_windows(bank, talked, pose, np.arange(FRAMES))):
        away = [float(np.square(talked[w] - talked[k]).sum()) for w, _ in windows]
        shares = [share for _, share in windows]
        assert [shares[i] for i in np.argsort(away)] == sorted(shares, reverse=True)


def test_a_bank_smaller_than_what_is_joined_gives_all_it_has(talked: np.ndarray) -> None:
    bank, pose = _bank(talked[:2])
    joined = join_windows(bank, talked[:2], pose, np.array([1, -1]))
    assert [sorted(w for w, _ in windows) for windows in joined] == [[0, 1], []]
