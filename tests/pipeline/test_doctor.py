"""The doctor names what is there as it is, and what is not with what to do about it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from lipwright.pipeline import doctor

EXIT_MISSING = 4
CLI = "from lipwright.pipeline.cli import main; main()"


def run(*arguments: str, **variables: str) -> tuple[int, str, str]:
    """The command in a process of its own: it imports every package there is."""
    command = [sys.executable, "-c", CLI, "doctor", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | variables, timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def here() -> dict[str, Any]:
    code, out, err = run("--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_what_is_installed_here_is_what_is_told(here: dict[str, Any]) -> None:
    assert here["problems"] == []
    assert here["lipwright"] == metadata.version("lipwright")
    versions = {package["name"]: package["version"] for package in here["packages"]}
    assert versions["torch"] == metadata.version("torch")
    assert versions["opencv-python"] == metadata.version("opencv-python")
    assert all(package["problem"] is None for package in here["packages"])
    assert here["devices"][-1]["kind"] == "cpu"
    assert all(here["encoders"].values())
    assert Path(here["landmark_model"]).is_file()
    assert here["cache"]["bytes"] > 0
    assert here["cache"]["free_bytes"] > 0


def test_every_extra_is_told_with_its_packages(here: dict[str, Any]) -> None:
    declared = {extra for extra in metadata.metadata("lipwright").get_all("Provides-Extra") if extra != "dev"}
    assert {extra["name"] for extra in here["extras"]} == declared == set(doctor.EXTRAS)
    for extra in here["extras"]:
        assert extra["packages"]
        assert extra["install"] is None or f"lipwright[{extra['name']}]" in extra["install"]


def install(folder: Path, name: str, version: str) -> None:
    """Put a package there that is nothing but its name and version; earlier in the path, it is the one that counts."""
    place = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    place.mkdir()
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_what_does_not_serve_is_named_with_what_to_do(tmp_path: Path) -> None:
    packages, cache = tmp_path / "packages", tmp_path / "cache"
    packages.mkdir()
    install(packages, "soxr", "0.1")
    install(packages, "opencv-contrib-python", "5.0")
    (packages / "soundfile.py").write_text("raise OSError('libsndfile.so.1: cannot open shared object file')\n")
    (packages / "pyarrow.py").write_text("raise ImportError('not built for this Python')\n")
    path = os.pathsep.join([str(packages), os.environ.get("PYTHONPATH", "")])
    code, out, err = run("--json", PYTHONPATH=path, LIPWRIGHT_CACHE=str(cache), LIPWRIGHT_FACE_LANDMARKER="")
    told = json.loads(out)
    assert code == EXIT_MISSING
    words = "\n".join(told["problems"])
    assert "soxr is 0.1, not >=0.4: pip install 'soxr>=0.4'" in words
    assert "soundfile 0.14.0 cannot be imported" in words.replace(metadata.version("soundfile"), "0.14.0")
    assert "pip uninstall opencv-contrib-python;" in words
    assert len(told["problems"]) == 3
    assert not any(cache.iterdir())  # looked for, not fetched
    parquet = next(extra for extra in told["extras"] if extra["name"] == "parquet")
    assert parquet["install"] == "pip install 'lipwright[parquet]'"
    assert err.strip() == "lipwright: " + words


def test_a_landmark_model_that_comes_yet_is_no_problem(tmp_path: Path) -> None:
    code, out, err = run(LIPWRIGHT_CACHE=str(tmp_path), LIPWRIGHT_FACE_LANDMARKER="")
    assert (code, err) == (0, "")
    assert f"the face landmark model is not in {tmp_path}: it is fetched when first needed" in out
    assert not any(tmp_path.iterdir())  # looked for, not fetched


@pytest.mark.parametrize("name", ["av", "numpy", "cv2"])
def test_a_part_that_everything_needs_may_be_broken(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')\n")
    code, out, err = run("--json", PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    assert code == EXIT_MISSING
    assert any("cannot be imported" in problem for problem in json.loads(out)["problems"])
    assert "apt-get install libgl1" in err


def test_words_show_the_same(here: dict[str, Any]) -> None:
    code, out, _ = run()
    assert code == 0
    assert "all that Lipwright needs is here" in out
    for package in here["packages"]:
        assert f"{package['name']} " in out


def test_a_package_that_is_not_there_is_named() -> None:
    package = doctor._package(Requirement("a-package-that-nobody-wrote>=2"), {})
    assert package["problem"] == "a-package-that-nobody-wrote is missing: pip install 'a-package-that-nobody-wrote>=2'"


def test_a_landmark_model_that_is_named_wrongly_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIPWRIGHT_FACE_LANDMARKER", str(tmp_path / "nowhere.task"))
    _, problems = doctor._landmark_model()
    assert problems == [
        f"LIPWRIGHT_FACE_LANDMARKER names {tmp_path / 'nowhere.task'}, which does not exist; correct or unset it"
    ]
