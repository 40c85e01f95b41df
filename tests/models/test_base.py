"""The model that is shipped: small, whole, at rest in silence, and right about lips; and plausible whatever it hears."""

from __future__ import annotations

import numpy as np
import pytest

from lipwright.data.articulation import CLASSES, articulate
from lipwright.data.audio import SAMPLE_RATE_HZ
from lipwright.data.augment import noise
from lipwright.data.features import STEP_HZ, FeatureSettings, compute_features
from lipwright.data.mouth import aperture, width
from lipwright.data.speech import Speech, synthesize
from lipwright.models.baselines import Ridge
from lipwright.models.lipsync import BASE, LipSync
from lipwright.models.metrics import CLOSED_SHARE, pearson

MOST_BYTES = 500_000

TEXTS = {
    "gmw/en-US+m3": "Perhaps my father will move the big piano before the broadcast, but five people must help him.",
    "gmw/en-GB-x-rp+f2": "Maybe the weather above the bay improves; we would love to walk home by the water.",
    "fr+f4": "Le bateau part demain matin pour une petite île où personne n'habite plus depuis longtemps.",
    "de+m5": "Am Montag backt die Bäckerin braune Brote, und am Abend kommen viele Freunde vorbei.",
}


@pytest.fixture(scope="module")
def base() -> LipSync:
    return LipSync.load(BASE)


def heard(speech: Speech) -> np.ndarray:
    import soxr

    return soxr.resample(speech.samples, speech.rate_hz, SAMPLE_RATE_HZ)


def mouth(base: LipSync, samples: np.ndarray) -> np.ndarray:
    """The mouth on the base model's own neutral, (T, 40, 3)."""
    neutral = base.neutral.numpy()
    return neutral + base.config.scale * base.predict(compute_features(samples))


def opening(base: LipSync, samples: np.ndarray) -> np.ndarray:
    """How far it opens, in speakers' ranges."""
    return (aperture(mouth(base, samples)) - aperture(base.neutral.numpy())) / base.config.scale


def require_plausible(base: LipSync, samples: np.ndarray) -> np.ndarray:
    opened = opening(base, samples)
    assert np.isfinite(opened).all()
    assert opened.min() > -0.1
    assert opened.max() < 1.8  # the rule's "ah"
    assert np.abs(np.diff(opened)).max() * STEP_HZ < 45  # as fast as the rule parts the lips for it
    spread = width(mouth(base, samples)) / width(base.neutral.numpy())
    assert 0.7 < spread.min() < spread.max() < 1.3
    return opened


def test_it_is_small_and_comes_with_its_card() -> None:
    files = {path.name for path in BASE.iterdir()}
    assert files == {"README.md", "config.json", "model.safetensors", "ridge.safetensors"}
    assert sum(path.stat().st_size for path in BASE.iterdir()) < MOST_BYTES
    card = (BASE / "README.md").read_text()
    for word in ("eSpeak NG", "flite", "babel", "consent", "scripts/make_base.py"):
        assert word in card


def test_it_is_what_this_lipwright_can_use(base: LipSync) -> None:
    config = base.config
    assert config.features == FeatureSettings().to_dict()
    assert (config.phones, config.points, config.sources, config.corpora) == (len(CLASSES), 40, [], [])
    assert config.lookahead_ms is not None  # so that it can stream
    assert Ridge.load(BASE).weights.shape[1] == config.components


@pytest.mark.parametrize("voice", TEXTS)
def test_it_has_learned_the_rule(base: LipSync, voice: str) -> None:
    speech = synthesize(TEXTS[voice], voice=voice)
    opened = require_plausible(base, heard(speech))
    ruled = articulate(speech.phones, np.arange(len(opened)) / STEP_HZ)[:, 0]
    r = pearson(opened, ruled)
    assert r is not None
    assert r > 0.7


def test_lips_meet_where_they_must(base: LipSync) -> None:
    speech = synthesize("Bob may pop a big brown bubble, maybe tomorrow; mum bakes a plum pie.", rate_wpm=140)
    opened = opening(base, heard(speech))
    ruled = articulate(speech.phones, np.arange(len(opened)) / STEP_HZ)[:, 0]
    middles = [0.5 * (p.start_s + p.end_s) for p in speech.phones if p.name in "pbm" and p.start_s > 0.2]
    assert len(middles) > 15
    # About each, where the rule shuts the lips, the network must nearly shut them too.
    near = [slice(max(round(m * STEP_HZ) - 12, 0), round(m * STEP_HZ) + 8) for m in middles]
    assert all(ruled[cut].min() < 0.01 for cut in near)
    assert np.mean([opened[cut].min() < CLOSED_SHARE for cut in near]) > 0.7


@pytest.mark.parametrize("level_db", [None, -60, -40, -20])
@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_it_rests_where_nobody_speaks(base: LipSync, level_db: float | None, slope: float) -> None:
    samples = np.zeros(6 * SAMPLE_RATE_HZ, np.float32)
    if level_db is not None:
        samples = np.float32(10 ** (level_db / 20)) * noise(len(samples), slope, np.random.default_rng(0))
    opened = opening(base, samples)
    assert np.mean(opened < CLOSED_SHARE) > 0.95


def test_a_telephone_does_not_confuse_it(base: LipSync) -> None:
    from scipy.signal import butter, sosfiltfilt

    clean = heard(synthesize(TEXTS["gmw/en-US+m3"], voice="gmw/en-US+m3"))
    line = butter(4, (300, 3400), "bandpass", fs=SAMPLE_RATE_HZ, output="sos")
    r = pearson(require_plausible(base, sosfiltfilt(line, clean).astype(np.float32)), opening(base, clean))
    assert r is not None
    assert r > 0.6


def test_two_voices_at_once_give_one_plausible_mouth(base: LipSync) -> None:
    one, other = (heard(synthesize(TEXTS[voice], voice=voice)) for voice in ("gmw/en-US+m3", "gmw/en-GB-x-rp+f2"))
    length = min(len(one), len(other))
    require_plausible(base, one[:length] + other[:length])


def test_music_gives_a_plausible_mouth(base: LipSync) -> None:
    rng, times_s = np.random.default_rng(2), np.arange(8 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    music = np.zeros(len(times_s))
    for start_s in np.arange(0, 8, 0.25):
        since_s = np.maximum(times_s - start_s, 0)
        for hertz in 110 * 2 ** (rng.integers(0, 36, 3) / 12):
            tone = sum(np.sin(2 * np.pi * k * hertz * since_s) / k for k in range(1, 6))
            music += tone * np.exp(-4 * since_s) * (times_s >= start_s)
    require_plausible(base, (0.3 * music / np.abs(music).max()).astype(np.float32))
