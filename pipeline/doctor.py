"""What this machine has of what Lipwright needs: packages, codecs, devices, the landmark model; and how to get the rest."""

from __future__ import annotations

import io
import os
import platform
import re
import shutil
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from importlib import import_module, metadata
from typing import Any

from lipwright.data.cache import cache_folder
from lipwright.data.errors import MissingPartError
from lipwright.pipeline.errors import in_words

EXTRAS = {
    "voice": "tells speech from music",
    "provenance": "signs what is rendered, and reads such signatures",
    "onnx": "writes a network as ONNX",
    "parquet": "writes a corpus as Parquet",
    "cluster": "preprocesses on many machines",
    "studio": "serves a page to check, train, render and edit from",
    "stream": "serves live mouths, sends them as OSC, hears a microphone",
    "demo": "the demo: speech to make a corpus of",
    "docs": "builds the documentation as a site",
    "base": "speech and phrases to train a base model on",
}
"""Extras of the package, and what each is for."""

ON_DEBIAN = {"PortAudio": "libportaudio2", ".so": "libgl1 libglib2.0-0 libxcb1"}
"""What an import's error tells of, and the packages of the system that have it."""

SHADOWS = ("opencv-contrib-python", "opencv-python-headless", "opencv-contrib-python-headless")
"""Packages that put another cv2 over that of opencv-python."""

ENCODERS = {"H.264": "libx264", "HEVC": "libx265", "ProRes": "prores_ks", "PNG": "png", "AAC": "aac"}
"""What is written, and FFmpeg's encoder for it."""


def examine() -> dict[str, Any]:
    """Look at what Lipwright runs on. Every package is imported, since one that is installed may still not load.

    Returns
    -------
    dict
        ``lipwright``, ``python``, ``system``, ``cores``; ``packages``: each with ``name``, ``needs``, ``version``, ``problem``;
        ``extras``: each with ``name``, ``use``, ``packages``, ``install`` (None: it is there); ``encoders``: by codec,
        whether it is there; ``devices``: what networks run on, best first, each with ``kind`` and ``name``;
        ``landmark_model``, ``cache``; ``problems``, in words: what Lipwright cannot do without; ``notes``: what comes yet.
    """
    required, extras = _packages()
    looks = (_shadows, _encoders, _devices, _landmark_model, _cache)
    found: dict[str, Any] = {
        "lipwright": metadata.version("lipwright"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "packages": required,
        "extras": extras,
    }
    problems = [package["problem"] for package in required if package["problem"]]
    for look in looks:
        seen, wrong = look()
        found |= seen
        problems += wrong
    return found | {"problems": problems, "notes": _notes(found)}


def _packages() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Look at the packages that Lipwright asks for, those of all users and those of each extra."""
    from packaging.requirements import Requirement

    modules = _modules()
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in metadata.requires("lipwright") or []:
        wish = Requirement(line)
        extra = re.search(r'extra == "(\w+)"', str(wish.marker))
        if wish.marker is None or extra:
            groups[extra[1] if extra else ""].append(_package(wish, modules))
    extras = []
    for name, use in EXTRAS.items():
        there = name in groups and all(package["problem"] is None for package in groups[name])
        install = None if there else f"pip install 'lipwright[{name}]'"
        if system := [hint for package in groups[name] for hint in _on_debian(package["problem"] or "")]:
            install = f"{install}; {system[0]}"
        extras.append({"name": name, "use": use, "packages": groups[name], "install": install})
    return groups[""], extras


def _package(wish: Any, modules: dict[str, list[str]]) -> dict[str, Any]:
    """Look at one package: is it there, is it of a version that serves, can it be imported?"""
    package = {"name": wish.name, "needs": str(wish.specifier), "version": None, "problem": None}
    install = f"pip install '{wish.name}{wish.specifier}'"
    try:
        package["version"] = metadata.version(wish.name)
    except metadata.PackageNotFoundError:
        return package | {"problem": f"{wish.name} is missing: {install}"}
    if not wish.specifier.contains(package["version"], prereleases=True):
        return package | {"problem": f"{wish.name} is {package['version']}, not {wish.specifier}: {install}"}
    try:
        with warnings.catch_warnings(action="ignore"), redirect_stdout(io.StringIO()):  # OpenCV prints that it lacks NumPy
            import_module(_main_module(wish.name, modules))
    except (Exception, SystemExit) as error:
        hint = next(iter(_on_debian(str(error))), f"{install} again")
        package["problem"] = f"{wish.name} {package['version']} cannot be imported ({in_words(error)}); {hint}"
    return package


def _on_debian(problem: str) -> list[str]:
    """Say how to get from the system what an import lacks, if that is known."""
    return [f"on Debian: apt-get install {names}" for sign, names in ON_DEBIAN.items() if sign in problem]


def _modules() -> dict[str, list[str]]:
    """Return the modules of every package that is installed."""
    modules = defaultdict(list)
    for module, packages in metadata.packages_distributions().items():
        for package in packages:
            modules[_normal(package)].append(module)
    return modules


def _main_module(package: str, modules: dict[str, list[str]]) -> str:
    """Return the module to import of a package: that of its name, else the first."""
    named = _normal(package).replace("-", "_")
    own = sorted(module for module in modules[_normal(package)] if not module.startswith("_"))
    return named if named in own or not own else own[0]


def _normal(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def _shadows() -> tuple[dict[str, Any], list[str]]:
    """Look for packages that lie over another's files."""
    there = {_normal(package.name) for package in metadata.distributions()}
    over = [name for name in SHADOWS if name in there]
    if not over or "opencv-python" not in there:
        return {}, []
    names = " ".join(over)
    again = "pip install --force-reinstall --no-deps opencv-python"
    return {}, [f"{names} and opencv-python both hold cv2, and one lies over the other: pip uninstall {names}; {again}"]


def _encoders() -> tuple[dict[str, Any], list[str]]:
    """Look at what FFmpeg, inside PyAV, can write."""
    try:
        from av.codec import codecs_available
    except Exception:  # told already: the package cannot be imported
        return {"encoders": dict.fromkeys(ENCODERS, False)}, []
    there = {codec: encoder in codecs_available for codec, encoder in ENCODERS.items()}
    missing = [codec for codec, is_there in there.items() if not is_there]
    words = f"PyAV cannot write {', '.join(missing)}; take its wheel: pip install --force-reinstall --only-binary av av"
    return {"encoders": there}, [words] if missing else []


def _devices() -> tuple[dict[str, Any], list[str]]:
    """Look at what networks can run on, best first."""
    try:
        import torch
    except Exception:
        return {"devices": []}, []
    with warnings.catch_warnings(action="ignore"):  # of an old driver, say: then it is not available
        cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    devices = []
    for k in range(cards):
        card = torch.cuda.get_device_properties(k)
        devices.append({"kind": "cuda", "name": f"{card.name}, {card.total_memory / 2**30:.0f} GiB"})
    if torch.backends.mps.is_available():
        devices.append({"kind": "mps", "name": platform.machine()})
    return {"devices": [*devices, {"kind": "cpu", "name": platform.machine()}]}, []


def _landmark_model() -> tuple[dict[str, Any], list[str]]:
    """Look for MediaPipe's model, and let it look at a picture."""
    try:
        from lipwright.data.landmarker import model_here

        path = model_here()
    except ImportError:  # told already
        return {"landmark_model": None}, []
    except (MissingPartError, OSError) as error:
        return {"landmark_model": None}, [in_words(error)]
    if path is None:
        return {"landmark_model": None}, []
    try:
        _look_at_nothing()
    except Exception as error:
        return {"landmark_model": str(path)}, [f"faces cannot be found: {in_words(error)}"]
    return {"landmark_model": str(path)}, []


def _notes(found: dict[str, Any]) -> list[str]:
    """Say what is not here yet, and comes by itself."""
    if found["landmark_model"] or any(package["problem"] for package in found["packages"]):
        return []
    from lipwright.data.landmarker import MODEL_NAME, MODEL_URL

    words = f"the face landmark model is not in {cache_folder()}: it is fetched when first needed; without a network, put"
    return [f"{words} {MODEL_NAME} there ({MODEL_URL})"]


def _look_at_nothing() -> None:
    import numpy as np

    from lipwright.data.landmarker import Landmarker

    with Landmarker() as landmarker:
        landmarker(np.zeros((64, 64, 3), np.uint8), 0.0)


def _cache() -> tuple[dict[str, Any], list[str]]:
    """Look at the folder of the cache: how large it is, how much room is left, can it be written to?"""
    try:
        folder = cache_folder()
    except OSError as error:
        return {"cache": None}, [f"the cache cannot be made: {in_words(error)}; name another folder in LIPWRIGHT_CACHE"]
    seen = {"folder": str(folder), "bytes": sum(_sizes(folder)), "free_bytes": shutil.disk_usage(folder).free}
    wrong = [] if os.access(folder, os.W_OK) else [f"{folder} cannot be written to; name another folder in LIPWRIGHT_CACHE"]
    return {"cache": seen}, wrong


def _sizes(folder: os.PathLike[str]) -> Iterator[int]:
    with suppress(FileNotFoundError, PermissionError):  # others may be at work there
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                yield from _sizes(entry)
            else:
                with suppress(FileNotFoundError):
                    yield entry.stat(follow_symlinks=False).st_size
