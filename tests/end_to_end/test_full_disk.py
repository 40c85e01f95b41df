"""A disk that runs full while a corpus is made: what is finished stays, the rest is done with room again, to the same bytes."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

EXIT_INPUT = 3
PAGE = 4096
SMALL_DISK = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec"]
"""A shell that may mount disks that nobody else sees."""

# Arguments of the shell: the command, the folder to mount on, the first size, where to copy the corpus to, the videos.
FILL = """
command=$1 disk=$2 room=$3 copy=$4; shift 4
mount -t tmpfs -o size=$room tmpfs $disk
code=0; $command preprocess "$@" --out $disk/corpus --workers 1 -q || code=$?
$command corpus list $disk/corpus
mount -o remount,size=100m $disk
$command preprocess "$@" --out $disk/corpus --workers 1 -q
cp -r $disk/corpus $copy
exit $code
"""


def can_mount() -> bool:
    try:
        return subprocess.run([*SMALL_DISK, "mount -t tmpfs tmpfs /mnt"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def whole(talk: Any, lipwright: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Path]:
    """Two videos that show the same, and the corpus of them that never lacked room."""
    folder = tmp_path_factory.mktemp("whole")
    videos = [folder / "ann.mp4", folder / "bob.mp4"]
    videos[0].write_bytes(talk.path.read_bytes())
    videos[1].write_bytes(talk.path.read_bytes() + b"\0\0\0\x0cfreebob!")  # a box of no meaning: other bytes
    assert lipwright("preprocess", *videos, "--out", "corpus", "--workers", 1, "-q", cwd=folder).code == 0
    return videos, folder / "corpus"


def files(corpus: Path) -> dict[str, bytes]:
    """What a corpus is made of; its report has the disk's own name in it."""
    paths = [path for path in sorted(corpus.rglob("*")) if path.is_file() and path.name not in (".lock", "report.html")]
    return {str(path.relative_to(corpus)): path.read_bytes() for path in paths}


@pytest.mark.skipif(not can_mount(), reason="needs a disk of its own")
@pytest.mark.parametrize(("full_in", "clips"), [("the second clip", 1), ("the report", 2)])
def test_a_full_disk_loses_nothing(
    lipwright: Any, whole: tuple[list[Path], Path], tmp_path: Path, full_in: str, clips: int
) -> None:
    videos, corpus = whole
    sizes = [path.stat().st_size for path in sorted((corpus / "clips").iterdir())]
    pages = {"the second clip": 3 + 1.5 * sizes[0] // PAGE, "the report": 8 + sum(-(-s // PAGE) for s in sizes)}
    disk = tmp_path / "disk"
    disk.mkdir()
    words = [str(lipwright.path), str(disk), str(round(pages[full_in] * PAGE)), str(tmp_path / "copy"), *map(str, videos)]
    done = subprocess.run([*SMALL_DISK, FILL, "sh", *words], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == EXIT_INPUT, done.stderr
    assert "No space left on device" in done.stderr
    assert done.stdout.count(" ok ") == clips
    assert files(tmp_path / "copy") == files(corpus)
