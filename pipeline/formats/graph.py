"""A trained network as an ONNX graph, for programs without Python or PyTorch.

Every operator of the graph is written here from the weights: PyTorch's exporter bakes the length of the traced sound into
recurrent layers. State goes in and comes out, so that a program may feed sound as it comes (`docs/formats.md`).

A bounded look-ahead is heard in blocks (`lipwright.models.recurrent.block`): the graph takes one block a call.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lipwright.data.errors import MissingPartError
from lipwright.data.files import whole_file
from lipwright.data.landmarker import BLENDSHAPE_NAMES
from lipwright.data.mouth import LIPS
from lipwright.models.lipsync import SILENT_STEPS, LipSync
from lipwright.models.recurrent import Recurrent, Stack, block

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto, ValueInfoProto

OPSET = 17
"""The first with LayerNormalization; of 2022, so that older runtimes read it."""
IR_VERSION = 8

_OPERATORS = {"lstm": "LSTM", "gru": "GRU", "rnn-tanh": "RNN", "rnn-relu": "RNN"}
_GATES = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}
"""PyTorch's gates (i f g o; r z n) in the order that ONNX has them (i o f c; z r h)."""

USE = (
    "Feed features as they come, `block_steps` a call (null: any number), with zeros for the first state and after that the "
    "state that the call before gave. Feed `silence` `lead_in_steps` times before the sound and `lead_out_steps` times after "
    "it, and until the last block is full. Leave out the first `skip_steps` shapes: the next belongs to the sound's first step."
)


class _Graph:
    """Nodes and constants that pile up, in the order in which they run."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, value: Any, kind: type = np.float32) -> str:
        from onnx import numpy_helper

        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value, kind), name))
        return name

    def add(self, operator: str, *inputs: str, outputs: int = 1, into: str = "", **attributes: Any) -> Any:
        """Append a node; return the name of what it gives, or the names."""
        from onnx import helper

        names = [into or f"{operator.lower()}_{len(self.nodes)}_{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def part(self, x: str, start: int, end: int, axis: int = 0) -> str:
        return str(self.add("Slice", x, *(self.constant([n], np.int64) for n in (start, end, axis))))

    def joined(self, parts: list[str], axis: int, into: str = "") -> str:
        return str(self.add("Concat", *parts, axis=axis, into=into))

    def reshaped(self, x: str, shape: tuple[int, ...], into: str = "") -> str:
        return str(self.add("Reshape", x, self.constant(shape, np.int64), into=into))

    def recur(
        self, stack: Stack, cell: str, x: str, before: list[str], *, reverse: bool = False
    ) -> tuple[str, list[list[str]]]:
        """Let a stack of layers hear x (T, B, D).

        `before` names its states, each (layers, B, H); none: from zeros. Return the top layer's h (T, B, H), and the names of
        what each layer leaves behind, state by state.
        """
        left: list[list[str]] = [[] for _ in range(2 if cell == "lstm" else 1)]
        for k, layer in enumerate(stack.cells):
            if k:
                x = self._normalised(stack.between[k - 1][0], x)  # type: ignore[index]
            parts = (getattr(layer, f"{part}_l0") for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
            w, r, wb, rb = (self._in_order(part.detach().cpu().numpy(), cell) for part in parts)
            hidden = r.shape[-1]
            more: dict[str, Any] = {"hidden_size": hidden, "direction": "reverse" if reverse else "forward"}
            if cell == "gru":
                more["linear_before_reset"] = 1
            elif cell != "lstm":
                more["activations"] = [cell.removeprefix("rnn-").capitalize()]
            states = [self.part(s, k, k + 1) for s in before]
            inputs = [x, *map(self.constant, (w[None], r[None], np.concatenate([wb, rb])[None])), "", *states]
            y, *after = self.add(_OPERATORS[cell], *inputs, outputs=1 + len(left), **more)
            x = self.add("Squeeze", y, self.constant([1], np.int64))  # the dimension of directions
            for names, name in zip(left, after, strict=True):
                names.append(name)
        return x, left

    @staticmethod
    def _in_order(weights: np.ndarray, cell: str) -> np.ndarray:
        gates = _GATES.get(cell, (0,))
        return np.concatenate([np.split(weights, len(gates))[k] for k in gates])

    def _normalised(self, norm: Any, x: str) -> str:
        if not hasattr(norm, "normalized_shape"):
            return x
        scale, shift = (self.constant(p.detach().cpu().numpy()) for p in (norm.weight, norm.bias))
        return str(self.add("LayerNormalization", x, scale, shift, axis=-1, epsilon=norm.eps))


def write_graph(lipsync: LipSync, out: Path) -> dict[str, list[str]]:
    """Write a model's network, with all that belongs to it, as ONNX.

    Parameters
    ----------
    lipsync
        The model.
    out
        File to make, whole or not at all.

    Returns
    -------
    dict
        ``inputs`` and ``outputs``: their names, in order.

    Raises
    ------
    MissingPartError
        The package ``onnx`` is not installed.
    """
    try:
        from onnx import TensorProto, checker, helper
    except ImportError:
        raise MissingPartError("--format onnx needs the package onnx: pip install 'lipwright[onnx]'") from None
    config, graph = lipsync.config, _Graph()
    members, first = lipsync.network.each, lipsync.network.each[0]
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in lipsync.named_buffers()}
    bounded = first.future is not None and first.lookahead is not None
    late, size = (first.lookahead or 0, block(first.lookahead or 0)) if bounded else (0, 0)
    steps: int | str = size if bounded else "steps"

    inputs: dict[str, tuple[int | str, ...]] = {"features": (steps, config.feature_size)}
    if config.lookahead_ms is not None:
        shape = (config.members * config.layers, 1, config.hidden)
        inputs |= {"state_h": shape} | ({"state_c": shape} if config.cell == "lstm" else {})
    if late:
        inputs |= {
            "state_features": (late + size - 1, config.feature_size),
            "state_past": (config.members, late, config.hidden),
        }
    x = graph.add("Sub", "features", graph.constant(arrays["feature_mean"]))
    x = graph.add("Div", x, graph.constant(arrays["feature_std"]))

    cells = [name for name in inputs if name in ("state_h", "state_c")]
    after: dict[str, list[str]] = {name: [] for name in inputs if name != "features"}
    heard = graph.joined(["state_features", x], 0) if late else x
    if late:
        after["state_features"].append(graph.part(heard, size, late + 2 * size - 1))
    said = []
    for k, member in enumerate(members):
        own = [graph.part(name, k * config.layers, (k + 1) * config.layers) for name in cells]
        h, left = graph.recur(member.past, config.cell, graph.add("Unsqueeze", x, graph.constant([1], np.int64)), own)
        for name, names in zip(cells, left, strict=False):
            after[name] += names
        if bounded:
            h = _with_bounded_future(graph, member, config.cell, heard, h, k, after.get("state_past", []))
        else:
            flat = [h]
            if member.future is not None:
                whole = graph.add("Unsqueeze", x, graph.constant([1], np.int64))
                flat.append(graph.recur(member.future, config.cell, whole, [], reverse=True)[0])
            h = graph.add("Squeeze", graph.joined(flat, 2) if len(flat) > 1 else h, graph.constant([1], np.int64))
        weight, bias = member.read_out.weight.detach().cpu().numpy(), member.read_out.bias.detach().cpu().numpy()
        said.append(graph.add("Add", graph.add("MatMul", h, graph.constant(weight.T)), graph.constant(bias)))
    mean = said[0] if len(said) == 1 else graph.add("Mean", *said)  # (T, P + S + C)

    p, s = config.components, config.blendshapes
    expanded = graph.add("MatMul", graph.part(mean, 0, p, 1), graph.constant(arrays["pca_components"]))
    flat_shapes = graph.add("Add", expanded, graph.constant(arrays["pca_mean"]))
    graph.reshaped(flat_shapes, (-1, config.points, 3), into="shapes")
    outputs: dict[str, tuple[int | str, ...]] = {"shapes": (steps, config.points, 3)}
    if s:
        spread = graph.add("Mul", graph.part(mean, p, p + s, 1), graph.constant(arrays["blendshape_std"]))
        spread = graph.add("Add", spread, graph.constant(arrays["blendshape_mean"]))
        graph.add("Clip", spread, graph.constant(0.0), graph.constant(1.0), into="blendshapes")
        outputs["blendshapes"] = (steps, s)
    for name, parts in after.items():
        graph.joined(parts, 0, into=f"new_{name}")
        outputs[f"new_{name}"] = inputs[name]

    def told(named: dict[str, tuple[int | str, ...]]) -> list[ValueInfoProto]:
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in named.items()]

    model = helper.make_model(
        helper.make_graph(graph.nodes, "lipwright", told(inputs), told(outputs), graph.constants),
        producer_name="lipwright",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    helper.set_model_props(model, _metadata(lipsync, size or None))
    checker.check_model(model, full_check=True)
    with whole_file(out) as partial:
        partial.write_bytes(model.SerializeToString())
    return {"inputs": list(inputs), "outputs": list(outputs)}


def _with_bounded_future(graph: _Graph, member: Recurrent, cell: str, heard: str, h: str, k: int, waiting: list[str]) -> str:
    """Join what a member heard of the past with what it hears of the future, for the steps that are due, (size, 2·H).

    As `Recurrent._bounded`, where every call brings one block: the first step that is due is as far into a block each time.
    """
    assert member.future is not None
    assert member.lookahead is not None
    late, size = member.lookahead, block(member.lookahead)
    hidden, within = member.read_out.in_features // 2, -late % size
    due = graph.reshaped(h, (size, hidden))
    if late:
        past = graph.reshaped(graph.part("state_past", k, k + 1), (late, hidden))
        past = graph.joined([past, due], 0)  # (late + size, H)
        waiting.append(graph.reshaped(graph.part(past, size, size + late), (1, late, hidden)))
        due = graph.part(past, 0, size)

    first = size - 1 - within
    windows = [graph.part(heard, first + n * size, first + n * size + late + 1) for n in range(2 if within else 1)]
    stacked = graph.joined([graph.add("Unsqueeze", w, graph.constant([1], np.int64)) for w in windows], 1)  # (late + 1, N, D)
    ahead, _ = graph.recur(member.future, cell, stacked, [], reverse=True)
    blocks = graph.add("Transpose", graph.part(ahead, 0, size), perm=[1, 0, 2])  # (N, size, H)
    ahead = graph.part(graph.reshaped(blocks, (-1, hidden)), within, within + size)
    return graph.joined([due, ahead], 1)


def _metadata(lipsync: LipSync, size: int | None) -> dict[str, str]:
    config = lipsync.config
    late = config.lead_steps if config.lookahead_ms is None else config.delay_steps
    told = {
        "version": 1,
        "use": USE,
        "features": config.features,
        "block_steps": size,
        "hears": "everything at once" if config.lookahead_ms is None else "as it comes",
        "lead_in_steps": SILENT_STEPS,
        "lead_out_steps": SILENT_STEPS if config.lookahead_ms is None else config.delay_steps,
        "skip_steps": SILENT_STEPS + late,
        "delay_steps": config.delay_steps,
        "lead_steps": config.lead_steps,
        "silence": lipsync.silence.cpu().tolist(),
        "scale": config.scale,
        "neutral": lipsync.neutral.cpu().tolist(),
        "points": LIPS.tolist(),
        "blendshapes": list(BLENDSHAPE_NAMES) if config.blendshapes else [],
    }
    as_text = {name: value if isinstance(value, str) else json.dumps(value) for name, value in told.items()}
    return {"format": "lipwright-onnx"} | as_text
