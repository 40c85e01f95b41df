"""Commands whose process need not load the libraries again: a short one does little else.

One command a line comes on stdin, as JSON; its process's id goes to stdout, and its exit code once it has ended. Each is a
fork of this process, which has loaded libraries and run nothing: it loads Lipwright itself, and runs as the installed command.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import sys
from importlib import import_module
from typing import NoReturn

import numpy as np

LIBRARIES = (
    "av", "cv2", "librosa", "matplotlib.pyplot", "mediapipe", "rich.progress", "scenedetect", "scipy.signal",
    "skimage.metrics", "sklearn.decomposition", "sklearn.linear_model", "soundfile", "soxr", "torch._dynamo",
    "torch.utils.tensorboard", "typer",
)  # fmt: skip


def main() -> None:
    """Fork for each command; a fork becomes it."""
    loaded = {library: import_module(library) for library in LIBRARIES}
    loaded["librosa"].feature.mfcc(y=np.zeros(16000, np.float32), sr=16000)  # loads what numba has compiled
    gc.freeze()
    for line in sys.stdin:
        process = os.fork()
        if not process:
            become(**json.loads(line))
        print(process, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


def become(words: list[str], cwd: str, env: dict[str, str], out: str, err: str) -> NoReturn:
    """Run a command in this process, which is a fork, and end with it."""
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    fresh = os.O_WRONLY | os.O_CREAT
    for number, (name, flags) in enumerate(((os.devnull, os.O_RDONLY), (out, fresh), (err, fresh))):
        os.dup2(os.open(name, flags), number)
    sys.argv = ["lipwright", *words]
    from lipwright.pipeline.cli import main as run

    try:
        run()
    except SystemExit as end:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(end.code or 0))  # to take the libraries down takes seconds
    raise AssertionError("the command has not ended")


if __name__ == "__main__":
    main()
