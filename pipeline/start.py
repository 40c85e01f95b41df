"""What a training starts from: the base model, another run, or nothing."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path

from lipwright.data.corpus import Corpus
from lipwright.data.errors import CorpusError
from lipwright.models.errors import ModelError
from lipwright.models.lipsync import BASE, WEIGHTS, LipSync
from lipwright.pipeline.settings import TrainSettings

log = logging.getLogger(__name__)

FROM_BASE, FROM_NOTHING = "base", "none"
"""What a training starts from, if not from another run."""

ALIKE = ("cell", "direction", "hidden", "layers", "layer_norm")
"""What must be as asked for, if the base model is to be started from."""

INHERITED = (*ALIKE, "members")
"""Settings that a training takes over from the run that it starts from."""


@dataclass(frozen=True)
class Start:
    """A model to start from, and which one it is.

    Attributes
    ----------
    name
        `FROM_BASE`, `FROM_NOTHING`, or the folder of a run.
    model
        None: random weights.
    sha256
        Of the model's weights.
    """

    name: str = FROM_NOTHING
    model: LipSync | None = None
    sha256: str | None = None


def starting_point(init: Path | str, settings: TrainSettings, corpus: Corpus) -> tuple[TrainSettings, Start]:
    """Find what a training starts from.

    Parameters
    ----------
    init
        `FROM_BASE`: the base model, if `settings` ask for a network like its (`ALIKE`). `FROM_NOTHING`. Or a model folder.
    settings
        What is asked for.
    corpus
        Whose features are learned from.

    Returns
    -------
    settings
        What the start leaves of them.
    start

    Raises
    ------
    CorpusError
        The corpus has other features than the run that is named.
    ModelError
        The run cannot be read.
    """
    if init == FROM_NOTHING:
        return settings, Start()
    if init == FROM_BASE:
        model, sha256 = _read(BASE)
        # It hears as far ahead as it is let: in training, to the end of each second.
        asked = replace(settings, direction="both" if settings.direction == "whole" else settings.direction)
        own = model.config
        others = [name for name in ALIKE if getattr(own, name) != getattr(asked, name)]
        if own.features != corpus.settings["features"]:
            others.append("set of features")
        if others:
            log.info("the base model has another %s than asked for: started from nothing", others[0])
            return settings, Start()
        return settings, Start(FROM_BASE, model, sha256)
    folder = Path(init).resolve()
    if not folder.is_dir():
        raise ModelError(f"{init} is not a model folder; start from one, from base or from none")
    model, sha256 = _read(folder)
    own = model.config
    if own.features != corpus.settings["features"]:
        raise CorpusError(f"{corpus.folder} has other features than the model of --init; preprocess anew")
    settings = replace(settings, delay_ms=own.lookahead_ms, **{name: getattr(own, name) for name in INHERITED})
    if own.lookahead_ms is None:
        settings = replace(settings, direction="whole")
    return settings, Start(str(folder), model, sha256)


def _read(folder: Path) -> tuple[LipSync, str]:
    return LipSync.load(folder), hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
