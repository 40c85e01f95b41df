"""Sound → mouth: the network with all that belongs to it, as one thing that predicts, steps, is saved and loaded.

A model folder holds ``config.json`` (what it is, what it was trained on) and ``model.safetensors`` (weights, feature
statistics, PCA, neutral mouth), and everything that rendering needs.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lipwright.models.device import choose_device
from lipwright.models.errors import ModelError
from lipwright.models.recurrent import CELLS, DIRECTIONS, Ensemble, State

VERSION = 3
CONFIG, WEIGHTS = "config.json", "model.safetensors"

BASE = Path(__file__).parent / "base"
"""The model that Lipwright ships: it has heard synthesized speech alone. Its card is the README beside it."""

SILENT_STEPS = 50
"""So much silence is heard before a clip and, by who hears all of it, after: what a network says first, from an empty
state, is a mouth half open."""

MOST_LEAD_STEPS = 10
"""A mouth further from what the network says than this is another matter: its sound and picture are apart."""

PORTION_STEPS = 3000
"""A prediction runs through so much at a time, where it need not hear all of it at once: memory stays small."""

Heard = tuple[State, int]
"""Where a stream stands: the network's state, and how many steps of the clip it has heard."""

Network = Callable[[Tensor, State | None], tuple[Tensor, State]]
"""Features (1, T, D) and a state → outputs (…, 1, T, ·) and the state after them."""


@dataclass(frozen=True)
class Config:
    """What a model is: written to ``config.json``, enough to build the network anew."""

    features: dict[str, Any]
    """Feature settings, as `FeatureSettings.to_dict`."""
    feature_size: int
    """Numbers per step, `D`."""
    points: int
    """Mouth points, `K`."""
    components: int
    """PCA coefficients, `P`."""
    scale: float
    """Mean range of opening of the speakers trained on, for faces that do not speak."""
    cell: str = "lstm"
    direction: str = "forward"
    lookahead_ms: float | None = 200.0
    """How far after time t sound still changes the mouth of time t; None: the whole clip."""
    delay_steps: int = 18
    """Steps that the output comes late: the look-ahead less the reach of a feature window; 0 if the whole clip is heard."""
    lead_steps: int = 0
    """How many steps earlier the mouth moves than the network says: people differ, and so do recordings, from those that
    it first learned of. With a look-ahead, the network hears so much less far, and the output comes no later."""
    hidden: int = 60
    layers: int = 1
    layer_norm: bool = False
    members: int = 1
    """Networks whose mean is the prediction."""
    blendshapes: int = 0
    """Blendshape coefficients that are predicted beside the mouth, `S`."""
    phones: int = 0
    """Classes of sounds that are told apart beside the mouth, `C`: they teach a network what to listen for."""
    input_dropout: float = 0.0
    dropout: float = 0.0
    corpora: list[str] = field(default_factory=list)
    """Folders that it was trained on; none, if it is not said."""
    sources: list[dict[str, str]] = field(default_factory=list)
    """What it was trained on: path, sha256, speaker."""
    training: dict[str, Any] = field(default_factory=dict)
    """Settings and outcome of the training."""

    def check(self) -> None:
        """Raise `ValueError` if a field that came from a file cannot be used."""
        least = {"feature_size": 1, "points": 1, "components": 1, "hidden": 1, "layers": 1, "members": 1}
        least |= {"blendshapes": 0, "phones": 0, "delay_steps": 0}
        for name, bound in least.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < bound:
                raise ValueError(f"{name} is {value!r}, not a whole number from {bound} on")
        for name, choice in {"cell": CELLS, "direction": DIRECTIONS}.items():
            if getattr(self, name) not in choice:
                raise ValueError(f"{name} is {getattr(self, name)!r}, not one of {', '.join(choice)}")
        if not isinstance(self.scale, int | float) or not 0 < self.scale < math.inf:
            raise ValueError(f"scale is {self.scale!r}, not a positive number")
        ahead_ms = 0 if self.lookahead_ms is None else self.lookahead_ms
        if not isinstance(ahead_ms, int | float) or not 0 <= ahead_ms < math.inf:
            raise ValueError(f"lookahead_ms is {self.lookahead_ms!r}, neither a number from 0 on nor null")
        if self.lookahead_ms is None and (self.direction, self.delay_steps) != ("both", 0):
            raise ValueError("lookahead_ms is null, the whole clip, which goes with direction both and delay_steps 0 alone")
        if not isinstance(self.lead_steps, int) or abs(self.lead_steps) > MOST_LEAD_STEPS:
            raise ValueError(f"lead_steps is {self.lead_steps!r}, not a whole number within ±{MOST_LEAD_STEPS}")
        if self.lead_steps and self.direction == "forward":
            raise ValueError(
                f"lead_steps is {self.lead_steps!r}, but a network that hears the past alone has its delay for that"
            )
        if self.lookahead_ms is not None and self.lead_steps > self.delay_steps:
            raise ValueError(f"lead_steps is {self.lead_steps!r}, more than the delay of {self.delay_steps}")
        if not (isinstance(self.corpora, list) and all(isinstance(folder, str) for folder in self.corpora)):
            raise ValueError(f"corpora is {self.corpora!r}, not a list of folders")
        if not isinstance(self.features, dict):
            raise ValueError(f"features is {self.features!r}, not a set of settings")


@dataclass(frozen=True)
class Said:
    """What a model says of some steps.

    Attributes
    ----------
    shapes : ndarray, shape (n, K, 3), float32
        The mouth, relative to a speaker.
    blendshapes : ndarray, shape (n, S), float32
        ARKit's, in [0, 1], in MediaPipe's order; S is 0 of a model that was trained without them.
    sounds : ndarray, shape (n, C), float32
        Probabilities of the classes of sounds, in the order of the classes that it was trained with: the base model's are
        `lipwright.data.articulation.CLASSES`; C is 0 of a model that tells none apart.
    """

    shapes: np.ndarray
    blendshapes: np.ndarray
    sounds: np.ndarray


class LipSync(nn.Module):
    """A trained mapping from features to mouth shapes.

    Shapes are relative to a speaker: ``(mouth − neutral) / scale``.

    Attributes
    ----------
    feature_mean, feature_std : Tensor, shape (D,)
        Statistics of the features that its first training heard: a model that starts from another keeps that one's.
    silence : Tensor, shape (D,)
        Features of digital silence: what stands before and after a clip.
    pca_mean : Tensor, shape (3K,)
    pca_components : Tensor, shape (P, 3K)
    neutral : Tensor, shape (K, 3)
        Mean neutral mouth of the speakers trained on.
    blendshape_mean, blendshape_std : Tensor, shape (S,)
        Statistics of the training blendshapes.
    """

    feature_mean: Tensor
    feature_std: Tensor
    silence: Tensor
    pca_mean: Tensor
    pca_components: Tensor
    neutral: Tensor
    blendshape_mean: Tensor
    blendshape_std: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        d, p, k, s = config.feature_size, config.components, config.points, config.blendshapes
        self.network = Ensemble(
            config.members,
            features=d,
            outputs=p + s + config.phones,
            cell=config.cell,
            hidden=config.hidden,
            layers=config.layers,
            direction=config.direction,
            lookahead=None if config.lookahead_ms is None else config.delay_steps - config.lead_steps,
            input_dropout=config.input_dropout,
            dropout=config.dropout,
            layer_norm=config.layer_norm,
        )
        shapes: dict[str, tuple[int, ...]] = {"feature_mean": (d,), "feature_std": (d,), "silence": (d,)}
        shapes |= {"pca_mean": (3 * k,), "pca_components": (p, 3 * k), "neutral": (k, 3)}
        shapes |= {"blendshape_mean": (s,), "blendshape_std": (s,)}
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape))

    def standardise(self, features: Tensor) -> Tensor:
        """Bring features (…, D) to mean 0 and standard deviation 1 over the training set."""
        return (features - self.feature_mean) / self.feature_std

    def project(self, shapes: Tensor) -> Tensor:
        """Return the PCA coefficients (…, P) of relative shapes (…, K, 3)."""
        return (shapes.flatten(-2) - self.pca_mean) @ self.pca_components.T

    def expand(self, coefficients: Tensor) -> Tensor:
        """Return the relative shapes (…, K, 3) of PCA coefficients (…, P)."""
        return (coefficients @ self.pca_components + self.pca_mean).unflatten(-1, (self.config.points, 3))

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predict the mouth of a whole clip.

        Parameters
        ----------
        features : ndarray, shape (T, D), float32

        Returns
        -------
        ndarray, shape (T, K, 3), float32
            Relative shapes. Silence comes before the clip and after it.
        """
        return np.concatenate(list(self.predict_portions([features])))

    @torch.inference_mode()
    def predict_portions(self, portions: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Predict the mouth of a clip that comes in portions, in memory that does not grow with it.

        Parameters
        ----------
        portions : iterable of ndarray, shape (T, D), float32
            Of any lengths. A model that hears the whole clip (`lookahead_ms` is None) takes them all first.

        Yields
        ------
        ndarray, shape (n, K, 3), float32
            Relative shapes, together as many as there are steps. Silence comes before the clip and after it.
        """
        for said in self._run(self.network, portions):
            yield self._shapes(said)

    def predict_blendshapes(self, features: np.ndarray) -> np.ndarray:
        """Predict the ARKit blendshapes of a whole clip, for an animator's rig.

        Parameters
        ----------
        features : ndarray, shape (T, D), float32

        Returns
        -------
        ndarray, shape (T, S), float32
            In [0, 1], in MediaPipe's order.

        Raises
        ------
        ModelError
            The model was trained without them.
        """
        if not self.config.blendshapes:
            raise ModelError("this model says no blendshapes; train one on footage")
        with torch.inference_mode():
            return self._blendshapes(torch.cat(list(self._run(self.network, [features])), -2))

    def predict_sounds(self, features: np.ndarray) -> np.ndarray:
        """Tell which class of sound is heard at every step of a clip, where a model has learned that beside the mouth.

        Parameters
        ----------
        features : ndarray, shape (T, D), float32

        Returns
        -------
        ndarray, shape (T, C), float32
            Probabilities, in the order of the classes that it was trained with: the base model's are
            `lipwright.data.articulation.CLASSES`.

        Raises
        ------
        ModelError
            The model was trained without them.
        """
        if not self.config.phones:
            raise ModelError("this model tells no sounds apart; the base model does")
        with torch.inference_mode():
            return self._sounds(torch.cat(list(self._run(self.network, [features])), -2))

    def _shapes(self, said: Tensor) -> np.ndarray:
        """Read the relative shapes (n, K, 3) off what the members said, (M, n, ·)."""
        return self.expand(said.mean(0)[:, : self.config.components]).cpu().numpy()

    def _blendshapes(self, said: Tensor) -> np.ndarray:
        own = said.mean(0)[:, self.config.components :][:, : self.config.blendshapes]
        return (own * self.blendshape_std + self.blendshape_mean).clamp(0, 1).cpu().numpy()

    def _sounds(self, said: Tensor) -> np.ndarray:
        return said[..., said.shape[-1] - self.config.phones :].softmax(-1).mean(0).cpu().numpy()

    @torch.inference_mode()
    def hear(self, features: np.ndarray) -> list[np.ndarray]:
        """Return the states (T, H) of a whole clip that each member reads the mouth off (`Recurrent.hear`)."""
        return [torch.cat(list(self._run(m.hear, [features])), -2).cpu().numpy() for m in self.network.each]

    def _run(self, network: Network, portions: Iterable[np.ndarray]) -> Iterator[Tensor]:
        """Let a network hear a clip, silence around it; yield its outputs (…, n, ·) without the dimension of streams."""
        silence = self.silence.cpu().numpy()[None]
        if self.config.lookahead_ms is None:
            clip = np.concatenate(list(portions))
            self._check(clip)
            said, _ = self._go_on(network, np.concatenate([clip, silence.repeat(SILENT_STEPS, 0)]), None)
            yield said[..., : len(clip), :]
            return
        state = None
        for portion in chain(map(self._check, portions), [silence.repeat(self.config.delay_steps, 0)]):
            for start in range(0, len(portion), PORTION_STEPS):
                said, state = self._go_on(network, portion[start : start + PORTION_STEPS], state)
                yield said

    def _go_on(self, network: Network, features: np.ndarray, state: Heard | None) -> tuple[Tensor, Heard]:
        """Let a network hear on, after silence at the start; return its outputs (…, n, ·) as far as they are of the clip."""
        x = torch.from_numpy(np.ascontiguousarray(features)).to(self.feature_mean)
        inner, heard = state or (None, -SILENT_STEPS)
        if state is None:
            x = torch.cat([self.silence.expand(SILENT_STEPS, -1), x])
        y, inner = network(self.eval().standardise(x)[None], inner)
        late = self.config.lead_steps if self.config.lookahead_ms is None else self.config.delay_steps
        early = min(max(late - heard, 0), len(x))
        return y.squeeze(-3)[..., early:, :], (inner, heard + len(x))

    @torch.inference_mode()
    def step(self, features: np.ndarray, state: Heard | None = None) -> tuple[Said, Heard]:
        """Predict on, as sound comes in.

        Parameters
        ----------
        features : ndarray, shape (T, D), float32
            The next steps, any number from 1.
        state
            What the call before returned; None at the start of a clip.

        Returns
        -------
        said
            All that the model says of the next steps; n is less than T until `delay_steps` steps have been heard.
        state
            For the next call.

        Raises
        ------
        ModelError
            The model hears the whole clip.
        """
        if self.config.lookahead_ms is None:
            raise ModelError("this model hears the whole clip and cannot step; train one without --direction whole")
        said, state = self._go_on(self.network, self._check(features), state)
        return Said(self._shapes(said), self._blendshapes(said), self._sounds(said)), state

    def _check(self, features: np.ndarray) -> np.ndarray:
        if features.ndim != 2 or features.shape[1] != self.config.feature_size or not len(features):
            raise ValueError(f"Expected features of shape (T, {self.config.feature_size}), got {features.shape = }.")
        return features

    def save(self, folder: Path) -> None:
        """Write the model into a folder, each file whole or not at all."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        head = {"format": "lipwright-model", "version": VERSION} | asdict(self.config)
        weights, config = folder / f".{WEIGHTS}.{os.getpid()}.partial", folder / f".{CONFIG}.{os.getpid()}.partial"
        try:
            save_file({name: t.detach().cpu().contiguous() for name, t in self.state_dict().items()}, weights)
            config.write_text(json.dumps(head, indent=2))
            weights.replace(folder / WEIGHTS)
            config.replace(folder / CONFIG)
        finally:
            weights.unlink(missing_ok=True)
            config.unlink(missing_ok=True)

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> LipSync:
        """Read a model from its folder.

        Raises
        ------
        ModelError
            The folder is missing or empty, a file is missing or truncated, or they do not fit together.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        if not folder.is_dir():
            advice = "install Lipwright again" if folder == BASE else "train one with lipwright train"
            raise ModelError(f"{folder} is not a model folder: it does not exist; {advice}")
        missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
        if missing:
            raise ModelError(f"{folder} is not a whole model: {' and '.join(missing)} missing; train it again")
        try:
            head = json.loads((folder / CONFIG).read_text())
            if head.pop("format") != "lipwright-model" or head.pop("version") != VERSION:
                raise ModelError(f"{folder / CONFIG} is not of model version {VERSION}; train it again with this Lipwright")
            if "corpus" in head:  # of a model that was trained when there could be but one
                head["corpora"] = [own] if (own := head.pop("corpus")) is not None else []
            config = Config(**head)
            config.check()
            model = cls(config)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise ModelError(f"{folder / CONFIG} is not a model's configuration ({error}); train it again") from None
        try:
            model.load_state_dict(load_file(folder / WEIGHTS))
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{folder / WEIGHTS} is broken or truncated ({error}); train it again") from None
        except RuntimeError as error:
            what = str(error).strip().splitlines()[-1].strip()
            raise ModelError(f"{folder / WEIGHTS} does not fit its {CONFIG}: {what}") from None
        if broken := [name for name, t in model.state_dict().items() if not t.isfinite().all()]:
            raise ModelError(f"{folder / WEIGHTS} has values in {broken[0]} that are not numbers; train it again")
        return model.to(choose_device(device)).eval()
