"""The model: stepped or whole it says the same, it hears no further ahead than it states, and its folder holds all of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lipwright.data.features import HOP, FeatureSettings, compute_features
from lipwright.models import lipsync as module
from lipwright.models.errors import ModelError
from lipwright.models.lipsync import CONFIG, SILENT_STEPS, VERSION, WEIGHTS, Config, LipSync
from lipwright.models.recurrent import CELLS, block

FEATURES = FeatureSettings()

WHOLE: dict[str, Any] = {"direction": "both", "lookahead_ms": None, "delay_steps": 0}
BOUNDED: dict[str, Any] = {"direction": "both"}
cells = pytest.mark.parametrize("cell", CELLS)
directions = pytest.mark.parametrize("direction", ["forward", "both"])


def model(**changes: Any) -> LipSync:
    """An untrained model with weights, statistics and shapes of plausible size."""
    config = Config(
        features=FEATURES.to_dict(), feature_size=28, points=40, components=20, scale=0.2, hidden=24,
        corpora=["/corpora/one", "/corpora/two"], sources=[{"path": "/videos/a.mp4", "sha256": "ab" * 32, "speaker": "ann"}],
        training={"epochs": 3, "val_loss": 0.5},
    )  # fmt: skip
    torch.manual_seed(0)
    made = LipSync(replace(config, **changes)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in made.network.named_parameters():
            if made.config.cell != "rnn-relu" or "cells" not in name:
                weight.mul_(2)  # so that what was heard long ago still matters
            elif "weight" in name:
                weight.mul_(0.8 if "weight_hh" in name else 60.0)  # and where nothing squashes, does not run away
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


def network_says(lipsync: LipSync, x: np.ndarray) -> np.ndarray:
    """Return the shapes (T, 40, 3) of these features alone, without any silence."""
    with torch.no_grad():
        return lipsync.expand(lipsync.network(lipsync.standardise(torch.from_numpy(x))[None])[0].mean(0)[0]).numpy()


def test_sounds_are_told_step_by_step_or_not_at_all() -> None:
    teller = model(phones=6, blendshapes=3, members=2, **BOUNDED)
    told = teller.predict_sounds(features(70))
    assert told.shape == (70, 6)
    np.testing.assert_allclose(told.sum(1), 1, atol=1e-5)
    outputs = teller.network.members[0].read_out
    with torch.no_grad():
        for member in teller.network.members:
            member.read_out.bias[-2] += 100
    assert outputs.out_features == 20 + 3 + 6
    assert (teller.predict_sounds(features(70)).argmax(1) == 4).all()
    with pytest.raises(ModelError, match="tells no sounds apart"):
        model().predict_sounds(features(5))


# Predicting -----------------------------------------------------------------------------------------------------------


@cells
@pytest.mark.parametrize("steps", [1, 5, 18, 80])
@pytest.mark.parametrize("changes", [{}, {"delay_steps": 0}, BOUNDED, BOUNDED | {"delay_steps": 0}, WHOLE], ids=str)
def test_a_mouth_for_every_step(cell: str, steps: int, changes: dict[str, Any]) -> None:
    shapes = model(cell=cell, **changes).predict(features(steps))
    assert shapes.shape == (steps, 40, 3)
    assert shapes.dtype == np.float32
    assert np.isfinite(shapes).all()
    assert np.ptp(shapes, axis=0).max() > 0.01 or steps <= 18  # in the silence after a short clip the mouth may rest


SIZES = {"whole": [70], "steps": [1] * 70, "tens": [10] * 7, "few": [17, 1, 52], "any": [30, 3, 37]}


@cells
@directions
@pytest.mark.parametrize("delay", [0, 18])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("sizes", SIZES)
def test_stepping_in_any_chunks_equals_predicting(cell: str, direction: str, delay: int, layers: int, sizes: str) -> None:
    lipsync = model(cell=cell, direction=direction, delay_steps=delay, layers=layers, layer_norm=layers > 1)
    x, cuts = features(70), np.cumsum(SIZES[sizes])[:-1]
    silence = [np.repeat(lipsync.silence.numpy()[None], delay, 0)] if delay else []
    state, parts = None, []
    for part in [*np.split(x, cuts), *silence]:
        said, state = lipsync.step(part, state)
        parts.append(said.shapes)
    np.testing.assert_allclose(np.concatenate(parts), lipsync.predict(x), atol=1e-5)


@directions
def test_a_step_says_all_that_the_model_says(direction: str) -> None:
    lipsync, x, state, parts = model(direction=direction, phones=6, blendshapes=3, members=2), features(70), None, []
    for part in [*np.split(x, [30, 33]), np.repeat(lipsync.silence.numpy()[None], 18, 0)]:
        said, state = lipsync.step(part, state)
        parts.append(said)
    np.testing.assert_allclose(np.concatenate([said.shapes for said in parts]), lipsync.predict(x), atol=1e-5)
    blendshapes = np.concatenate([said.blendshapes for said in parts])
    np.testing.assert_allclose(blendshapes, lipsync.predict_blendshapes(x), atol=1e-5)
    np.testing.assert_allclose(np.concatenate([said.sounds for said in parts]), lipsync.predict_sounds(x), atol=1e-5)
    mouth_alone, _ = model(direction=direction, delay_steps=0).step(x)
    assert (mouth_alone.blendshapes.shape, mouth_alone.sounds.shape) == ((70, 0), (70, 0))


@directions
def test_steps_come_out_as_soon_as_they_may(direction: str) -> None:
    lipsync, state, seen = model(direction=direction), None, []
    for part in np.split(features(60), 12):
        said, state = lipsync.step(part, state)
        seen.append(len(said.shapes))
    assert seen == [0, 0, 0, 2, *[5] * 8]


@directions
def test_two_streams_do_not_share_a_state(direction: str) -> None:
    lipsync = model(direction=direction)
    a, b = features(100, 1), features(100, 2)
    first_a, state_a = lipsync.step(a[:50])
    first_b, state_b = lipsync.step(b[:50])
    rest_a, _ = lipsync.step(a[50:], state_a)
    rest_b, _ = lipsync.step(b[50:], state_b)
    for x, got in ((a, [first_a, rest_a]), (b, [first_b, rest_b])):
        np.testing.assert_allclose(np.concatenate([said.shapes for said in got]), lipsync.predict(x)[:82], atol=1e-5)


@cells
@directions
@pytest.mark.parametrize("delay", [0, 5, 18])
@pytest.mark.parametrize("changed_from", [1, 40, 249])
def test_later_features_do_not_change_a_mouth(cell: str, direction: str, delay: int, changed_from: int) -> None:
    lipsync, x = model(cell=cell, direction=direction, delay_steps=delay), features()
    later = x.copy()
    later[changed_from:] += 20
    before, after = lipsync.predict(x), lipsync.predict(later)
    first = max(changed_from - delay, 0)
    np.testing.assert_allclose(after[:first], before[:first], atol=1e-6)
    heard = slice(first, first + (block(delay) if direction == "both" else 1))
    assert np.abs(after[heard] - before[heard]).max() > 1e-5  # and it does hear that far


@directions
@pytest.mark.parametrize("t_ms", [300, 1000, 1500])
def test_later_sound_than_the_look_ahead_does_not_change_a_mouth(
    babble: Callable[..., np.ndarray], direction: str, t_ms: int
) -> None:
    lipsync = model(direction=direction)
    samples = babble(2.5)
    other = samples.copy()
    first = (t_ms + int(lipsync.config.lookahead_ms or 0)) * 16
    other[first:] = 0.5 * np.random.default_rng(3).normal(0, 1, len(samples) - first)
    before, after = (lipsync.predict(compute_features(s, FEATURES, gain=1.0)) for s in (samples, other))
    step = t_ms // 10
    np.testing.assert_allclose(after[: step + 1], before[: step + 1], atol=1e-6)
    assert np.abs(after[step + 3 :] - before[step + 3 :]).max() > 1e-3
    assert HOP == 160


@cells
def test_who_hears_the_whole_clip_hears_all_of_it_at_once(cell: str) -> None:
    lipsync, x = model(cell=cell, **WHOLE), features(30)
    before = lipsync.predict(x)
    for moved in (0, 15, 29):
        other = x.copy()
        other[moved] += 20
        assert (np.abs(lipsync.predict(other) - before).max((1, 2)) > 0).all()
    silence = np.repeat(lipsync.silence.numpy()[None], SILENT_STEPS, 0)
    np.testing.assert_allclose(before, network_says(lipsync, np.concatenate([silence, x, silence]))[50:80], atol=1e-6)


@cells
@pytest.mark.parametrize("delay", [0, 5, 18])
def test_a_mouth_is_what_the_whole_clip_would_say_if_it_ended_so_far_ahead(cell: str, delay: int) -> None:
    bounded, whole = model(cell=cell, delay_steps=delay, **BOUNDED), model(cell=cell, **WHOLE)
    whole.load_state_dict(bounded.state_dict())
    x = features(40)
    said, heard = bounded.predict(x), np.concatenate([np.repeat(bounded.silence.numpy()[None], SILENT_STEPS, 0), x])
    for t in range(0, 40 - delay, 3):
        step = SILENT_STEPS + t
        ended = network_says(whole, heard[: step - step % block(delay) + delay + 1])
        np.testing.assert_allclose(said[t], ended[SILENT_STEPS + t], atol=1e-5)


@cells
@pytest.mark.parametrize("lead", [-10, -1, 7])
@pytest.mark.parametrize("ahead", [{"delay_steps": 18}, {"lookahead_ms": None, "delay_steps": 0}], ids=["bounded", "whole"])
def test_a_mouth_that_leads_is_what_the_network_says_for_later(cell: str, lead: int, ahead: dict[str, Any]) -> None:
    x = features(60)
    leading = model(cell=cell, direction="both", lead_steps=lead, **ahead)
    # As far ahead of the time that the network speaks for, it hears as much less as the mouth leads by.
    delay = max(ahead["delay_steps"] - lead, 0) if ahead["delay_steps"] else 0
    said = model(cell=cell, direction="both", **ahead | {"delay_steps": delay}).predict(x)
    now = np.arange(max(-lead, 0), 60 - max(lead, 0))
    np.testing.assert_allclose(leading.predict(x)[now], said[now + lead], atol=1e-5)


@pytest.mark.parametrize("lead", [-10, 7, 18])
@pytest.mark.parametrize("changed_from", [40, 249])
def test_a_lead_changes_nothing_in_how_far_ahead_is_heard(lead: int, changed_from: int) -> None:
    lipsync, x = model(direction="both", lead_steps=lead), features()
    later = x.copy()
    later[changed_from:] += 20
    before, after = lipsync.predict(x), lipsync.predict(later)
    np.testing.assert_allclose(after[: changed_from - 18], before[: changed_from - 18], atol=1e-6)
    assert np.abs(after[changed_from - 18 :][: block(18 - lead)] - before[changed_from - 18 :][: block(18 - lead)]).max() > 1e-5


@pytest.mark.parametrize("lead", [-10, 7, 18])
def test_a_mouth_that_leads_steps_as_it_predicts(lead: int) -> None:
    lipsync, x, state, parts = model(direction="both", lead_steps=lead), features(70), None, []
    for part in [*np.split(x, [30, 33]), np.repeat(lipsync.silence.numpy()[None], 18, 0)]:
        said, state = lipsync.step(part, state)
        parts.append(said.shapes)
    np.testing.assert_allclose(np.concatenate(parts), lipsync.predict(x), atol=1e-5)


@cells
@directions
@pytest.mark.parametrize("delay", [0, 18])
@pytest.mark.parametrize("portion", [7, 100])
def test_a_long_clip_is_the_same_in_portions(
    cell: str, direction: str, delay: int, portion: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lipsync, x = model(cell=cell, direction=direction, delay_steps=delay), features(100)
    whole = lipsync.predict(x)
    monkeypatch.setattr(module, "PORTION_STEPS", portion)
    np.testing.assert_allclose(lipsync.predict(x), whole, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, BOUNDED, WHOLE], ids=str)
def test_a_clip_longer_than_a_portion(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    lipsync, x = model(**changes), features(module.PORTION_STEPS + 50)
    said = lipsync.predict(x)
    monkeypatch.setattr(module, "PORTION_STEPS", 10 * len(x))
    np.testing.assert_allclose(said, lipsync.predict(x), atol=1e-5)


def test_the_whole_clip_is_never_cut_into_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    lipsync, x = model(**WHOLE), features(100)
    whole = lipsync.predict(x)
    monkeypatch.setattr(module, "PORTION_STEPS", 7)
    np.testing.assert_array_equal(lipsync.predict(x), whole)


@cells
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("changes", [{}, {"delay_steps": 0}, BOUNDED, BOUNDED | {"lead_steps": 5}, WHOLE], ids=str)
def test_portions_of_any_size_equal_the_whole(cell: str, sizes: str, changes: dict[str, Any]) -> None:
    lipsync, x = model(cell=cell, **changes), features(70)
    said = list(lipsync.predict_portions(np.split(x, np.cumsum(SIZES[sizes])[:-1])))
    np.testing.assert_allclose(np.concatenate(said), lipsync.predict(x), atol=1e-5)


@directions
def test_portions_are_heard_one_by_one_and_leave_autograd_on(direction: str) -> None:
    lipsync, taken = model(direction=direction), []

    def portions() -> Iterator[np.ndarray]:
        for k in range(5):
            taken.append(k)
            yield features(30, seed=k)

    for k, said in enumerate(lipsync.predict_portions(portions())):
        assert taken == list(range(min(k + 1, 5)))
        assert len(said) == (12 if k == 0 else 18 if k == 5 else 30)
        assert not torch.is_inference_mode_enabled()


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
    for call in (model().predict, model(**WHOLE).predict, model().step):
        with pytest.raises(ValueError, match=r"Expected features of shape \(T, 28\)"):
            call(np.zeros(shape, np.float32))


@cells
def test_a_model_that_hears_the_whole_clip_does_not_step(cell: str) -> None:
    with pytest.raises(ModelError, match=r"cannot step.*without --direction whole") as caught:
        model(cell=cell, **WHOLE).step(features())
    assert "\n" not in str(caught.value)


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


@cells
@pytest.mark.parametrize("direction", [{}, BOUNDED, WHOLE], ids=["forward", "bounded", "whole"])
@pytest.mark.parametrize("layer_norm", [False, True])
def test_every_network_is_saved_and_loaded(tmp_path: Path, cell: str, direction: dict[str, Any], layer_norm: bool) -> None:
    given = model(cell=cell, layers=2, hidden=9, layer_norm=layer_norm, **direction)
    with torch.no_grad():
        for weight in given.network.parameters():
            weight.add_(0.01 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(5)))  # biases, norms
    given.save(tmp_path)
    back = LipSync.load(tmp_path)
    assert back.config == given.config
    assert back.state_dict().keys() == given.state_dict().keys()
    for name, values in given.state_dict().items():
        assert torch.equal(back.state_dict()[name], values), name
    x = features(40)
    np.testing.assert_array_equal(back.predict(x), given.predict(x))
    # Another cell's, direction's or norm's weights do not fit.
    for other in ({"cell": "gru" if cell == "lstm" else "lstm"}, {"layer_norm": not layer_norm}):
        head = json.loads((tmp_path / CONFIG).read_text())
        (tmp_path / CONFIG).write_text(json.dumps(head | other))
        with pytest.raises(ModelError, match="does not fit"):
            LipSync.load(tmp_path)
        (tmp_path / CONFIG).write_text(json.dumps(head))


CHANGES: list[dict[str, Any]] = [
    {}, {"layers": 2, "hidden": 7, "dropout": 0.3, "input_dropout": 0.2}, WHOLE | {"components": 3},
]  # fmt: skip


@pytest.mark.parametrize("changes", CHANGES, ids=str)
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
    assert (head["format"], head["version"]) == ("lipwright-model", 3)
    assert VERSION == 3
    assert head["features"] == FEATURES.to_dict()
    assert head["sources"][0]["sha256"] == "ab" * 32
    assert {"cell", "direction", "lookahead_ms", "delay_steps", "layer_norm", "members", "blendshapes"} <= head.keys()


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


def _without_files(folder: Path) -> None:
    for name in (CONFIG, WEIGHTS):
        (folder / name).unlink()


BROKEN: dict[str, Callable[[Path], None]] = {
    "no config": lambda folder: (folder / CONFIG).unlink(),
    "no weights": lambda folder: (folder / WEIGHTS).unlink(),
    "neither": _without_files,
    "empty config": _bytes(CONFIG, lambda content: b""),
    "config cut off": _bytes(CONFIG, lambda content: content[: len(content) // 2]),
    "config of bytes": _bytes(CONFIG, lambda content: b"\xff\xfe\x00\x01"),
    "config is a list": _head(lambda head: [head]),
    "config is text": _head(lambda head: "model"),
    "config is null": _head(lambda head: None),
    "another format": _set(format="lipwright-corpus"),
    "no format": _without("format"),
    "another version": _set(version=99),
    "an older version": _set(version=1),
    "no version": _without("version"),
    "an unknown setting": _set(temperature=0.7),
    "no feature size": _without("feature_size"),
    "hidden in words": _set(hidden="sixty"),
    "hidden is null": _set(hidden=None),
    "hidden is negative": _set(hidden=-60),
    "no layers": _set(layers=0),
    "dropout too large": _set(dropout=1.5),
    "an unknown cell": _set(cell="transformer"),
    "cell is null": _set(cell=None),
    "cell is a list": _set(cell=["lstm"]),
    "an unknown direction": _set(direction="backward"),
    "the whole clip, but forward": _set(lookahead_ms=None),
    "the whole clip, but late": _set(lookahead_ms=None, direction="both"),
    "look-ahead in words": _set(lookahead_ms="200"),
    "delay in words": _set(delay_steps="18"),
    "delay is negative": _set(delay_steps=-1),
    "scale is null": _set(scale=None),
    "scale is zero": _set(scale=0.0),
    "corpora are text": _set(corpora="/corpora/one"),
    "features are text": _set(features="mfcc"),
    "other hidden than the weights": _set(hidden=25),
    "other components than the weights": _set(components=19),
    "other points than the weights": _set(points=39),
    "more layers than the weights": _set(layers=2),
    "another cell than the weights": _set(cell="gru"),
    "another direction than the weights": _set(direction="both"),
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


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"cell": "transformer"}, "cell is 'transformer', not one of lstm, gru, rnn-tanh, rnn-relu"),
        ({"direction": "backward"}, "direction is 'backward', not one of forward, both"),
        ({"lookahead_ms": None}, "lookahead_ms is null.*goes with direction both and delay_steps 0"),
        ({"lookahead_ms": None, "delay_steps": 0}, "lookahead_ms is null.*goes with direction both and delay_steps 0"),
        ({"lookahead_ms": None, "direction": "both"}, "lookahead_ms is null.*goes with direction both and delay_steps 0"),
        ({"lookahead_ms": "long"}, "lookahead_ms is 'long', neither a number from 0 on nor null"),
        ({"lead_steps": 0.5}, "lead_steps is 0.5, not a whole number within ±10"),
        ({"lead_steps": -11}, "lead_steps is -11, not a whole number within ±10"),
        ({"lead_steps": 3}, "lead_steps is 3, but a network that hears the past alone has its delay for that"),
        ({"lead_steps": 3, "direction": "both", "delay_steps": 2}, "lead_steps is 3, more than the delay of 2"),
        ({"hidden": 0}, "hidden is 0, not a whole number from 1 on"),
        ({"version": 1}, "not of model version 3; train it again"),
    ],
    ids=str,
)
def test_a_setting_that_cannot_be_is_said_with_what_could(tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    model().save(tmp_path)
    _set(**fields)(tmp_path)
    with pytest.raises(ModelError, match=words) as caught:
        LipSync.load(tmp_path)
    assert CONFIG in str(caught.value)


@pytest.mark.parametrize("kind", ["missing", "a file", "an empty folder"])
def test_what_is_no_model_is_named(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "run"
    if kind == "a file":
        folder.touch()
    elif kind == "an empty folder":
        folder.mkdir()
    with pytest.raises(ModelError, match="run"):
        LipSync.load(folder)
