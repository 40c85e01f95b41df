"""Draw the figures of the docs: the same bytes each time.

    python scripts/figures.py --out docs/figures [--only clock delay …]

Faces are a photograph that was made to talk (Eileen Collins, NASA, public domain), never footage of people.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from draw_faces import draw_bank, draw_blend, draw_face_space
from draw_time import draw_clock, draw_delay
from drawing import save

FIGURES = {
    "clock.svg": draw_clock,
    "face_space.png": draw_face_space,
    "delay.svg": draw_delay,
    "bank.png": draw_bank,
    "blend.png": draw_blend,
}
"""What draws each; how networks learn is drawn by ``lipwright inspect`` (docs/recurrent.md)."""


def main() -> None:
    """Draw them."""
    names = [Path(name).stem for name in FIGURES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write them to")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, draw in FIGURES.items():
            if Path(name).stem in args.only:
                save(draw(Path(folder)), args.out / name)
                print(args.out / name, (args.out / name).stat().st_size, flush=True)


if __name__ == "__main__":
    main()
