"""Which window of the bank each output frame takes its mouth from: nearest in shape and pose, steady in time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipwright.data.face_space import Pose
from lipwright.data.mouth import aperture
from lipwright.pipeline.render.bank import Bank

CANDIDATES = 24
"""Nearest windows looked at for each frame."""

INNER_WEIGHT = 4.0
"""Weight of the inner lips' points: how far a mouth is open is what a viewer sees first."""

POSE_WEIGHT = 0.03
"""Cost of turning the head by a radian, squared, against a squared distance of the mouth in units of face space."""

JOINED = 8
"""Windows whose texture is merged for each frame."""

BLUR_WEIGHT = 5e-3
"""Cost of a window that is less sharp than the median one, by the share that it lacks, squared."""

TURNED_DEG = (35.0, 28.0)
MOST_TURNED_DEG = (45.0, 35.0)
FADE_DEG = 10.0
"""Yaw and pitch up to which a mouth is always painted; up to which it is where the footage knows such poses; and over how much
more it fades."""

FAR = 100.0
"""Added to where windows lie that serve only for want of others."""

SWITCH_COST = 3e-4
JUMP_WEIGHT = 1.0
"""Cost of leaving the running order of the footage, and of the jump in shape when it is left."""

DISSOLVED = 0.3
"""How much between the lips comes already, and still, from the window on the other side of a change of windows."""

LOOK_WEIGHT = 0.15
"""Cost of other teeth, tongue or dark between the lips than before: squared difference of luma / 255, times the aperture."""


def _embed(mouths: np.ndarray, pose: Pose) -> np.ndarray:
    """Return vectors whose squared distance is the cost of showing one mouth for another, (F, E) float32."""
    weight = np.ones(40)
    weight[20:] = INNER_WEIGHT
    shape = (mouths * np.sqrt(weight / weight.sum())[:, None]).reshape(len(mouths), -1)
    # For small turns the distance of rotation matrices is √2 times the angle.
    turn = pose.rotation.reshape(len(mouths), 9) * np.sqrt(POSE_WEIGHT / 2)
    return np.hstack([shape, turn]).astype(np.float32)


def paint_strength(pose: Pose, bank: Bank) -> np.ndarray:
    """Tell how much of a painting a frame bears by its head's pose, (F,) float64: 1 all, 0 none, NaN-posed frames none.

    Full up to `TURNED_DEG` from facing the camera (pitch: from how the footage faces it), or as far as all but a few frames of
    the footage are turned; fading out over `FADE_DEG` more.
    """
    angles, known = pose.angles_deg(), bank.pose.angles_deg()
    middle = np.array([0.0, np.median(known[:, 1])])
    reach = np.clip(np.percentile(np.abs(known - middle), 95, axis=0), TURNED_DEG, MOST_TURNED_DEG)
    beyond = (np.abs(angles - middle) - reach).max(1)
    return np.nan_to_num(np.clip(1 - beyond / FADE_DEG, 0, 1))


def _shown(bank: Bank) -> np.ndarray:
    """Return the vectors of the bank's windows, (N, E) float32; those with something before the mouth lie far from any."""
    shown = _embed(bank.mouths, bank.pose)
    shown[~bank.clear] += FAR
    return shown


@dataclass(frozen=True)
class Joined:
    """The windows that a frame's texture is made of.

    Attributes
    ----------
    windows : ndarray, shape (N,), int64
        Indices into the bank, the one that leads first.
    shares : ndarray, shape (N,), float64
        Of the whole texture; they add up to 1.
    leads : ndarray, shape (N,), float64
        Of what leads between the lips; they add up to 1, and are 0 for all but one to three.
    """

    windows: np.ndarray
    shares: np.ndarray
    leads: np.ndarray

    @staticmethod
    def alone(window: int) -> Joined:
        """Join nothing to a window."""
        return Joined(np.array([window]), np.ones(1), np.ones(1))


def choose_windows(bank: Bank, mouths: np.ndarray, pose: Pose, valid: np.ndarray) -> list[Joined | None]:
    """Choose the windows of every frame: the one that leads, and of the nearest those that look like it.

    Parameters
    ----------
    bank
    mouths : ndarray, shape (F, 40, 3)
        The mouths to be painted, in the bank's face space.
    pose
        Of the frames that they are painted on.
    valid : ndarray, shape (F,), bool
        Frames that are painted.

    Returns
    -------
    list
        None where a frame is not painted.
    """
    from scipy.spatial import cKDTree

    joined: list[Joined | None] = [None for _ in valid]
    rows = np.flatnonzero(valid)
    if not len(rows):
        return joined
    shown, asked = _shown(bank), _embed(mouths[rows], pose[rows])
    distance, near = cKDTree(shown).query(asked, k=list(range(1, min(CANDIDATES, len(shown)) + 1)))
    look_weight = LOOK_WEIGHT * aperture(mouths[rows])
    first = _best_path(bank, shown, rows, distance**2, near, look_weight)
    for k, row in enumerate(rows):
        joined[row] = _join(bank, shown, asked[k], near[k], look_weight[k], _leads(bank, rows, first, k))
    return joined


def _best_path(
    bank: Bank, shown: np.ndarray, rows: np.ndarray, away: np.ndarray, near: np.ndarray, look_weight: np.ndarray
) -> np.ndarray:
    """Return the window that leads in each painted frame, (R,) int64: dynamic programming over candidates, (R, C)."""
    cost = away + BLUR_WEIGHT * np.maximum(1 - bank.sharpness[near], 0) ** 2
    best = cost[0]
    back = np.zeros(near.shape, np.int64)
    for t in range(1, len(rows)):
        before, now = near[t - 1], near[t]
        jump = ((shown[before][:, None] - shown[now][None]) ** 2).sum(-1)  # (C before, C now)
        follows = np.abs(bank.frames[now][None] - bank.frames[before][:, None]) <= 1
        follows |= rows[t] - rows[t - 1] > 1  # nobody sees a jump across frames that are not painted
        jump *= JUMP_WEIGHT
        jump += look_weight[t] * ((bank.looks[before][:, None] - bank.looks[now][None]) ** 2).mean(-1)
        total = best[:, None] + np.where(follows, 0.0, SWITCH_COST + jump)
        back[t] = total.argmin(0)
        best = total.min(0) + cost[t]
    path = np.empty(len(rows), np.int64)
    at = int(best.argmin())
    for t in range(len(rows) - 1, -1, -1):
        path[t] = near[t, at]
        at = int(back[t, at])
    return path


def _leads(bank: Bank, rows: np.ndarray, first: np.ndarray, k: int) -> dict[int, float]:
    """Return what leads between the lips in the k-th painted frame, and by how much: at a change, both sides of it."""
    window = int(first[k])
    leads = {window: 1.0}
    for j in (k - 1, k + 1):
        beside = 0 <= j < len(rows) and abs(rows[j] - rows[k]) == 1
        if beside and abs(bank.frames[first[j]] - bank.frames[window]) > 1:
            leads[int(first[j])] = leads.get(int(first[j]), 0) + DISSOLVED
            leads[window] -= DISSOLVED
    return leads


def _join(
    bank: Bank, shown: np.ndarray, want: np.ndarray, near: np.ndarray, look_weight: float, leads: dict[int, float]
) -> Joined:
    """Join the windows that lead, (C,) candidates being nearest to what is asked."""
    leading = np.array(list(leads))
    windows = np.concatenate([leading, near[~np.isin(near, leading)]])
    look = bank.looks[windows]
    apart = ((shown[windows] - want) ** 2).sum(1) + look_weight * ((look - look[0]) ** 2).mean(1)
    count = len(leading)
    nearest = np.concatenate([np.arange(count), count + np.argsort(apart[count:], kind="stable")])[:JOINED]
    windows, apart = windows[nearest], apart[nearest]
    shares = np.exp(-2 * apart / max(apart.max(), 1e-12))
    return Joined(windows, shares / shares.sum(), np.pad(list(leads.values()), (0, len(windows) - count)))
