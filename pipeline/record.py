"""What a training leaves to be read: a line of JSON an epoch, and the same for TensorBoard, with pictures at its end."""

from __future__ import annotations

import io
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lipwright.data.features import STEP_HZ
from lipwright.data.mouth import INNER_LIPS, OUTER_LIPS, aperture

METRICS_FILE = "metrics.jsonl"

FILM_S, FILM_HZ = 4, 25
"""Length and rate of the animation of the mouth."""


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait: one that comes while TensorBoard queues a line would leave its lock behind, for ever."""
    if threading.current_thread() is not threading.main_thread():  # signals come to the main thread alone
        yield
        return
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: came.append(number)) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    if came:
        signal.raise_signal(came[0])


class Record:
    """The record of a training, in a run's folder.

    Parameters
    ----------
    folder
        Where `METRICS_FILE` and the TensorBoard events are written, or gone on with.
    """

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._lines = folder / METRICS_FILE
        with _uninterrupted():
            self._board = SummaryWriter(str(folder))

    def epoch(self, row: dict[str, Any]) -> None:
        """Write the numbers of an epoch: `stage` ("search" or "refit"), `epoch`, losses."""
        with _uninterrupted():
            with self._lines.open("a") as lines:
                lines.write(json.dumps(row) + "\n")
            for name, value in row.items():
                if name not in ("stage", "epoch") and value is not None:
                    self._board.add_scalar(f"{row['stage']}/{name}", value, row["epoch"])

    def mouth(self, said: np.ndarray, measured: np.ndarray) -> None:
        """Draw what the model says of footage it was not trained on.

        Parameters
        ----------
        said, measured : ndarray, shape (T, 40, 3)
            In face space.
        """
        with _uninterrupted():
            self._board.add_figure("held_out/aperture", _curves(aperture(said), aperture(measured)))
            self._animate("held_out/mouth", _film(said, measured))

    def _animate(self, tag: str, frames: list[np.ndarray]) -> None:
        """Write an animation: TensorBoard shows a GIF among its images, and writes none itself without moviepy."""
        from PIL import Image
        from tensorboard.compat.proto.summary_pb2 import Summary

        pictures = [Image.fromarray(frame) for frame in frames]
        file = io.BytesIO()
        pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=1000 // FILM_HZ, loop=0)
        height, width = frames[0].shape
        image = Summary.Image(encoded_image_string=file.getvalue(), height=height, width=width, colorspace=1)
        summary = Summary(value=[Summary.Value(tag=tag, image=image)])
        self._board._get_file_writer().add_summary(summary)

    def close(self) -> None:
        """Write what is left."""
        with _uninterrupted():
            self._board.close()


def _curves(said: np.ndarray, measured: np.ndarray) -> Any:
    """Draw two apertures over time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3), layout="constrained")
    axes = figure.add_subplot()
    times_s = np.arange(len(said)) / STEP_HZ
    axes.plot(times_s, measured, color="0.6", label="measured")
    axes.plot(times_s, said, label="predicted")
    axes.set(xlabel="seconds", ylabel="aperture, eye distances", xlim=(0, times_s[-1]))
    axes.legend(loc="upper right", frameon=False)
    return figure


def _film(said: np.ndarray, measured: np.ndarray) -> list[np.ndarray]:
    """Draw lips side by side, measured left and predicted right: frames (H, W) uint8."""
    import cv2

    size, every = 200, STEP_HZ // FILM_HZ
    measured = measured[: FILM_S * STEP_HZ : every]
    said = said[: FILM_S * STEP_HZ : every]
    low, high = measured[..., :2].min((0, 1)), measured[..., :2].max((0, 1))
    zoom = 0.8 * size / float((high - low).max())
    rings = (np.arange(len(OUTER_LIPS)), len(OUTER_LIPS) + np.arange(len(INNER_LIPS)))
    frames = []
    for pair in zip(measured, said, strict=True):
        frame = np.full((size, 2 * size), 255, np.uint8)
        for k, (mouth, name) in enumerate(zip(pair, ("measured", "predicted"), strict=True)):
            cv2.putText(frame, name, (8 + k * size, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, 0, 1, cv2.LINE_AA)
            points = (mouth[:, :2] - (low + high) / 2) * zoom + [size / 2 + k * size, size / 2]
            for ring in rings:
                cv2.polylines(frame, [np.round(points[ring] * 16).astype(np.int32)], True, 0, 1, cv2.LINE_AA, 4)
        frames.append(frame)
    return frames
