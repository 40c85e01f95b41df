"""How the figures of the docs look, and how they are written: the same bytes each time, and few of them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image
from scipy.spatial import cKDTree

mpl.use("Agg")
from matplotlib import pyplot as plt

INK, QUIET, PALE = "#20242a", "#8a9099", "#d9dce0"
BLUE, RED, GOLD = "#1f5fa8", "#d1495b", "#e0a029"

STYLE: dict[str, Any] = {
    "font.size": 13,  # the page of a telephone shows a figure at 0.4 of its size
    "axes.titlesize": 14,
    "axes.titlelocation": "left",
    "axes.labelsize": 13,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": QUIET,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.facecolor": "white",  # it is its own ground, on pages of any colour
    "svg.fonttype": "path",
    "svg.hashsalt": "lipwright",
}
WIDE_IN, DPI = 8.0, 110
COLOURS = 88
"""Of the photographs in a picture that is written as PNG: more are not seen, and cost."""

DRAWN = 200
"""Pixels of one colour from which a line or a letter is drawn in it."""


def sheet(tall_in: float) -> Any:
    """Return an empty figure as wide as a page."""
    mpl.rcParams.update(STYLE)
    figure = plt.figure(figsize=(WIDE_IN, tall_in), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.09)
    return figure


def save(figure: Any, path: Path) -> None:
    """Write a figure: lines as .svg, photographs as .png with few colours."""
    if path.suffix == ".svg":
        figure.savefig(path, metadata={"Date": None, "Creator": None})
    else:
        with io.BytesIO() as drawn:
            figure.savefig(drawn, format="png", dpi=DPI)
            picture = Image.open(drawn).convert("RGB")
        reduce(picture).save(path, optimize=True)
    plt.close(figure)


def reduce(picture: Image.Image) -> Image.Image:
    """Reduce a picture to few colours; those of lines and letters in it stay, which photographs would crowd out."""
    seen, which, counts = np.unique(np.asarray(picture).reshape(-1, 3), axis=0, return_inverse=True, return_counts=True)
    own = np.round(255 * np.array([to_rgb(colour) for colour in (INK, QUIET, PALE, BLUE, RED, GOLD)]))
    there = {tuple(colour): count for colour, count in zip(seen.tolist(), counts, strict=True)}
    own = own[[there.get(tuple(colour), 0) > DRAWN for colour in own.astype(int).tolist()]]
    edges = [255 + share * (own - 255) for share in (1, 0.5, 0)]
    photographs = np.array(picture.quantize(COLOURS).getpalette()).reshape(-1, 3)[:COLOURS]
    few = np.concatenate([*edges, photographs]).round()
    nearest = cKDTree(few).query(seen.astype(float))[1].astype(np.uint8)  # Pillow's own search errs by some levels
    reduced = Image.fromarray(nearest[which].reshape(picture.height, picture.width), "P")
    reduced.putpalette(few.astype(int).ravel().tolist())
    return reduced


def show(axes: Any, picture: np.ndarray, title: str = "", **how: Any) -> None:
    """Show a picture, (h, w, 3) or (h, w) uint8, without a frame."""
    axes.imshow(picture, interpolation="lanczos", **how)
    axes.set_title(title)
    axes.set_axis_off()
