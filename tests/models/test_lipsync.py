"""The model: stepped or whole it says the same, it hears no further ahead than it states, and its folder holds all of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lipwright.data.features import HOP, FeatureSettings, compute_features
from lipwright.models.errors import ModelError
from lipwright.models.lipsync import CONFIG, WEIGHTS, Config, LipSync

FEATURES = FeatureSettings()


def model(**changes: Any) -> LipSync:
    """An untrained model with weights, statistics and shapes of plausible size."""
    config = Config(
        features=FEATURES.to_dict(), feature_size=28, points=40, components=20, scale=0.2, hidden=24,
        corpus="/corpora/one", sources=[{"path": "/videos/a.mp4", "sha256": "ab" * 32, "speaker": "ann"}],
        training={"epochs": 3, "val_loss": 0.5},
    )  # fmt: skip
    torch.manual_seed(0)
    made = LipSync(replace(config, **changes)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in made.network.parameters():
            weight.mul_(2)  # so that what was heard long ago still matters
    made.feature_mean.normal_(0, 5, generator=generator)
    made.feature_std.uniform_(5, 20, generator=generator)
    made.silence.copy_(torch.from_numpy(compute_features(np.zeros(1600, np.float32))[5]))
    made.pca_mean.normal_(0, 0.3, generator=generator)
    basis = torch.randn(made.config.points * 3, made.config.components, generator=generator)
    made.pca_components.copy_(torch.linalg.qr(basis)[0].T)
    made.neutral.normal_(0, 0.3, generator=generator)
    return made


def features(steps: int = 250, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 12, (steps, 28)).astype(np.float32)


# Predicting -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 5, 18, 250])
@pytest.mark.parametrize("delay", [0, 18])
def test_a_mouth_for_every_step(steps: int, delay: int) -> None:
    shapes = model(delay_steps=delay).predict(features(steps))
    assert shapes.shape == (steps, 40, 3)
    assert shapes.dtype == np.float32
    assert np.isfinite(shapes).all()
    assert np.ptp(shapes, axis=0).max() > 0.01 or steps == 1


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("sizes", [[250], [1] * 250, [10] * 25, [17, 1, 232], [100, 3, 147]])
def test_stepping_in_any_chunks_equals_predicting(layers: int, sizes: list[int]) -> None:
    lipsync, x = model(layers=layers), features()
    silence = np.repeat(lipsync.silence.numpy()[None], 18, 0)
    state, parts = None, []
    for part in [*np.split(x, np.cumsum(sizes)[:-1]), silence]:
        shapes, state = lipsync.step(part, state)
        parts.append(shapes)
    np.testing.assert_allclose(np.concatenate(parts), lipsync.predict(x), atol=1e-5)


def test_steps_come_out_as_soon_as_they_may() -> None:
    lipsync, state, seen = model(), None, []
    for part in np.split(features(60), 12):
        shapes, state = lipsync.step(part, state)
        seen.append(len(shapes))
    assert seen == [0, 0, 0, 2, *[5] * 8]


def test_two_streams_do_not_share_a_state() -> None:
    lipsync = model()
    a, b = features(100, 1), features(100, 2)
    first_a, state_a = lipsync.step(a[:50])
    first_b, state_b = lipsync.step(b[:50])
    rest_a, _ = lipsync.step(a[50:], state_a)
    rest_b, _ = lipsync.step(b[50:], state_b)
    for x, got in ((a, [first_a, rest_a]), (b, [first_b, rest_b])):
        np.testing.assert_allclose(np.concatenate(got), lipsync.predict(x)[:82], atol=1e-5)


@pytest.mark.parametrize("delay", [0, 5, 18])
@pytest.mark.parametrize("changed_from", [1, 40, 100, 249])
def test_later_features_do_not_change_a_mouth(delay: int, changed_from: int) -> None:
    lipsync, x = model(delay_steps=delay), features()
    later = x.copy()
    later[changed_from:] += 20
    before, after = lipsync.predict(x), lipsync.predict(later)
    first = max(changed_from - delay, 0)
    np.testing.assert_allclose(after[:first], before[:first], atol=1e-6)
    assert np.abs(after[first] - before[first]).max() > 1e-4  # and it does hear that far


@pytest.mark.parametrize("t_ms", [300, 1000, 1500])
def test_later_sound_than_the_look_ahead_does_not_change_a_mouth(babble, t_ms: int) -> None:
    lipsync = model()
    samples = babble(2.5)
    other = samples.copy()
    first = (t_ms + int(lipsync.config.lookahead_ms or 0)) * 16
    other[first:] = 0.5 * np.random.default_rng(3).normal(0, 1, len(samples) - first)
    before, after = (lipsync.predict(compute_features(s, FEATURES, gain=1.0)) for s in (samples, other))
    step = t_ms // 10
    np.testing.assert_allclose(after[: step + 1], before[: step + 1], atol=1e-6)
    assert np.abs(after[step + 3 :] - before[step + 3 :]).max() > 1e-3
    assert HOP == 160


def test_the_past_is_remembered_and_the_very_distant_past_fades() -> None:
    lipsync, x = model(), features(400)
    other = x.copy()
    other[100:110] += 20
    change = np.abs(lipsync.predict(other) - lipsync.predict(x)).max((1, 2))
    assert change[95] > 1e-3
    assert change[390] < 0.1 * change[80:120].max()


def test_predicting_leaves_no_trace() -> None:
    lipsync, x = model(dropout=0.5), features()
    given = x.copy()
    weights = {name: t.clone() for name, t in lipsync.state_dict().items()}
    lipsync.train()
    first = lipsync.predict(x)
    np.testing.assert_array_equal(lipsync.predict(x), first)
    np.testing.assert_array_equal(x, given)
    assert all(torch.equal(t, weights[name]) for name, t in lipsync.state_dict().items())


def test_arrays_of_any_layout_are_taken() -> None:
    lipsync, x = model(), features()
    np.testing.assert_array_equal(lipsync.predict(np.asfortranarray(x)), lipsync.predict(x))
    np.testing.assert_allclose(lipsync.predict(x.astype(np.float64)), lipsync.predict(x), atol=1e-6)
    np.testing.assert_allclose(lipsync.predict(x[::2]), lipsync.predict(x[::2].copy()), atol=0)


@pytest.mark.parametrize("shape", [(0, 28), (28,), (10, 27), (1, 10, 28)])
def test_wrong_shapes_are_refused(shape: tuple[int, ...]) -> None:
    for call in (model().predict, model().step):
        with pytest.raises(ValueError, match=r"Expected features of shape \(T, 28\)"):
            call(np.zeros(shape, np.float32))


def test_a_model_that_hears_the_whole_clip_does_not_step() -> None:
    with pytest.raises(ModelError, match="cannot step"):
        model(lookahead_ms=None).step(features())


# Shapes and coefficients ----------------------------------------------------------------------------------------------


def test_coefficients_there_and_back() -> None:
    lipsync = model()
    coefficients = torch.randn(30, 20, generator=torch.Generator().manual_seed(2))
    shapes = lipsync.expand(coefficients)
    assert shapes.shape == (30, 40, 3)
    torch.testing.assert_close(lipsync.project(shapes), coefficients, rtol=0, atol=1e-5)
    torch.testing.assert_close(lipsync.expand(torch.zeros(20)).flatten(), lipsync.pca_mean)


def test_projecting_is_the_nearest_that_the_components_can_say() -> None:
    lipsync = model()
    shapes = torch.randn(10, 40, 3, generator=torch.Generator().manual_seed(3))
    rest = (shapes - lipsync.expand(lipsync.project(shapes))).flatten(-2)
    torch.testing.assert_close(rest @ lipsync.pca_components.T, torch.zeros(10, 20), rtol=0, atol=1e-4)


def test_standardised_features_have_mean_0_and_deviation_1() -> None:
    lipsync, x = model(), torch.from_numpy(features(500))
    lipsync.feature_mean.copy_(x.mean(0))
    lipsync.feature_std.copy_(x.std(0))
    standard = lipsync.standardise(x)
    torch.testing.assert_close(standard.mean(0), torch.zeros(28), rtol=0, atol=1e-4)
    torch.testing.assert_close(standard.std(0), torch.ones(28), rtol=0, atol=1e-4)


# The folder -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"layers": 2, "hidden": 7, "dropout": 0.3}, {"lookahead_ms": None, "components": 3}])
def test_save_then_load_is_bit_equal(tmp_path: Path, changes: dict[str, Any]) -> None:
    given = model(**changes)
    given.save(tmp_path / "deep" / "run")
    back = LipSync.load(tmp_path / "deep" / "run")
    assert back.config == given.config
    assert back.state_dict().keys() == given.state_dict().keys()
    for name, values in given.state_dict().items():
        assert torch.equal(back.state_dict()[name], values), name
    np.testing.assert_array_equal(back.predict(features()), given.predict(features()))
    assert not back.training


def test_the_folder_holds_two_files_and_no_pickle(tmp_path: Path) -> None:
    model().save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [CONFIG, WEIGHTS]
    head = json.loads((tmp_path / CONFIG).read_text())
    assert (head["format"], head["version"]) == ("lipwright-model", 1)
    assert head["features"] == FEATURES.to_dict()
    assert head["sources"][0]["sha256"] == "ab" * 32
    assert {"direction", "lookahead_ms"} <= head.keys()


def test_saving_again_replaces(tmp_path: Path) -> None:
    model().save(tmp_path)
    other = model(hidden=9)
    other.save(tmp_path)
    np.testing.assert_array_equal(LipSync.load(tmp_path).predict(features()), other.predict(features()))
    assert len(list(tmp_path.iterdir())) == 2


def test_whoever_reads_a_file_reads_it_whole(tmp_path: Path) -> None:
    model().save(tmp_path)
    names = (CONFIG, WEIGHTS)
    before = [(tmp_path / name).read_bytes() for name in names]
    readers = [(tmp_path / name).open("rb") for name in names]
    model(hidden=9).save(tmp_path)
    assert [reader.read() for reader in readers] == before
    for reader in readers:
        reader.close()


def test_a_failed_save_leaves_the_older_model(tmp_path: Path) -> None:
    given = model()
    given.save(tmp_path)
    broken = model(training={"settings": object()})
    with pytest.raises(TypeError):
        broken.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [CONFIG, WEIGHTS]
    assert LipSync.load(tmp_path).config == given.config


def _head(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / CONFIG).write_text(json.dumps(change(json.loads((folder / CONFIG).read_text()))))

    return apply


def _set(**fields: Any) -> Callable[[Path], None]:
    return _head(lambda head: head | fields)


def _without(name: str) -> Callable[[Path], None]:
    return _head(lambda head: {k: v for k, v in head.items() if k != name})


def _bytes(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return apply


def _weights(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        save_file(change({k: v.clone() for k, v in load_file(folder / WEIGHTS).items()}), folder / WEIGHTS)

    return apply


BROKEN: dict[str, Callable[[Path], None]] = {
    "no config": lambda folder: (folder / CONFIG).unlink(),
    "no weights": lambda folder: (folder / WEIGHTS).unlink(),
    "neither": lambda folder: [(folder / name).unlink() for name in (CONFIG, WEIGHTS)] and None,
    "empty config": _bytes(CONFIG, lambda content: b""),
    "config cut off": _bytes(CONFIG, lambda content: content[: len(content) // 2]),
    "config of bytes": _bytes(CONFIG, lambda content: b"\xff\xfe\x00\x01"),
    "config is a list": _head(lambda head: [head]),
    "config is text": _head(lambda head: "model"),
    "config is null": _head(lambda head: None),
    "another format": _set(format="lipwright-corpus"),
    "no format": _without("format"),
    "another version": _set(version=99),
    "no version": _without("version"),
    "an unknown setting": _set(temperature=0.7),
    "no feature size": _without("feature_size"),
    "hidden in words": _set(hidden="sixty"),
    "hidden is null": _set(hidden=None),
    "hidden is negative": _set(hidden=-60),
    "no layers": _set(layers=0),
    "dropout too large": _set(dropout=1.5),
    "delay in words": _set(delay_steps="18"),
    "delay is negative": _set(delay_steps=-1),
    "scale is null": _set(scale=None),
    "scale is zero": _set(scale=0.0),
    "features are text": _set(features="mfcc"),
    "other hidden than the weights": _set(hidden=25),
    "other components than the weights": _set(components=19),
    "other points than the weights": _set(points=39),
    "more layers than the weights": _set(layers=2),
    "empty weights": _bytes(WEIGHTS, lambda content: b""),
    "weights cut off": _bytes(WEIGHTS, lambda content: content[:-1000]),
    "weights cut off in their head": _bytes(WEIGHTS, lambda content: content[:100]),
    "weights of text": _bytes(WEIGHTS, lambda content: b"not weights at all"),
    "weights without statistics": _weights(lambda w: {k: v for k, v in w.items() if k != "feature_mean"}),
    "weights with more": _weights(lambda w: w | {"attention": torch.zeros(3)}),
    "weights that are not numbers": _weights(lambda w: w | {"network.read_out.bias": torch.full((20,), torch.nan)}),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_folder_is_named(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "run"
    model().save(folder)
    LipSync.load(folder)
    BROKEN[what](folder)
    with pytest.raises(ModelError) as caught:
        LipSync.load(folder)
    assert str(folder) in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


@pytest.mark.parametrize("kind", ["missing", "a file", "an empty folder"])
def test_what_is_no_model_is_named(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "run"
    if kind == "a file":
        folder.touch()
    elif kind == "an empty folder":
        folder.mkdir()
    with pytest.raises(ModelError, match="run"):
        LipSync.load(folder)
