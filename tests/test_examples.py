"""Examples in Python, of docs and docstrings, run as they stand; the tutorial's in ``end_to_end/test_tutorial.py``."""

from __future__ import annotations

import doctest
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
TOLD_ELSEWHERE = {"tutorial.md"}
EXAMPLES = [
    pytest.param(path, code, id=f"{path.name}-{k}")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    if path.name not in TOLD_ELSEWHERE
    for k, code in enumerate(re.findall(r"```python\n(?!# \S+\.py\n)(.*?)```", path.read_text(), re.DOTALL))
]
"""Code that is not quoted from a file: that is compared with the file, in ``test_docs.py``."""

NOT_MADE = {"README.md": ["interview.mp4", "other.mp4", "speech.wav"]}
"""Files that an example is given, where they are not all: the others it makes."""

SHORTER = {'train_model("corpus", "run")': 'train_model("corpus", "run", TrainSettings(epochs=2))'}
"""What is trained less long here than there."""

DOCUMENTED = sorted(
    ".".join(["lipwright", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")
    for package in ("data", "models", "pipeline")
    for path in (ROOT / package).rglob("*.py")
    if ">>> " in path.read_text()
)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 4
    assert len(DOCUMENTED) >= 5


@pytest.fixture
def files(talk: Any) -> dict[str, Path]:
    """Return what the names of files in examples stand for."""
    video, sound = talk.path, talk.path.with_suffix(".wav")
    return {"interview.mp4": video, "other.mp4": video, "speech.wav": sound, "run": ROOT / "models" / "base"}


@pytest.fixture
def names(babble: Callable[..., np.ndarray]) -> dict[str, Any]:
    """Return what the names in examples stand for that they do not explain."""
    from lipwright.data.features import compute_features

    samples = babble(1.5)
    shown: list[np.ndarray] = []
    return {
        "microphone": np.array_split(samples, 6),
        "features": compute_features(samples),
        "show": shown.append,
        "shown": shown,
    }


@pytest.mark.parametrize(("doc", "code"), EXAMPLES)
def test_examples_of_the_docs_run(
    doc: Path, code: str, files: dict[str, Path], names: dict[str, Any], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name in NOT_MADE.get(doc.name, files):
        (tmp_path / name).symlink_to(files[name])
    monkeypatch.chdir(tmp_path)
    if "net.onnx" in code:
        from lipwright.pipeline import export_mouth

        export_mouth("net.onnx", format="onnx")
    from lipwright.pipeline.settings import TrainSettings

    scope: dict[str, Any] = names | {"TrainSettings": TrainSettings}
    for told, run in SHORTER.items():
        code = code.replace(told, run)
    exec(compile(code, str(doc), "exec"), scope)
    assert "print(" not in code or capsys.readouterr().out
    assert "show(" not in code or names["shown"][0].dtype == np.uint8
    if "net.onnx" in code:
        assert scope["mouth"].shape == (len(names["features"]), 40, 3)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_examples_of_docstrings_say_what_comes_out(name: str) -> None:
    results = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS)
    assert results.attempted > 0 or "+SKIP" in Path(str(import_module(name).__file__)).read_text()
    assert results.failed == 0
