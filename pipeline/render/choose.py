"""Which window of the bank each output frame takes its mouth from: nearest in shape and pose, steady in time."""

from __future__ import annotations

import numpy as np

from lipwright.data.face_space import Pose
from lipwright.pipeline.render.bank import Bank

CANDIDATES = 24
"""Nearest windows looked at for each frame."""

INNER_WEIGHT = 8.0
"""Weight of the inner lips' points: how far a mouth is open is what a viewer sees first."""

POSE_WEIGHT = 0.03
"""Cost of turning the head by a radian, squared, against a squared distance of the mouth in units of face space."""

FADE = 1 / 3
"""Share of the neighbouring frame's window in the frames before and after a jump: three steps in place of one."""

SWITCH_COST = 1e-5
JUMP_WEIGHT = 0.1
"""Cost of leaving the running order of the footage, and of the jump in shape when it is left."""


def _embed(mouths: np.ndarray, pose: Pose) -> np.ndarray:
    """Return vectors whose squared distance is the cost of showing one mouth for another, (F, E) float32."""
    weight = np.ones(40)
    weight[20:] = INNER_WEIGHT
    shape = (mouths * np.sqrt(weight / weight.sum())[:, None]).reshape(len(mouths), -1)
    # For small turns the distance of rotation matrices is √2 times the angle.
    turn = pose.rotation.reshape(len(mouths), 9) * np.sqrt(POSE_WEIGHT / 2)
    return np.hstack([shape, turn]).astype(np.float32)


def choose_windows(bank: Bank, mouths: np.ndarray, pose: Pose, valid: np.ndarray) -> np.ndarray:
    """Choose a window for every frame by dynamic programming over the nearest candidates.

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
    ndarray, shape (F,), int64
        Index into the bank; −1 where a frame is not painted.
    """
    from scipy.spatial import cKDTree

    chosen = np.full(len(mouths), -1, np.int64)
    rows = np.flatnonzero(valid)
    if not len(rows):
        return chosen
    shown = _embed(bank.mouths, bank.pose)
    asked = _embed(mouths[rows], pose[rows])
    count = min(CANDIDATES, len(shown))
    distance, near = cKDTree(shown).query(asked, k=list(range(1, count + 1)))
    cost = distance**2  # (F, C)
    best = cost[0]
    back = np.zeros(near.shape, np.int64)
    for t in range(1, len(rows)):
        before, now = near[t - 1], near[t]
        jump = ((shown[before][:, None] - shown[now][None]) ** 2).sum(-1)  # (C before, C now)
        follows = np.abs(bank.frames[now][None] - bank.frames[before][:, None]) <= 1
        follows |= rows[t] - rows[t - 1] > 1  # nobody sees a jump across frames that are not painted
        total = best[:, None] + np.where(follows, 0.0, SWITCH_COST + JUMP_WEIGHT * jump)
        back[t] = total.argmin(0)
        best = total.min(0) + cost[t]
    path = int(best.argmin())
    for t in range(len(rows) - 1, -1, -1):
        chosen[rows[t]] = near[t, path]
        path = int(back[t, path])
    return chosen


def fade_windows(bank: Bank, chosen: np.ndarray) -> list[list[tuple[int, float]]]:
    """Soften jumps: give each frame the windows to mix, with weights that add up to 1.

    Parameters
    ----------
    bank
    chosen : ndarray, shape (F,), int64
        From `choose_windows`.

    Returns
    -------
    list
        For each frame (window, weight) pairs, the chosen window first; empty where a frame is not painted.
    """
    mixed: list[list[tuple[int, float]]] = []
    for k, window in enumerate(chosen):
        if window < 0:
            mixed.append([])
            continue
        beside = [int(chosen[n]) for n in (k - 1, k + 1) if 0 <= n < len(chosen) and chosen[n] >= 0]
        others = [w for w in beside if abs(bank.frames[w] - bank.frames[window]) > 1]
        mixed.append([(int(window), 1 - FADE * len(others)), *((w, FADE) for w in others)])
    return mixed
