"""Raw sound comes in pieces of any size, at any rate, and is the same 16 kHz mono."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import pytest
import soxr

from lipwright.data.pcm import LOUDEST, Form, PcmReader


def pieces(data: bytes, seed: int) -> list[bytes]:
    """Cut bytes anywhere, also inside samples; some pieces are empty."""
    cuts = np.sort(np.random.default_rng(seed).integers(0, len(data), 50))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize("rate_hz", [8000, 16000, 44100, 48000])
def test_pieces_are_the_whole(babble: Callable[..., np.ndarray], rate_hz: int, form: Form, channels: int) -> None:
    sound = np.stack([babble(rate_hz / 16000, seed) for seed in range(channels)], 1)
    data = (sound if form is Form.f32le else np.round(32767 * sound)).astype(form.dtype).tobytes()
    reader = PcmReader(rate_hz, form, channels)
    heard = np.concatenate([*map(reader.push, pieces(data, channels)), reader.finish()])
    mono = sound.mean(1)
    expected = mono if rate_hz == 16000 else soxr.resample(mono, rate_hz, 16000)
    assert heard.dtype == np.float32
    np.testing.assert_allclose(heard, expected, atol=1e-4)


def test_what_is_no_number_is_silence_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    reader = PcmReader(48000, Form.f32le)
    sound = np.full(48000, 0.1, np.float32)
    sound[1000:1100:3], sound[2000], sound[3000] = np.nan, np.inf, 1e38
    with caplog.at_level(logging.WARNING):
        heard = np.concatenate([reader.push(sound.tobytes()), reader.push(sound.tobytes()), reader.finish()])
    assert np.isfinite(heard).all()
    assert np.abs(heard).max() < 2 * LOUDEST
    assert len(caplog.records) == 1
    assert "not numbers" in caplog.text
    np.testing.assert_allclose(heard[3000:15000], 0.1, atol=1e-3)


def test_a_torn_message_does_not_put_what_follows_out_of_step(caplog: pytest.LogCaptureFixture) -> None:
    sound = (1000 * np.ones(100)).astype("<i2").tobytes()
    reader = PcmReader()
    with caplog.at_level(logging.WARNING):
        heard = [reader.push_whole(data) for data in (sound, sound + b"\x7f", sound, b"\x7f", sound)]
    assert [len(part) for part in heard] == [100, 101, 100, 1, 100]
    assert heard[1][-1] == 0
    assert heard[3][0] == 0
    np.testing.assert_allclose(np.concatenate([heard[0], heard[2], heard[4]]), 1000 / 32768)
    assert len(caplog.records) == 1
    assert "201 bytes of sound came, not a multiple of 2" in caplog.text


@pytest.mark.parametrize(
    ("rate_hz", "channels", "words"),
    [(7999, 1, "rate is 7999"), (192001, 1, "192,000"), (16000, 0, "0 ch"), (16000, 9, "9 ch")],
)
def test_what_cannot_be_is_refused(rate_hz: int, channels: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PcmReader(rate_hz, channels=channels)
