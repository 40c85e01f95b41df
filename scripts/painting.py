"""Judge the renderer alone, on videos of talking people: the table in docs/rendering.md.

    python scripts/painting.py VIDEO... [--texture both|single|mean|median] [--json FILE]

The measured mouth is painted by the protocol of docs/metrics.md, the first three quarters of each video being the bank.
--texture makes the mouth's texture otherwise than the renderer does, to compare: `single` takes the best window alone, `mean`
and `median` (weighted, as in Synthesizing Obama) merge all of them in every band.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lipwright.data.landmarks import face_track
from lipwright.data.media import probe
from lipwright.pipeline.judge_picture import judge_renderer
from lipwright.pipeline.render import composite
from lipwright.pipeline.render.bank import Bank
from lipwright.pipeline.render.choose import Joined
from lipwright.pipeline.render.texture import mouth_texture, read_windows
from lipwright.pipeline.render.warp import Box

COLUMNS = ("aperture_r", "aperture_gain", "width_r", "lmd_ratio", "lag_ms", "closure_f1", "jitter_ratio", "mouth_psnr",
           "mouth_ssim", "sharpness_ratio", "flicker_ratio", "outside_max_abs", "mask_share")  # fmt: skip


def single_texture(bank: Bank, joined: Joined, to: np.ndarray, starts: np.ndarray, box: Box) -> tuple[np.ndarray, np.ndarray]:
    """Take the best window alone."""
    return mouth_texture(bank, Joined.alone(int(joined.windows[0])), to, starts[:1], box)


def _stacked(bank: Bank, windows: np.ndarray, to: np.ndarray, starts: np.ndarray, box: Box, step: int) -> np.ndarray:
    """Warp all windows: their luma, (N, h, w), or with `step` 2 all three at half size, (N, h / 2, w / 2, 3)."""
    read, warp = read_windows(bank, windows, to, starts, box)
    images = [w.half if step == 2 else w.y for w in read]
    return np.stack(
        [cv2.remap(i, *warp.maps(k, step), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE) for k, i in enumerate(images)]
    )


def mean_texture(bank: Bank, joined: Joined, to: np.ndarray, starts: np.ndarray, box: Box) -> tuple[np.ndarray, np.ndarray]:
    """Merge all windows by their weighted mean, detail too."""
    y, half = (np.tensordot(joined.shares, _stacked(bank, joined.windows, to, starts, box, step), 1) for step in (1, 2))
    return y.round().astype(np.uint8), half.astype(np.float32)


def median_texture(bank: Bank, joined: Joined, to: np.ndarray, starts: np.ndarray, box: Box) -> tuple[np.ndarray, np.ndarray]:
    """Merge all windows by their weighted median, detail too."""

    def median(images: np.ndarray) -> np.ndarray:
        order = images.argsort(0)
        half_way = (np.cumsum(joined.shares[order], 0) >= 0.5).argmax(0)
        return np.take_along_axis(np.take_along_axis(images, order, 0), half_way[None], 0)[0]

    y, half = (median(_stacked(bank, joined.windows, to, starts, box, step)) for step in (1, 2))
    return y, half.astype(np.float32)


TEXTURES: dict[str, Any] = {"both": mouth_texture, "single": single_texture, "mean": mean_texture, "median": median_texture}


def main() -> None:
    """Judge the renderer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--texture", choices=TEXTURES, default="both")
    parser.add_argument("--json", type=Path, help="file to append a line for each video to")
    args = parser.parse_args()
    composite.mouth_texture = TEXTURES[args.texture]
    print("| |", " | ".join(COLUMNS), "|")
    for path in args.videos:
        media = probe(path)
        numbers = judge_renderer(media, face_track(media))
        if args.json:
            with args.json.open("a") as out:
                out.write(json.dumps({"path": str(path), "texture": args.texture} | numbers) + "\n")
        for name, row in ((path.stem, numbers), ("– source untouched", numbers["untouched"])):
            cells = ("" if row.get(column) is None else f"{row[column]:.3f}" for column in COLUMNS)
            print(f"| {name} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
