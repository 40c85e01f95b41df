"""A texture is what its windows show: one alone is itself, several are their mean, and between the lips the first leads."""

from __future__ import annotations

import numpy as np
import pytest

from lipwright.data.mouth import LIPS, OUTER_LIPS
from lipwright.pipeline.render.bank import Bank
from lipwright.pipeline.render.choose import Joined
from lipwright.pipeline.render.shape import lower_face
from lipwright.pipeline.render.texture import LEAD, mouth_texture

SIZE = (320, 320)


def _joined(windows: list[int], shares: list[float], leads: list[float] | None = None) -> Joined:
    return Joined(np.array(windows), np.array(shares), np.array(leads or [1.0] + [0.0] * (len(windows) - 1)))


def _texture(bank: Bank, on: int, joined: Joined) -> tuple[np.ndarray, np.ndarray]:
    to, starts, mask = lower_face(bank.points[on], bank.pose[np.array([on])], bank.mouths[on], bank, joined, SIZE)
    return mouth_texture(bank, joined, to, starts, mask.box)


def test_a_window_on_its_own_frame_is_itself(talk_bank: Bank) -> None:
    for on in (5, 70):
        pose = talk_bank.pose[np.array([on])]
        *_, mask = lower_face(talk_bank.points[on], pose, talk_bank.mouths[on], talk_bank, Joined.alone(on), SIZE)
        left, top, right, bottom = np.array(mask.box) - np.tile(talk_bank.boxes[on, :2], 2)
        window = talk_bank.window(on)
        y, half = _texture(talk_bank, on, Joined.alone(on))
        assert np.abs(y.astype(int) - window.y[top:bottom, left:right]).mean() < 1
        assert np.abs(half - window.half[top // 2 : bottom // 2, left // 2 : right // 2]).mean() < 1


def test_several_windows_are_merged_by_their_shares(talk_bank: Bank) -> None:
    on, windows, shares, leads = 20, [3, 40, 90], [0.5, 0.3, 0.2], [0.7, 0.3, 0.0]
    pose, joined = talk_bank.pose[np.array([on])], _joined(windows, shares, leads)
    to, starts, mask = lower_face(talk_bank.points[on], pose, talk_bank.mouths[on], talk_bank, joined, SIZE)
    y, half = mouth_texture(talk_bank, joined, to, starts, mask.box)
    alone = [mouth_texture(talk_bank, Joined.alone(w), to, starts[k : k + 1], mask.box) for k, w in enumerate(windows)]
    assert np.array_equal(y, alone[0][0])
    parts = np.stack([part for _, part in alone])
    mean, leading = np.tensordot(shares, parts, 1), np.tensordot(leads, parts, 1)
    np.testing.assert_allclose(half[:8], mean[:8], atol=0.01)  # well above the lips
    x, row = ((to[len(OUTER_LIPS) : len(LIPS)].mean(0) - mask.box[:2]) / 2).round().astype(int)
    np.testing.assert_allclose(half[row, x], (mean + LEAD * (leading - mean))[row, x], atol=0.01)


@pytest.mark.parametrize("windows", [[10], [10, 11], [10, 50, 60, 70, 80, 90, 100, 110]])
def test_a_texture_fills_its_box(talk_bank: Bank, windows: list[int]) -> None:
    y, half = _texture(talk_bank, 30, _joined(windows, [1 / len(windows)] * len(windows)))
    assert y.dtype == np.uint8
    assert half.dtype == np.float32
    assert half.shape == (y.shape[0] // 2, y.shape[1] // 2, 3)
    assert half.min() >= 0
    assert half.max() <= 255
