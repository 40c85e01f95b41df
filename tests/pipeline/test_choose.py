"""The bank's windows are chosen by shape, only where a mouth is to be painted, and steadily in time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lipwright.data.face_space import Pose
from lipwright.data.mouth import LIPS, aperture
from lipwright.pipeline.render.bank import Bank
from lipwright.pipeline.render.choose import (
    DISSOLVED,
    FADE_DEG,
    JOINED,
    TURNED_DEG,
    Joined,
    choose_windows,
    paint_strength,
)

FRAMES = 60


def _bank(mouths: np.ndarray) -> tuple[Bank, Pose]:
    count = len(mouths)
    pose = Pose(np.tile(np.eye(3), (count, 1, 1)), np.full(count, 100.0), np.zeros((count, 3)))
    face = np.zeros((count, 478, 3), np.float32)
    face[:, LIPS] = mouths
    nowhere = np.zeros((count, 4), np.int64)
    return Bank(
        Path("none"),
        np.arange(count),
        nowhere,
        face * 100,
        pose,
        face,
        sharpness=np.ones(count, np.float32),
        looks=np.zeros((count, 1), np.float32),
        clear=np.ones(count, bool),
    ), pose


def _first(joined: list[Joined | None]) -> np.ndarray:
    return np.array([j.windows[0] if j else -1 for j in joined])


@pytest.fixture
def talked(opened: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return opened(np.random.default_rng(4).uniform(0, 0.4, FRAMES))


def test_the_very_frame_is_picked_when_the_bank_holds_it(talked: np.ndarray) -> None:
    bank, pose = _bank(talked)
    assert (_first(choose_windows(bank, talked, pose, np.ones(FRAMES, bool))) == np.arange(FRAMES)).all()


@pytest.mark.parametrize("wanted", [0, 17, FRAMES - 1])
def test_a_single_frame_is_found_wherever_it_is(talked: np.ndarray, wanted: int) -> None:
    bank, pose = _bank(talked)
    at = np.array([wanted])
    assert _first(choose_windows(bank, talked[at], pose[at], np.ones(1, bool))).tolist() == [wanted]


def test_nothing_is_chosen_where_nothing_is_painted(talked: np.ndarray) -> None:
    bank, pose = _bank(talked)
    valid = np.random.default_rng(5).uniform(size=FRAMES) < 0.6
    lost = Pose(*(np.where(valid.reshape(-1, *[1] * (v.ndim - 1)), v, np.nan) for v in vars(pose).values()))
    mouths = np.where(valid[:, None, None], talked, 0).astype(np.float32)
    chosen = _first(choose_windows(bank, mouths, lost, valid))
    assert (chosen[~valid] == -1).all()
    assert (chosen[valid] == np.flatnonzero(valid)).all()
    assert (_first(choose_windows(bank, mouths, lost, np.zeros(FRAMES, bool))) == -1).all()


def test_a_bank_of_one_window_serves_every_frame(talked: np.ndarray) -> None:
    bank, pose = _bank(talked[:1])
    pose = pose[np.zeros(FRAMES, int)]
    assert (_first(choose_windows(bank, talked, pose, np.ones(FRAMES, bool))) == 0).all()


def test_a_still_mouth_does_not_flicker(talked: np.ndarray) -> None:
    """Noise in what is asked for does not tear the choice from one window to another and back."""
    twice = np.concatenate([talked, talked])  # every mouth is there twice
    bank, pose = _bank(twice)
    rng = np.random.default_rng(6)
    still = (talked[[20] * FRAMES] + rng.normal(0, 2e-4, (FRAMES, 40, 3))).astype(np.float32)
    chosen = _first(choose_windows(bank, still, pose[np.full(FRAMES, 20)], np.ones(FRAMES, bool)))
    assert len(set(chosen)) == 1


def test_the_chosen_window_leads_those_that_are_joined(talked: np.ndarray) -> None:
    bank, pose = _bank(talked)
    valid = np.arange(FRAMES) % 7 != 3
    joined = choose_windows(bank, talked, pose, valid)
    assert _first(joined).tolist() == np.where(valid, np.arange(FRAMES), -1).tolist()
    for j in filter(None, joined):
        assert len(set(j.windows)) == JOINED
        assert j.shares.sum() == pytest.approx(1)
        assert j.shares[0] == j.shares.max()  # it shows the very mouth
        assert j.leads.tolist() == [1.0] + [0.0] * (JOINED - 1)  # the footage runs on


def test_windows_nearer_in_shape_have_larger_shares(talked: np.ndarray) -> None:
    bank, pose = _bank(talked)
    for k, j in enumerate(choose_windows(bank, talked, pose, np.ones(FRAMES, bool))):
        assert j
        away = np.square(talked[j.windows] - talked[k]).sum((1, 2))
        assert j.shares[np.argsort(away)].tolist() == sorted(j.shares, reverse=True)


def test_a_bank_smaller_than_what_is_joined_gives_all_it_has(talked: np.ndarray) -> None:
    bank, pose = _bank(talked[:2])
    both, none = choose_windows(bank, talked[[1, 0]], pose, np.array([True, False]))
    assert both
    assert both.windows.tolist() == [1, 0]
    assert none is None


def test_windows_dissolve_where_the_running_order_is_left(opened: Callable[[np.ndarray], np.ndarray]) -> None:
    mouths = opened(np.linspace(0, 0.4, 5))
    bank, pose = _bank(mouths)
    bank = replace(bank, frames=np.array([3, 4, 40, 41, 9]))
    asked = np.array([0, 1, 2, 3, -1, 4])
    joined = choose_windows(bank, mouths[asked], pose[asked], asked >= 0)
    leads = [dict(zip(j.windows.tolist(), j.leads.tolist(), strict=True)) if j else {} for j in joined]
    assert [{w: share for w, share in lead.items() if share} for lead in leads] == [
        {0: 1.0},
        {1: 1 - DISSOLVED, 2: DISSOLVED},
        {2: 1 - DISSOLVED, 1: DISSOLVED},
        {3: 1.0},
        {},
        {4: 1.0},
    ]


def test_teeth_stay_while_the_lips_hold_still(talked: np.ndarray) -> None:
    """Of windows with nearly one mouth, those that look alike between the lips follow and join one another."""
    rng = np.random.default_rng(8)
    wide = talked[[int(aperture(talked).argmax())] * FRAMES]
    near = (wide + rng.normal(0, 0.01, wide.shape)).astype(np.float32)
    bank, pose = _bank(near)
    teeth = np.arange(FRAMES) % 2 == 0
    bank = replace(bank, frames=np.arange(FRAMES) * 5, looks=np.repeat(0.7 * teeth[:, None], 36, 1).astype(np.float32))
    asked = (wide + rng.normal(0, 0.01, wide.shape)).astype(np.float32)
    joined = choose_windows(bank, asked, pose, np.ones(FRAMES, bool))
    changes = np.diff(teeth[_first(joined)].astype(int)) != 0
    blind = _first(choose_windows(replace(bank, looks=0 * bank.looks), asked, pose, np.ones(FRAMES, bool)))
    assert changes.sum() < (np.diff(teeth[blind].astype(int)) != 0).sum()
    assert np.mean([teeth[j.windows] == teeth[j.windows[0]] for j in joined if j]) > 0.95


def _turned(yaw: np.ndarray, pitch: np.ndarray) -> Pose:
    (cy, cp), (sy, sp) = np.cos(np.radians([yaw, pitch])), np.sin(np.radians([yaw, pitch]))
    zero, one = np.zeros_like(cy), np.ones_like(cy)
    about_y = np.array([[cy, zero, sy], [zero, one, zero], [-sy, zero, cy]]).transpose(2, 0, 1)
    about_x = np.array([[one, zero, zero], [zero, cp, -sp], [zero, sp, cp]]).transpose(2, 0, 1)
    return Pose(about_x @ about_y, np.full(len(yaw), 100.0), np.zeros((len(yaw), 3)))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_head_turned_away_fades_to_its_own_mouth(talked: np.ndarray, axis: int, sign: int) -> None:
    bank, _ = _bank(talked)
    limit = round(TURNED_DEG[axis])
    # Apart from the two bounds by more than what a rotation matrix rounds off.
    angles = np.zeros((91, 2))
    angles[:, axis] = sign * (np.arange(91) + 1e-9 * (np.arange(91) - limit - FADE_DEG / 2))
    strength = paint_strength(_turned(*angles.T), bank)
    assert limit >= (30, 20)[axis]
    assert (strength[: limit + 1] == 1).all()
    assert (strength[round(limit + FADE_DEG) :] == 0).all()
    assert (np.diff(strength) <= 0).all()
    assert np.abs(np.diff(strength)).max() < 0.2


def test_footage_that_knows_turned_heads_bears_them(talked: np.ndarray) -> None:
    bank, _ = _bank(talked)
    knowing = replace(bank, pose=_turned(np.linspace(-50, 50, FRAMES), np.full(FRAMES, 25.0)))
    there = _turned(np.array([42.0, -42.0, 60.0]), np.full(3, 25.0))
    assert paint_strength(there, bank).max() < 1
    assert paint_strength(there, knowing).tolist() == [1, 1, 0]


def test_blurred_windows_and_covered_ones_come_last(talked: np.ndarray) -> None:
    bank, pose = _bank(np.repeat(talked, 2, axis=0))  # every mouth twice
    twice = pose[np.arange(0, 2 * FRAMES, 2)]
    odd = np.arange(2 * FRAMES) % 2 == 1
    everywhere = np.ones(FRAMES, bool)
    assert (_first(choose_windows(replace(bank, clear=odd), talked, twice, everywhere)) % 2 == 1).all()
    blurred = replace(bank, sharpness=np.where(odd, 1, 0.2).astype(np.float32))
    assert (_first(choose_windows(blurred, talked, twice, everywhere)) % 2 == 1).mean() > 0.75
    none_clear = replace(bank, clear=np.zeros(2 * FRAMES, bool))
    assert (_first(choose_windows(none_clear, talked, twice, everywhere)) >= 0).all()
