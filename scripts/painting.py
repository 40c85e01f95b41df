"""Judge the renderer alone, on videos of talking people: the table in docs/rendering.md.

    python scripts/painting.py VIDEO... [--texture both|single|mean|median|proxies] [--json FILE]

The measured mouth is painted by the protocol of docs/metrics.md, the first three quarters of each video being the bank.
--texture makes the mouth's texture otherwise than the renderer does, to compare: `single` takes the best window alone, `mean`
and `median` (weighted, as in Synthesizing Obama) merge all of them in every band, `proxies` gives teeth the high frequencies of
the windows that show them sharpest.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lipwright.data.face_space import Pose
from lipwright.data.landmarks import face_track
from lipwright.data.media import probe
from lipwright.data.mouth import LIPS, OUTER_LIPS, aperture
from lipwright.pipeline import render
from lipwright.pipeline.judge_picture import judge_renderer
from lipwright.pipeline.render import composite
from lipwright.pipeline.render.bank import LOOK_DEPTHS, Bank
from lipwright.pipeline.render.choose import Joined, choose_windows
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


def find_proxies(bank: Bank) -> np.ndarray:
    """Return the windows that show upper and lower teeth sharpest, (2,): open, bright there, in a usual pose."""
    opening, looks = aperture(bank.mouths), bank.looks.reshape(len(bank.frames), len(LOOK_DEPTHS), -1)
    wide = bank.clear & (opening > np.percentile(opening, 60))
    turned = np.square(bank.pose.angles_deg() - np.median(bank.pose.angles_deg(), 0)).sum(1)
    worth = np.where(wide, bank.sharpness * np.exp(-turned / (2 * 8**2)), 0)
    bright = looks > 0.8 * np.percentile(looks[wide], 92)
    return np.array([(worth * bright[:, half].mean((1, 2))).argmax() for half in (slice(0, 2), slice(2, 4))])


def choose_with_proxies(bank: Bank, mouths: np.ndarray, pose: Pose, valid: np.ndarray) -> list[Joined | None]:
    """Join the proxies too, without a share."""
    joined = choose_windows(bank, mouths, pose, valid)
    more = find_proxies(bank)
    return [j and Joined(np.append(j.windows, more), np.append(j.shares, [0, 0]), np.append(j.leads, [0, 0])) for j in joined]


def proxy_texture(bank: Bank, joined: Joined, to: np.ndarray, starts: np.ndarray, box: Box) -> tuple[np.ndarray, np.ndarray]:
    """Give teeth the high frequencies of proxies, upper and lower (Synthesizing Obama, section 4.3)."""
    if len(joined.windows) == 1:  # a bank that is being read again
        return mouth_texture(bank, joined, to, starts, box)
    own = Joined(joined.windows[:-2], joined.shares[:-2], joined.leads[:-2])
    y, half = mouth_texture(bank, own, to, starts[:-2], box)
    inner = to[len(OUTER_LIPS) : len(LIPS)] - box[:2]
    sigma = 0.04 * float(np.ptp(inner[:, 0]))

    def low(plane: np.ndarray) -> np.ndarray:
        weight = np.maximum(cv2.GaussianBlur(opening, (0, 0), sigma), 1e-3)
        return cv2.GaussianBlur(plane * opening, (0, 0), sigma) / weight

    opening = np.zeros(y.shape, np.float32)
    cv2.fillPoly(opening, [inner.round().astype(np.int32)], 1.0)
    shown = cv2.resize(half[..., 0], y.shape[::-1], interpolation=cv2.INTER_LINEAR)
    shown += composite.fine_detail(y, half.shape[1::-1])
    middle = (inner[1:10] + inner[:10:-1]) / 2
    above = np.arange(y.shape[0])[:, None] < np.interp(np.arange(y.shape[1]), middle[:, 0], middle[:, 1])
    change, shades = np.zeros(y.shape, np.float32), low(shown)
    for proxy, part in zip(
        _stacked(bank, joined.windows[-2:], to, starts[-2:], box, 1).astype(np.float32), (above, ~above), strict=True
    ):
        theirs = low(proxy)
        level = np.percentile(theirs[opening > 0], 90) if opening.any() else 255.0
        teeth = np.clip((np.minimum(shades, theirs) / max(level, 1) - 0.6) / 0.25, 0, 1) * part * opening
        change += cv2.GaussianBlur(teeth, (0, 0), max(sigma / 3, 0.5)) * opening * ((proxy - theirs) - (shown - shades))
    half[..., 0] += cv2.resize(change, half.shape[1::-1], interpolation=cv2.INTER_AREA)
    return np.clip(y + change, 0, 255).astype(np.uint8), half


TEXTURES: dict[str, Any] = {
    "both": mouth_texture,
    "single": single_texture,
    "mean": mean_texture,
    "median": median_texture,
    "proxies": proxy_texture,
}


def main() -> None:
    """Judge the renderer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--texture", choices=TEXTURES, default="both")
    parser.add_argument("--json", type=Path, help="file to append a line for each video to")
    args = parser.parse_args()
    composite.mouth_texture = TEXTURES[args.texture]
    if args.texture == "proxies":
        render.choose_windows = choose_with_proxies
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
