"""Settings that the command line offers, and their help."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import dataclass
from functools import cache

FORWARD_DELAY_MS = 200.0
"""The paper's."""


@dataclass(frozen=True)
class TrainSettings:
    """How a model is trained. The defaults come from the table in `docs/training.md`."""

    cell: str = "lstm"
    """What the network is made of: gated cells, or Elman's with tanh or ReLU."""
    direction: str = "both"
    """forward: hears the past, and says the mouth late. both: a second network hears the future, read backwards."""
    delay_ms: float | None = None
    """How far ahead it hears: the mouth of time t may depend on sound up to t + delay. By default 200, and with both the
    whole clip."""
    bptt_s: float = 1.0
    """Seconds that gradients run back through time; the state runs on."""
    hidden: int = 60
    """Units a layer."""
    layers: int = 1
    """Layers, of each direction."""
    layer_norm: bool = False
    """Normalise the states of a layer before the next one hears them."""
    input_dropout: float = 0.3
    """Share of features dropped in training."""
    dropout: float = 0.5
    """Share of a layer's outputs dropped in training."""
    epochs: int = 300
    """Most epochs; each hears every second of training about 20 times."""
    patience: int = 40
    """Epochs without a better validation after which training stops."""
    learning_rate: float = 1e-3
    """Of Adam."""
    averaging: float = 0.998
    """Share of the running average of the weights that each step keeps; the average is what is validated and kept."""
    streams: int = 50
    """Streams trained on side by side."""
    clip_norm: float = 1.0
    """Largest norm of the gradient."""
    components: int = 20
    """PCA coefficients of the mouth."""

    @property
    def lookahead_ms(self) -> float | None:
        """How far ahead the network hears, ms; None is the whole clip."""
        return FORWARD_DELAY_MS if self.delay_ms is None and self.direction == "forward" else self.delay_ms


@cache
def help_of(settings: type) -> dict[str, str]:
    """Return the docstring that stands under each attribute of a settings class."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(settings))).body
    assert isinstance(body, ast.ClassDef)
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in zip(body.body, body.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
