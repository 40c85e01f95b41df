"""Which window of the bank each output frame takes its mouth from: nearest in shape and pose, steady in time."""

from __future__ import annotations

from collections import deque
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


@dataclass(frozen=True)
class _Open:
    """A frame that is painted, and whose windows are not chosen yet.

    Attributes
    ----------
    asked : ndarray, shape (E,), float32
        What is to be shown.
    near : ndarray, shape (C,), int64
        The candidates: windows that are nearest to it.
    look_weight
        Cost of another look between the lips.
    back : ndarray, shape (C,), int64
        Which candidate of the painted frame before is best followed by each.
    """

    asked: np.ndarray
    near: np.ndarray
    look_weight: float
    back: np.ndarray


class Chooser:
    """Chooses the windows of frames that come one after another: dynamic programming over the candidates of each.

    Parameters
    ----------
    bank
        What to choose from.
    ahead
        The windows of a frame are chosen when so many more have come; what was chosen stays, and what comes follows from it.
        None: not before the end, all together.
    """

    def __init__(self, bank: Bank, ahead: int | None = None) -> None:
        from scipy.spatial import cKDTree

        self._bank, self._ahead, self._shown = bank, ahead, _shown(bank)
        self._tree = cKDTree(self._shown)
        self._ranks = list(range(1, min(CANDIDATES, len(self._shown)) + 1))
        self._cost = np.zeros(len(self._ranks))  # of the best way to each candidate of the last painted frame
        self._open: deque[_Open | None] = deque()  # None is not painted
        self._last: _Open | None = None  # of the frames that came
        self._chosen: int | None = None  # window of the last frame that was chosen

    def push(self, mouth: np.ndarray, pose: Pose, painted: bool) -> list[Joined | None]:
        """Take the next frame.

        Parameters
        ----------
        mouth : ndarray, shape (40, 3)
            The mouth to be painted, in the bank's face space.
        pose
            Of the frame that it is painted on.
        painted
            Whether it is.

        Returns
        -------
        list
            What is chosen now: of the frames that waited, the first ones. None where a frame is not painted.
        """
        self._last = self._reach(mouth, pose) if painted else None
        self._open.append(self._last)
        return [] if self._ahead is None else self._choose(len(self._open) - self._ahead)

    def finish(self) -> list[Joined | None]:
        """Hear that no frame comes any more: choose for all that wait."""
        return self._choose(len(self._open))

    def _reach(self, mouth: np.ndarray, pose: Pose) -> _Open:
        """Find the candidates of a frame, and the best way to each."""
        bank, shown, asked = self._bank, self._shown, _embed(mouth[None], pose)[0]
        away, near = self._tree.query(asked, k=self._ranks)
        look_weight = float(LOOK_WEIGHT * aperture(mouth))
        total = np.repeat(self._cost[:, None], len(near), 1)  # (C before, C now)
        if self._last is not None:  # nobody sees a jump across frames that are not painted
            before = self._last.near
            jump = JUMP_WEIGHT * ((shown[before][:, None] - shown[near][None]) ** 2).sum(-1)
            jump += look_weight * ((bank.looks[before][:, None] - bank.looks[near][None]) ** 2).mean(-1)
            follows = np.abs(bank.frames[near][None] - bank.frames[before][:, None]) <= 1
            total += np.where(follows, 0.0, SWITCH_COST + jump)
        self._cost = total.min(0) + (away**2 + BLUR_WEIGHT * np.maximum(1 - bank.sharpness[near], 0) ** 2)
        return _Open(asked, near, look_weight, total.argmin(0))

    def _choose(self, count: int) -> list[Joined | None]:
        """Choose for the first frames that wait."""
        if count <= 0:
            return []
        best = self._best()
        windows = [None if frame is None else int(frame.near[k]) for frame, k in zip(self._open, best, strict=True)]
        joined: list[Joined | None] = []
        at = None
        for k, (window, after) in enumerate(zip(windows[:count], [*windows[1:], None], strict=False)):
            frame = self._open.popleft()
            if frame is None or window is None:
                joined.append(None)
            else:
                joined.append(_join(self._bank, self._shown, frame, _leads(self._bank, window, (self._chosen, after))))
                at = best[k]
            self._chosen = window
        if at is not None:
            self._keep(at)
        return joined

    def _best(self) -> list[int]:
        """Return which candidate the best way takes in each frame that waits; any where it is not painted."""
        best, at = [], int(self._cost.argmin())
        for frame in reversed(self._open):
            best.append(at)
            at = at if frame is None else int(frame.back[at])
        return best[::-1]

    def _keep(self, at: int) -> None:
        """Give up all ways but those through a candidate of the painted frame before those that wait."""
        through = np.arange(len(self._cost))
        for frame in reversed(self._open):
            through = through if frame is None else frame.back[through]
        self._cost[through != at] = np.inf


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
    chooser = Chooser(bank)
    for k, mouth in enumerate(mouths):
        chooser.push(mouth, pose[k : k + 1], bool(valid[k]))
    return chooser.finish()


def _leads(bank: Bank, window: int, beside: tuple[int | None, int | None]) -> dict[int, float]:
    """Return what leads between the lips, and by how much: at a change of windows, both sides of it."""
    leads = {window: 1.0}
    for other in beside:
        if other is not None and abs(bank.frames[other] - bank.frames[window]) > 1:
            leads[other] = leads.get(other, 0) + DISSOLVED
            leads[window] -= DISSOLVED
    return leads


def _join(bank: Bank, shown: np.ndarray, frame: _Open, leads: dict[int, float]) -> Joined:
    """Join the windows that lead and the candidates of a frame."""
    leading, near = np.array(list(leads)), frame.near
    windows = np.concatenate([leading, near[~np.isin(near, leading)]])
    look = bank.looks[windows]
    apart = ((shown[windows] - frame.asked) ** 2).sum(1) + frame.look_weight * ((look - look[0]) ** 2).mean(1)
    count = len(leading)
    nearest = np.concatenate([np.arange(count), count + np.argsort(apart[count:], kind="stable")])[:JOINED]
    windows, apart = windows[nearest], apart[nearest]
    shares = np.exp(-2 * apart / max(apart.max(), 1e-12))
    return Joined(windows, shares / shares.sum(), np.pad(list(leads.values()), (0, len(windows) - count)))
