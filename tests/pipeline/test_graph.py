"""The ONNX graph says what PyTorch says: every cell, direction and number of layers, however long the sound."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lipwright.data.errors import MissingPartError
from lipwright.data.features import FeatureSettings
from lipwright.data.landmarker import BLENDSHAPE_NAMES
from lipwright.models.lipsync import BASE, Config, LipSync
from lipwright.models.recurrent import CELLS
from lipwright.pipeline.formats.graph import write_graph

HEARD = {  # direction, look-ahead, delay, lead
    "forward": ("forward", 200.0, 18, 0),
    "both": ("both", 400.0, 37, 1),  # blocks of 5 steps, of which one belongs to the block before
    "blocks that fit": ("both", 200.0, 16, 0),
    "at once": ("both", 0.0, 0, 0),
    "early": ("both", 200.0, 18, -3),
    "whole": ("both", None, 0, 2),
}


def make_model(heard: str, cell: str = "lstm", **more: Any) -> LipSync:
    """Return a model that nobody trained."""
    torch.manual_seed(1)
    direction, lookahead_ms, delay, lead = HEARD[heard]
    size = {"feature_size": 28, "points": 40, "components": 5, "scale": 0.2, "hidden": 9}
    settings = {"features": FeatureSettings().to_dict(), "direction": direction, "lookahead_ms": lookahead_ms}
    config = Config(**settings, **size, cell=cell, delay_steps=delay, lead_steps=lead, **more)
    config.check()
    model = LipSync(config)
    for name, tensor in model.named_buffers():
        tensor.copy_(torch.rand_like(tensor) + 0.5 if name.endswith("std") else torch.randn_like(tensor))
    return model.eval()


def hear(path: Path, features: np.ndarray, calls: int = 1) -> dict[str, np.ndarray]:
    """Run a graph as its metadata says, and return its outputs for every step of the features."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map
    silence = np.array(json.loads(about["silence"]), np.float32)[None]
    names = ("lead_in_steps", "lead_out_steps", "skip_steps", "block_steps")
    lead_in, lead_out, skip, size = (json.loads(about[name]) for name in names)
    lead_out += -(lead_in + len(features) + lead_out) % (size or 1)
    fed = np.concatenate([silence.repeat(lead_in, 0), features, silence.repeat(lead_out, 0)])
    state = {i.name: np.zeros(i.shape, np.float32) for i in session.get_inputs() if i.name != "features"}
    outputs = [output.name for output in session.get_outputs()]
    said: dict[str, list[np.ndarray]] = {name: [] for name in outputs if not name.startswith("new_")}
    for portion in np.split(fed, np.arange(size, len(fed), size)) if size else np.array_split(fed, calls):
        given = dict(zip(outputs, session.run(outputs, {"features": portion} | state), strict=True))
        state = {name: given[f"new_{name}"] for name in state}
        for name in said:
            said[name].append(given[name])
    return {name: np.concatenate(parts)[skip : skip + len(features)] for name, parts in said.items()}


@pytest.fixture
def features() -> Callable[[int], np.ndarray]:
    """Return the maker of noise in place of features, (T, 28)."""
    return lambda steps: np.random.default_rng(steps).normal(0, 1, (steps, 28)).astype(np.float32)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("heard", HEARD)
@pytest.mark.parametrize("cell", CELLS)
def test_a_graph_says_what_its_model_says(
    tmp_path: Path, features: Callable[[int], np.ndarray], cell: str, heard: str, layers: int
) -> None:
    model = make_model(heard, cell, layers=layers, members=3 - layers, layer_norm=layers == 2, blendshapes=52, phones=4)
    names = write_graph(model, tmp_path / "net.onnx")
    assert names["inputs"][0] == "features"
    assert names["outputs"][:2] == ["shapes", "blendshapes"]
    for steps in (1, 61, 140):
        x = features(steps)
        own = hear(tmp_path / "net.onnx", x)
        np.testing.assert_allclose(own["shapes"], model.predict(x), atol=1e-4)
        np.testing.assert_allclose(own["blendshapes"], model.predict_blendshapes(x), atol=1e-4)


def test_a_forward_graph_takes_sound_in_any_portions(tmp_path: Path, features: Callable[[int], np.ndarray]) -> None:
    model = make_model("forward")
    write_graph(model, tmp_path / "net.onnx")
    np.testing.assert_allclose(
        hear(tmp_path / "net.onnx", features(90), calls=7)["shapes"], model.predict(features(90)), atol=1e-4
    )


def test_the_base_model_as_a_graph(tmp_path: Path, features: Callable[[int], np.ndarray]) -> None:
    base = LipSync.load(BASE)
    write_graph(base, tmp_path / "net.onnx")
    x = features(200) * base.feature_std.numpy() + base.feature_mean.numpy()
    np.testing.assert_allclose(hear(tmp_path / "net.onnx", x)["shapes"], base.predict(x), atol=1e-4)


def test_the_graph_says_how_to_use_it(tmp_path: Path) -> None:
    import onnx

    model = make_model("both", blendshapes=52)
    write_graph(model, tmp_path / "net.onnx")
    about = {prop.key: prop.value for prop in onnx.load(tmp_path / "net.onnx").metadata_props}
    assert about["format"] == "lipwright-onnx"
    assert FeatureSettings.from_dict(json.loads(about["features"])) == FeatureSettings()
    assert (about["block_steps"], about["lead_in_steps"], about["skip_steps"]) == ("5", "50", "87")
    assert json.loads(about["scale"]) == model.config.scale
    np.testing.assert_allclose(json.loads(about["neutral"]), model.neutral, rtol=1e-6)
    assert tuple(json.loads(about["blendshapes"])) == BLENDSHAPE_NAMES


def test_without_the_package_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingPartError, match=r"pip install 'lipwright\[onnx\]'"):
        write_graph(make_model("forward"), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
