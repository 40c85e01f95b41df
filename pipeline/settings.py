"""Settings that the command line offers, and their help."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import dataclass
from functools import cache
from math import inf
from pathlib import Path
from typing import Literal, get_args

DELAY_MS = {"forward": 200.0, "both": 400.0, "whole": None}
"""The paper's; and what costs 0.004 of `aperture_r` against the whole clip (`docs/training.md`)."""

Codec = Literal["h264", "hevc"]
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")


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


@dataclass(frozen=True)
class RenderSettings:
    """How a video is rendered."""

    retime: bool = True
    """Choose which frame of the target goes with each moment, so that the head rests in pauses; else frames stay in order."""
    mouth_gain: float = 1.0
    """Factor on the movement of the mouth, 0 to 3."""
    closed_in_silence: bool = False
    """Hold the mouth shut while nobody speaks."""
    start_s: float | None = None
    """Render from this moment of the sound on."""
    end_s: float | None = None
    """Render up to this moment of the sound."""
    preview: bool = False
    """A quarter of the pixels, and 10 seconds, for a first look."""
    overlay: bool = False
    """Draw the lips that were asked for (orange), and those that were filmed (blue)."""
    alpha: bool = False
    """The mouth alone, on nothing, for editors: OUT.mov is ProRes 4444, OUT without a suffix a folder of PNG files. Frames stay
    in order."""
    label: bool = False
    """Write SYNTHETIC into a corner of the picture."""
    codec: Codec | None = None
    """By default that of the target, if it is one of these, else h264."""
    crf: int | None = None
    """Quality: lower is better and larger. By default 18 for h264, 20 for hevc, which look alike."""
    preset: str = "veryfast"
    """Speed of the encoder against size, as x264 and x265 name it."""

    def check(self) -> None:
        """Raise `ValueError` where a setting is out of its range."""
        from lipwright.data.edits import MOST_GAIN

        if not 0 <= self.mouth_gain <= MOST_GAIN:
            raise ValueError(f"mouth gain is {self.mouth_gain:g}; give a number from 0 to {MOST_GAIN:g}")
        if self.crf is not None and not 0 <= self.crf <= 51:
            raise ValueError(f"crf is {self.crf}; give a whole number from 0 (best) to 51")
        if self.codec not in (None, *get_args(Codec)):
            raise ValueError(f"codec is {self.codec}; give one of {', '.join(get_args(Codec))}")
        if self.preset not in PRESETS:
            raise ValueError(f"preset is {self.preset}; give one of {', '.join(PRESETS)}")
        start_s, end_s = self.start_s or 0.0, inf if self.end_s is None else self.end_s
        if not 0 <= start_s < end_s:
            raise ValueError(f"start is {start_s:g} s, end {end_s:g} s; the start must come first, at 0 or later")
        if self.alpha and (self.overlay or self.label or self.codec or self.crf is not None):
            raise ValueError("a mouth layer (alpha) has its own codecs, and nothing can be drawn over it")


@dataclass(frozen=True)
class Credentials:
    """With what content credentials are signed."""

    certificate: Path | str | None = None
    """Certificate chain, PEM, the signer's own first; by default LIPWRIGHT_CERTIFICATE, else a local one for tests."""
    key: Path | str | None = None
    """Private key of the certificate, PEM; by default LIPWRIGHT_KEY."""
    consent: Path | str | None = None
    """Record of the consent of the people shown: text, JSON or PDF. Its hash is signed, nothing else of it."""

    @property
    def paths(self) -> list[Path]:
        """All that was given."""
        return [Path(path) for path in vars(self).values() if path is not None]


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
