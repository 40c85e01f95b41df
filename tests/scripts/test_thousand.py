"""A folder of good and broken clips through the real command, killed and begun again; and that the script would see a fault."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("espeakng_loader", reason="clips that talk need the extra demo")

SCRIPT = Path(__file__).parents[2] / "scripts" / "thousand.py"
_spec = importlib.util.spec_from_file_location("thousand", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
thousand = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(thousand)


def test_what_a_killed_run_left_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    words = [sys.executable, str(SCRIPT), "--out", str(tmp_path / "out"), "--clips", "14", "--kills", "1"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / "out" / "thousand.json").read_text())
    assert (told["clips"]["ok"], len(told["clips"]), told["exit_code"]) == (4, 11, 5)
    assert len(told["killed_at"]) == 1
    assert 0 < told["killed_at"][0] <= 4
    assert (told["wrong"], told["differences"]) == ([], [])

    whole, killed = tmp_path / "out" / "whole", tmp_path / "out" / "killed"
    paths = [str(path) for path in (tmp_path / "out" / "clips").glob("*/*")]
    assert len(list(thousand.wrong(whole, dict.fromkeys(paths, "ok")))) == 10
    for way in thousand.WAYS:
        assert sum(line.endswith("['ok']") for line in thousand.wrong(whole, dict.fromkeys(paths, way))) == 4
    one = thousand.clip_files(killed)[2]
    one.write_bytes(one.read_bytes()[:-1])
    (killed / "clips" / ".left.partial").touch()
    assert thousand.differences(whole, killed) == sorted([one.name, ".left.partial"])
    (killed / "manifest.jsonl").write_text("")
    assert len(list(thousand.wrong(killed, dict.fromkeys(paths, "ok")))) == 14


@pytest.mark.parametrize("clips", [11, 37, 1000])
def test_every_way_of_being_broken_is_in_the_plan(clips: int) -> None:
    kinds = thousand.plan(clips)
    assert len(kinds) == clips
    counts = {kind: kinds.count(kind) for kind in thousand.WAYS}
    assert min(counts.values()) >= 1
    assert max(counts.values()) - min(counts.values()) <= 1
    assert sum(counts.values()) == max(10, clips // 20)
