"""Settings that the command line offers, and their help."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import dataclass
from functools import cache

DELAY_MS = {"forward": 200.0, "both": 400.0, "whole": None}
"""The paper's; and what costs 0.004 of `aperture_r` against the whole clip (`docs/training.md`)."""


@dataclass(frozen=True)
class TrainSettings:
    """How a model is trained. The defaults come from the tables in `docs/training.md` and `docs/base.md`."""

    cell: str = "lstm"
    """What the network is made of: gated cells, or Elman's with tanh or ReLU."""
    direction: str = "both"
    """forward: hears the past, and says the mouth late. both: a second network hears the future, read backwards, as far as
    the delay allows. whole: to the end of the clip."""
    delay_ms: float | None = None
    """How far ahead it hears: the mouth of time t may depend on sound up to t + delay. By default 200 with forward, and 400
    with both."""
    bptt_s: float = 1.0
    """Seconds that gradients run back through time; the state runs on."""
    hidden: int = 60
    """Units a layer."""
    layers: int = 2
    """Layers, of each direction."""
    layer_norm: bool = False
    """Normalise the states of a layer before the next one hears them."""
    members: int = 2
    """Networks trained side by side, whose mean is the prediction."""
    input_dropout: float = 0.3
    """Share of features dropped in training."""
    input_noise: float = 0.0
    """Standard deviation of the noise added to features in training, which themselves have 1."""
    channel_noise: float = 0.0
    """Standard deviation of a constant that is added to all that a stream hears in an epoch, as another microphone and
    another room would; differences from step to step stay."""
    dropout: float = 0.5
    """Share of a layer's outputs dropped in training."""
    mixup: float = 0.4
    """Streams are heard two at a time, mixed with their mouths in shares drawn from Beta(mixup, mixup); 0: alone."""
    augment: tuple[str, ...] = ()
    """How speech is varied: any of gain, noise, reverb, band, tempo, tract."""
    augmented_share: float = 0.3
    """Share of the training spent on variants."""
    variants: int = 8
    """Variants of each clip."""
    hushed_share: float = 0.2
    """Share of the training spent on clips where silence or noise takes the place of speech, and the mouth closes."""
    velocity_weight: float = 1.0
    """Of the squared error of how the mouth moves, against that of its shape."""
    opening_weight: float = 0.5
    """Of the squared error of the opening."""
    closure_weight: float = 1.0
    """Of lips that should meet and do not."""
    blendshape_weight: float = 0.02
    """Of the squared error of the 52 blendshapes."""
    phone_weight: float = 0.3
    """Of the cross-entropy of the sounds that are heard, where the corpus says them."""
    epochs: int = 24
    """Epochs that the learning rate is planned for, the most that are trained."""
    coverage: float = 10.0
    """How often an epoch hears every second."""
    patience: int = 6
    """Epochs without a better validation after which training stops, once 60 % of the planned ones are trained."""
    refit: bool = True
    """Train anew on all data, validation's too, for as many epochs as were best."""
    learning_rate: float = 2e-3
    """Of AdamW, at its height; it rises over the first epochs and falls along a cosine."""
    weight_decay: float = 0.01
    """Of AdamW."""
    averaging: float = 0.99
    """Share of the running average of the weights that each step keeps; the average is what is validated and kept."""
    streams: int = 24
    """Streams trained on side by side."""
    clip_norm: float = 1.0
    """Largest norm of the gradient of a member."""
    components: int = 20
    """PCA coefficients of the mouth."""

    @property
    def lookahead_ms(self) -> float | None:
        """How far ahead the network hears, ms; None is the whole clip."""
        return DELAY_MS[self.direction] if self.delay_ms is None else self.delay_ms


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
