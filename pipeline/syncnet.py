"""SyncNet's judgement of lip sync, LSE-D and LSE-C, by weights that the user brings.

J. S. Chung and A. Zisserman, *Out of time: automated lip sync in the wild* (ACCV workshop 2016): a network for five frames of a
face and one for the 0.2 s of sound with them, trained so that the two agree where they belong together. K. R. Prajwal et al.,
*A lip sync expert is all you need* (ACM MM 2020), named two of its numbers. For each lag from −15 to +15 frames, take the
distance of picture and sound, mean over the video: LSE-D is the least of these 31, LSE-C their median minus it.

Network and distance are those of the package `syncnet-python`. Its own pipeline asks for another OpenCV and an old scenedetect,
which would break this installation; the two modules that matter need neither, and are loaded past the package's ``__init__``.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from torch import Tensor

from lipwright.data.audio import SAMPLE_RATE_HZ, around
from lipwright.data.errors import InputError, MissingPartError
from lipwright.data.landmarks import FaceTrack
from lipwright.data.media import to_rgb
from lipwright.models.device import choose_device
from lipwright.pipeline.progress import Progress
from lipwright.pipeline.render.bank import Bank
from lipwright.pipeline.result import results

if TYPE_CHECKING:
    from lipwright.pipeline.evaluate import Take

log = logging.getLogger(__name__)

FRAME_HZ = 25
WINDOW_FRAMES = 5
WINDOW_STEPS, STEPS_A_FRAME = 20, 4
"""Of the MFCC, 100 a second."""

REACH_FRAMES = 15
CROP_PX = 224
FRAME_SAMPLES = SAMPLE_RATE_HZ // FRAME_HZ
FEWEST_FRAMES = 50
"""A face that is seen for less is passed over."""

WIDER = 0.4
"""The crop is wider than the face's box by so much on either side, and lower by twice as much."""

GREY = (110, 110, 110)
"""Beyond the picture's edges."""

STEADY_FRAMES = 13
"""Length of the median filter over the boxes."""

BATCH = 20


@dataclass(frozen=True)
class Run:
    """Frames, 25 a second, through which the face is seen.

    Attributes
    ----------
    first
        Its first frame on the video's clock, in 1/25 s.
    rows : ndarray, shape (F,), int64
        Which of the track's frames is on the screen.
    middle, half : ndarray, shape (F, 2) and (F,)
        Of the face's box, pixels.
    """

    first: int
    rows: np.ndarray
    middle: np.ndarray
    half: np.ndarray


def runs_of(track: FaceTrack) -> list[Run]:
    """Find the stretches through which a face is seen long enough."""
    from scipy.signal import medfilt

    grid = np.arange(np.ceil(track.times_s[0] * FRAME_HZ), np.floor(track.times_s[-1] * FRAME_HZ) + 1) / FRAME_HZ
    rows = np.searchsorted(track.times_s, grid + 1e-6, side="right") - 1
    shot = np.where(track.found[rows], np.searchsorted(track.shots, rows, side="right"), -1)
    edges = np.concatenate([[0], np.flatnonzero(np.diff(shot)) + 1, [len(rows)]])
    low, high = track.measure(lambda points: points[..., :2].min(1)), track.measure(lambda points: points[..., :2].max(1))
    found = []
    for start, end in pairwise(edges):
        if shot[start] >= 0 and end - start >= FEWEST_FRAMES:
            own = rows[start:end]
            middle, half = (low[own] + high[own]) / 2, (high[own] - low[own]).max(1) / 2
            middle = np.stack([medfilt(axis, STEADY_FRAMES) for axis in middle.T], 1)
            found.append(Run(round(grid[start] * FRAME_HZ), own, middle, medfilt(half, STEADY_FRAMES)))
    return found


def crop(bgr: np.ndarray, middle: np.ndarray, half: float) -> np.ndarray:
    """Cut a face out as SyncNet was trained to see it, (224, 224, 3) uint8."""
    top, bottom = int(np.floor(middle[1] - half)), int(np.floor(middle[1] + half * (1 + 2 * WIDER)))
    left, right = (int(np.floor(middle[0] + side * half * (1 + WIDER))) for side in (-1, 1))
    height, width = bgr.shape[:2]
    out = (max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0))
    inside = bgr[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    return cv2.resize(cv2.copyMakeBorder(inside, *out, cv2.BORDER_CONSTANT, value=GREY), (CROP_PX, CROP_PX))


@dataclass
class Views:
    """What the network makes of the crops of a run, which come one by one."""

    net: Any
    device: torch.device
    _last: deque[np.ndarray] = field(default_factory=lambda: deque(maxlen=WINDOW_FRAMES))
    _waiting: list[np.ndarray] = field(default_factory=list)
    _made: list[Tensor] = field(default_factory=list)

    def add(self, crop: np.ndarray) -> None:
        """Add the next frame, (224, 224, 3) uint8, BGR."""
        self._last.append(crop)
        if len(self._last) == WINDOW_FRAMES:
            self._waiting.append(np.stack(self._last))
        if len(self._waiting) == BATCH:
            self._look()

    def _look(self) -> None:
        windows = torch.from_numpy(np.stack(self._waiting)).permute(0, 4, 1, 2, 3)  # (B, 3, 5, 224, 224)
        with torch.inference_mode():
            self._made.append(self.net.forward_lip(windows.float().to(self.device)).cpu())
        self._waiting.clear()

    def made(self) -> Tensor:
        """Return what was made, (windows, 1024)."""
        if self._waiting:
            self._look()
        return torch.cat(self._made) if self._made else torch.zeros(0, 0)


class SyncNet:
    """The network with the user's weights; `load` makes one."""

    def __init__(self, net: Any, distances: Any, device: torch.device) -> None:
        self._net, self._distances, self._device = net.to(device).eval(), distances, device

    @classmethod
    def load(cls, path: Path, device: str = "cpu") -> SyncNet:
        """Read the weights: a dictionary of tensors, written by ``torch.save``; nothing in the file is run.

        Raises
        ------
        MissingPartError
            The package is not installed.
        InputError
            The file is missing, holds more than tensors, or those of another network.
        """
        network, instance = (_module(name) for name in ("SyncNetModel", "SyncNetInstance"))
        if not path.is_file():
            raise InputError(f"{path} does not exist; give the weights of SyncNet (syncnet_v2.model)")
        try:
            weights = torch.load(path, map_location="cpu", weights_only=True)
        except OSError:
            raise
        except Exception as error:  # whatever a stranger's file makes of it
            log.info("%s: %s", path, error)
            raise InputError(
                f"{path} is not read: it is broken, or holds more than tensors, and a pickle from a stranger could run code; "
                "give the weights of SyncNet as a plain state dict"
            ) from None
        net = network.S()
        try:
            net.load_state_dict(weights)
        except (RuntimeError, TypeError, AttributeError):
            raise InputError(f"{path} holds other weights than SyncNet's; give syncnet_v2.model, or its like") from None
        return cls(net, instance.calc_pdist, choose_device(device))

    def judge(self, take: Take, bank: Bank, progress: Progress | None = None) -> dict[str, Any]:
        """Judge a video, and the same video with the model's mouth.

        Parameters
        ----------
        take
            The video.
        bank
            What its result is painted from.

        Returns
        -------
        dict
            For ``source`` and ``result``: ``lse_d``, ``lse_c``, and ``lag_ms``, positive where the picture comes after the
            sound; null where no two seconds show the face without a gap.
        """
        runs = runs_of(take.track)
        colour = take.media.need_video().colour
        views = [{part: Views(self._net, self._device) for part in ("source", "result")} for _ in runs]
        wanted = _wanted(runs)
        at = next(wanted, None)
        for shown in results(take.media, take.track, bank, take.said) if runs else ():
            pictures: dict[str, np.ndarray] = {}
            while at is not None and at[0] == shown.row:
                _, run, k = at
                if not pictures:
                    both = (("source", shown.source), ("result", shown.result))
                    pictures = {part: cv2.cvtColor(to_rgb(yuv.to_picture(colour)), cv2.COLOR_RGB2BGR) for part, yuv in both}
                for part, picture in pictures.items():
                    views[run][part].add(crop(picture, runs[run].middle[k], float(runs[run].half[k])))
                at = next(wanted, None)
            if progress:
                progress("syncnet", shown.row + 1, len(take.track.pts))
        heard = [self.hear(sound_of(take.samples, run.first, len(run.rows)), len(run.rows)) for run in runs]
        return {
            part: self.score([(each[part].made(), sound) for each, sound in zip(views, heard, strict=True)])
            for part in ("source", "result")
        }

    def hear(self, samples: np.ndarray, frames: int) -> Tensor:
        """Return what the network makes of the sound of a run, (windows, 1024).

        Parameters
        ----------
        samples : ndarray, shape (N,), int16
            16 kHz mono.
        frames
            That the run has.
        """
        import python_speech_features

        mfcc = torch.from_numpy(python_speech_features.mfcc(samples, SAMPLE_RATE_HZ)).float().T  # (13, T)
        windows = [  # the last one is left out, as theirs is
            mfcc[None, :, STEPS_A_FRAME * k : STEPS_A_FRAME * k + WINDOW_STEPS]
            for k in range(min(frames, len(samples) // FRAME_SAMPLES) - WINDOW_FRAMES)
        ]
        with torch.inference_mode():
            made = [
                self._net.forward_aud(torch.stack(windows[k : k + BATCH]).to(self._device)).cpu()
                for k in range(0, len(windows), BATCH)
            ]
        return torch.cat(made)

    def score(self, runs: list[tuple[Tensor, Tensor]]) -> dict[str, float | None]:
        """Compare what was made of pictures and of sounds, run by run, each (windows, 1024)."""
        total, count = torch.zeros(2 * REACH_FRAMES + 1), 0
        for seen, heard in runs:
            windows = min(len(seen), len(heard))
            distances = self._distances(seen[:windows], heard[:windows], vshift=REACH_FRAMES)
            total, count = total + torch.stack(distances, 1).sum(1), count + windows
        if not count or not torch.isfinite(total).all():
            return {"lse_d": None, "lse_c": None, "lag_ms": None}
        mean = total / count
        least, at = torch.min(mean, 0)
        return {
            "lse_d": float(least),
            "lse_c": float(torch.median(mean) - least),
            "lag_ms": float(REACH_FRAMES - int(at)) * 1000 / FRAME_HZ,
        }


def _wanted(runs: list[Run]) -> Iterator[tuple[int, int, int]]:
    """Yield what is to be cropped, in order of time: the track's frame, the run, and the frame of it."""
    for which, run in enumerate(runs):
        for k, row in enumerate(run.rows):
            yield int(row), which, k


def sound_of(samples: np.ndarray, first: int, frames: int) -> np.ndarray:
    """Return the sound of so many frames, 25 a second, from one of them on, (N,) int16."""
    part = around(samples, first * FRAME_SAMPLES, (first + frames) * FRAME_SAMPLES)
    return np.clip(np.round(part * 32768), -32768, 32767).astype(np.int16)


def _module(name: str) -> Any:
    """Load a module of the package by its file: the package's own ``__init__`` imports what we must not have."""
    package = find_spec("syncnet_python")
    if package is None or not package.submodule_search_locations or find_spec("python_speech_features") is None:
        raise MissingPartError(
            "--syncnet needs two packages, without all that they ask for (it would replace OpenCV): "
            "pip install --no-deps syncnet-python python_speech_features"
        )
    file = Path(package.submodule_search_locations[0]) / f"{name}.py"
    spec: ModuleSpec | None = spec_from_file_location(f"lipwright_{name}", file)
    if spec is None or spec.loader is None or not file.exists():
        raise MissingPartError(f"{file} is missing; pip install --no-deps syncnet-python again")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
