"""The figures of the docs: drawn by one command, the same bytes each time, and small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("espeakng_loader", reason="the talker of the figures needs the extra demo")

ROOT = Path(__file__).parents[2]
CHEAP = ("clock.svg", "delay.svg", "face_space.png")


def draw(out: Path) -> dict[str, bytes]:
    names = [Path(name).stem for name in CHEAP]
    words = [sys.executable, str(ROOT / "scripts" / "figures.py"), "--out", str(out), "--only", *names]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return draw(tmp_path_factory.mktemp("figures"))


def test_figures_are_drawn_again_to_the_same_bytes(drawn: dict[str, bytes], tmp_path: Path) -> None:
    assert sorted(drawn) == sorted(CHEAP)
    assert draw(tmp_path) == drawn


def test_what_stands_in_the_docs_is_what_is_drawn(drawn: dict[str, bytes]) -> None:
    from io import BytesIO

    from PIL import Image

    for name in CHEAP:
        kept = (ROOT / "docs" / "figures" / name).read_bytes()
        if name.endswith(".png"):  # landmarks differ a little from one processor to another
            one, other = (np.asarray(Image.open(BytesIO(each)).convert("RGB"), np.int16) for each in (drawn[name], kept))
            assert one.shape == other.shape
            assert np.abs(one - other).mean() < 4
        else:
            assert drawn[name].count(b"<path") == kept.count(b"<path")


def test_figures_are_small_and_all_are_shown() -> None:
    kept = list((ROOT / "docs" / "figures").iterdir())
    assert len(kept) >= 5
    shown = "".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))
    for path in kept:
        assert path.stat().st_size <= 150_000, path.name
        assert f"](figures/{path.name})" in shown, path.name


def test_an_unknown_figure_is_refused(tmp_path: Path) -> None:
    words = [sys.executable, str(ROOT / "scripts" / "figures.py"), "--out", str(tmp_path), "--only", "moon"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "moon" in done.stderr
    assert not list(tmp_path.iterdir())
