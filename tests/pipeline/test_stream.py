"""A live mouth is the offline one, as soon as enough has been heard for it, for as long as somebody speaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lipwright.data.audio import SAMPLE_RATE_HZ
from lipwright.data.features import gain_for
from lipwright.data.mouth import MouthTrack, Speaker
from lipwright.models.errors import ModelError
from lipwright.models.lipsync import LipSync
from lipwright.models.recurrent import CELLS
from lipwright.pipeline.blendshapes import TOLD, TOLD_NAMES, predict_shapes, shapes_of_mouth
from lipwright.pipeline.live_gain import SPEECH_S
from lipwright.pipeline.predict import base_model, feature_settings, load_model, predict_mouth
from lipwright.pipeline.stream import LiveMouth, LiveSteps
from lipwright.pipeline.visemes import HOLD_S, LATER_S, OCULUS, RHUBARB, tell_sounds

GAIN_DB = 3.0


@pytest.fixture(scope="module")
def trained(toy_run: Path) -> LipSync:
    return load_model(toy_run)


def built(lipsync: LipSync, **changes: Any) -> LipSync:
    """Return a model of another kind that knows what silence is and what mouths are."""
    torch.manual_seed(0)
    made = LipSync(replace(lipsync.config, lead_steps=0, **changes)).eval()
    made.load_state_dict(made.state_dict() | {k: v for k, v in lipsync.state_dict().items() if not k.startswith("network")})
    return made


def live(mouth: LiveMouth, samples: np.ndarray, size: int | None = None, seed: int = 0) -> list[LiveSteps]:
    """Push samples in pieces of a size, or of any; also none. Return what came of each, and of the end."""
    rng, said, start = np.random.default_rng(seed), [], 0
    while start < len(samples):
        end = start + (int(rng.integers(0, 3000)) if size is None else size)
        said.append(mouth.push(samples[start:end]))
        start = end
    return [*said, mouth.finish()]


def joined(said: list[LiveSteps], name: str) -> np.ndarray:
    return np.concatenate([getattr(steps, name) for steps in said])


# The offline mouth ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [7, 160, 441, 16000, None])
def test_pieces_of_any_size_are_the_offline_mouth(babble: Callable[..., np.ndarray], size: int | None) -> None:
    samples = babble(1.0 if size == 7 else 4.0)
    mouth = LiveMouth(gain_db=GAIN_DB)
    said = live(mouth, samples, size)
    offline = predict_mouth(base_model(), samples, mouth.speaker, gain=mouth.gain.factor).xyz[:]
    np.testing.assert_allclose(joined(said, "xyz"), offline, atol=1e-5)
    np.testing.assert_allclose(joined(said, "times_s"), np.arange(len(offline)) / 100, atol=1e-9)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    "changes",
    [
        {"direction": "forward", "delay_steps": 18},
        {"direction": "forward", "delay_steps": 0, "lookahead_ms": 12.5},
        {"direction": "both", "delay_steps": 38, "lookahead_ms": 400.0},
        {"direction": "both", "delay_steps": 5, "lookahead_ms": 65.0},
    ],
    ids=lambda changes: f"{changes['direction']}-{changes['delay_steps']}",
)
def test_every_network_with_a_look_ahead_streams(
    trained: LipSync, babble: Callable[..., np.ndarray], cell: str, changes: dict[str, Any]
) -> None:
    model, samples = built(trained, cell=cell, **changes), babble(1.5)
    mouth = LiveMouth(model, gain_db=GAIN_DB, blendshapes=True)
    said = live(mouth, samples)
    offline = predict_mouth(model, samples, mouth.speaker, gain=mouth.gain.factor)
    np.testing.assert_allclose(joined(said, "xyz"), offline.xyz[:], atol=1e-5)
    assert joined(said, "blendshapes")[:, TOLD].any()
    assert not joined(said, "blendshapes")[:, ~TOLD].any()


@pytest.mark.parametrize("size", [80, 160, 320])
@pytest.mark.parametrize("visemes", [None, RHUBARB])
def test_the_mouth_is_as_late_as_it_says(babble: Callable[..., np.ndarray], visemes: Any, size: int) -> None:
    """In pieces of up to 20 ms: the network's look-ahead, and at most 20 ms more."""
    mouth = LiveMouth(visemes=visemes)
    assert mouth.lookahead_s == pytest.approx(0.4 + (LATER_S if visemes else 0))
    samples, late_s = babble(2.0), []
    for start in range(0, len(samples), size):
        steps = mouth.push(samples[start : start + size])
        late_s += list((start + size) / SAMPLE_RATE_HZ - steps.times_s)
    assert mouth.lookahead_s - 0.01 <= min(late_s)
    assert max(late_s) <= 0.42 + 1e-9


def test_a_model_that_hears_the_whole_clip_is_refused(trained: LipSync, tmp_path: Path) -> None:
    whole = built(trained, direction="both", lookahead_ms=None, delay_steps=0)
    whole.save(tmp_path / "whole")
    for model in (whole, tmp_path / "whole"):
        with pytest.raises(ModelError, match=r"hears the whole clip.*train one with --direction both or forward"):
            LiveMouth(model)


def test_somebody_elses_mouth(babble: Callable[..., np.ndarray], resting: np.ndarray) -> None:
    """The movement is brought to their lips and range; who does not speak gets the model's own."""
    for scale in (0.3, None):
        mouth = LiveMouth(gain_db=GAIN_DB, speaker=Speaker(resting, scale))
        said = joined(live(mouth, babble(1.0)), "xyz")
        offline = predict_mouth(base_model(), babble(1.0), Speaker(resting, scale), gain=mouth.gain.factor)
        np.testing.assert_allclose(said, offline.xyz[:], atol=1e-5)
        assert mouth.speaker.scale == (scale or base_model().config.scale)


# Blendshapes and visemes ----------------------------------------------------------------------------------------------


def test_blendshapes_are_the_offline_ones(trained: LipSync, babble: Callable[..., np.ndarray]) -> None:
    """The model's own where it says some, else those of the mouth's outline: as `export` writes them."""
    samples = babble(2.0)
    gain_db = 20 * np.log10(gain_for(samples, feature_settings(trained)))
    for model in (trained, base_model()):
        mouth = LiveMouth(model, gain_db=gain_db, blendshapes=True)
        said = live(mouth, samples)
        track = MouthTrack(joined(said, "xyz"), np.ones(201, bool), mouth.speaker)
        expected = predict_shapes(model, samples, track) if model.config.blendshapes else shapes_of_mouth(track)
        np.testing.assert_allclose(joined(said, "blendshapes"), expected, atol=1e-4)


def test_visemes_are_held_and_nearly_the_offline_ones(say: Callable[[str], Any]) -> None:
    import soxr

    speech = say("My mother may buy five big blue boats, and Bob will pop up above the open bay by half past one.")
    samples = soxr.resample(speech.samples, speech.rate_hz, SAMPLE_RATE_HZ)
    gain_db = 20 * np.log10(gain_for(samples, feature_settings(base_model())))
    steps = 1 + len(samples) // 160
    for viseme_set, least in ((RHUBARB, 0.8), (OCULUS, 0.7)):
        names = [v for s in live(LiveMouth(gain_db=gain_db, visemes=viseme_set), samples) for v in s.visemes or ()]
        again = [v for s in live(LiveMouth(gain_db=gain_db, visemes=viseme_set), samples, 320) for v in s.visemes or ()]
        assert names == again
        shown = np.array(names)
        offline = np.array(viseme_set.names)[viseme_set.choose(tell_sounds(samples, steps), round(100 * HOLD_S))]
        assert len(shown) == steps
        assert np.mean(shown == offline) > least
        changes = np.flatnonzero(shown[1:] != shown[:-1]) + 1
        assert np.diff([0, *changes, steps]).min() >= round(100 * HOLD_S)
        assert viseme_set.closed in names


def test_a_model_that_tells_no_sounds_has_the_base_model_beside_it(trained: LipSync, babble: Callable[..., np.ndarray]) -> None:
    """Its mouth is its own, the visemes are the base model's, and either waits for the other."""
    samples = babble(2.0)
    fast = built(trained, direction="forward", delay_steps=5, lookahead_ms=65.0)
    for model, late_s in ((fast, 0.4 + LATER_S), (built(trained, delay_steps=58, lookahead_ms=600.0), 0.6)):
        mouth = LiveMouth(model, gain_db=GAIN_DB, visemes=RHUBARB)
        assert mouth.lookahead_s == pytest.approx(late_s)
        said = live(mouth, samples)
        np.testing.assert_allclose(
            joined(said, "xyz"), joined(live(LiveMouth(model, gain_db=GAIN_DB), samples), "xyz"), atol=1e-5
        )
        base = live(LiveMouth(gain_db=GAIN_DB, visemes=RHUBARB), samples)
        assert [v for s in said for v in s.visemes or ()] == [v for s in base for v in s.visemes or ()]


def test_rows_are_what_is_sent(babble: Callable[..., np.ndarray]) -> None:
    mouth = LiveMouth(blendshapes=True, visemes=RHUBARB)
    said = mouth.push(babble(1.0))
    rows = said.rows(mouth.speaker, points=True)
    assert len(rows) == len(said.times_s) > 50
    assert [*rows[7]] == ["t", "aperture", "openness", "width", "protrusion", "viseme", "points", "blendshapes"]
    assert rows[7]["t"] == 0.07
    assert rows[7]["viseme"] in RHUBARB.names
    assert tuple(rows[7]["blendshapes"]) == TOLD_NAMES
    np.testing.assert_allclose([row["points"] for row in rows], said.xyz, atol=1e-5)
    np.testing.assert_allclose([row["aperture"] for row in rows], said.aperture, atol=1e-5)
    assert [*mouth.finish().rows(mouth.speaker)[0]] == [*[*rows[7]][:6], "blendshapes"]


# Gain -----------------------------------------------------------------------------------------------------------------


def test_the_gain_is_found_in_two_seconds_of_speech_and_stays(babble: Callable[..., np.ndarray]) -> None:
    samples, mouth = babble(12.0, level=0.01), LiveMouth()
    known, heard_s = [], []
    for start in range(0, len(samples), 800):
        mouth.push(samples[start : start + 800])
        known.append(mouth.gain.is_known)
        heard_s.append(mouth.gain.gain_db)
    first = known.index(True)
    assert SPEECH_S <= 0.05 * (first + 1) < 2 * SPEECH_S
    assert len(set(heard_s[first:])) == 1
    offline_db = 20 * np.log10(gain_for(samples, feature_settings(base_model())))
    assert mouth.gain.gain_db == pytest.approx(offline_db, abs=2.5)


def test_a_given_gain_stays(babble: Callable[..., np.ndarray]) -> None:
    mouth = LiveMouth(gain_db=-4.0)
    mouth.push(babble(5.0))
    assert mouth.gain.gain_db == -4.0


def test_silence_makes_no_gain_and_moves_nothing() -> None:
    mouth = LiveMouth()
    said = live(mouth, np.zeros(10 * SAMPLE_RATE_HZ, np.float32), 1600)
    assert mouth.gain.gain_db == 0
    assert not mouth.gain.is_known
    assert np.ptp(joined(said, "aperture")[300:900]) < 0.01


# What may go wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_what_is_no_number_is_forgotten(babble: Callable[..., np.ndarray], bad: float) -> None:
    samples = babble(4.0)
    broken = samples.copy()
    broken[16000:16100] = bad
    clean, said = (joined(live(LiveMouth(gain_db=GAIN_DB), each), "xyz") for each in (samples, broken))
    assert np.isfinite(said).all()
    np.testing.assert_allclose(said[350:], clean[350:], atol=0.02)


def test_nothing_and_too_little() -> None:
    mouth = LiveMouth(visemes=RHUBARB, blendshapes=True)
    assert len(mouth.push(np.zeros(0, np.float32)).times_s) == 0
    assert mouth.push(np.zeros(0, np.float32)).visemes == ()
    assert len(mouth.finish().times_s) == 0
    short = LiveMouth(visemes=RHUBARB)
    short.push(np.zeros(3, np.float32))
    assert short.finish().visemes == ("X",)


def test_the_end_is_the_end(babble: Callable[..., np.ndarray]) -> None:
    mouth = LiveMouth(visemes=RHUBARB)
    mouth.push(babble(1.0))
    assert len(mouth.finish().times_s)
    assert len(mouth.finish().times_s) == 0
    with pytest.raises(ValueError, match="has ended"):
        mouth.push(babble(1.0))


def test_two_channels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"mono samples of shape \(N,\)"):
        LiveMouth().push(np.zeros((2, 160), np.float32))


def test_two_mouths_do_not_hear_each_other(babble: Callable[..., np.ndarray]) -> None:
    sounds = [babble(2.0, seed) for seed in (1, 2)]
    alone = [joined(live(LiveMouth(gain_db=GAIN_DB), sound, 800), "xyz") for sound in sounds]
    mouths = [LiveMouth(base_model(), gain_db=GAIN_DB) for _ in sounds]
    said: list[list[np.ndarray]] = [[], []]
    for start in range(0, 32000, 800):
        for k in range(2):
            said[k].append(mouths[k].push(sounds[k][start : start + 800]).xyz)
    for k in range(2):
        np.testing.assert_array_equal(np.concatenate([*said[k], mouths[k].finish().xyz]), alone[k])


def resident_mb() -> float:
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("this system does not say how much memory is in use now")
    return next(int(line.split()[1]) / 1000 for line in status.read_text().splitlines() if line.startswith("VmRSS"))


def test_memory_stays_the_same(babble: Callable[..., np.ndarray]) -> None:
    """Two minutes of it; an hour by hand (`docs/streaming.md`)."""
    mouth, samples, sizes_mb = LiveMouth(visemes=RHUBARB, blendshapes=True), babble(10.0), []
    for _ in range(12):
        for start in range(0, len(samples), 1600):
            mouth.push(samples[start : start + 1600])
        sizes_mb.append(resident_mb())
    assert sizes_mb[-1] - sizes_mb[2] < 8, sizes_mb
