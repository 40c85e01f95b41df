"""Several processes train one network: the same as one process would, and one of them speaks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from lipwright.data.cache import cache_folder
from lipwright.data.files import own_mark
from lipwright.data.scratch import scratch_folder
from lipwright.pipeline.course import FIT_FILE
from lipwright.pipeline.processes import team
from lipwright.pipeline.record import METRICS_FILE
from lipwright.pipeline.settings import TrainSettings
from lipwright.pipeline.train import train_model

Maker = Callable[..., Path]

# 17 streams of 0.4 s over 17 s are 25 steps an epoch, and do not divide by two.
SETTINGS = TrainSettings(
    epochs=1,
    hidden=12,
    layers=1,
    bptt_s=0.4,
    streams=17,
    delay_ms=60.0,
    dropout=0.0,
    input_dropout=0.0,
    averaging=0.9,
    members=2,
    mixup=0.0,
    augment=(),
    hushed_share=0.0,
    refit=False,
)
STEPS = 25


def torchrun(*command: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *command],
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("change", ["", "direction='whole', delay_ms=None", "direction='both', cell='gru'"])
def test_two_processes_train_as_one(toy_corpus: Maker, tmp_path: Path, change: str) -> None:
    corpus = toy_corpus(tmp_path / "corpus")
    script = tmp_path / "train.py"
    script.write_text(
        "import sys\nfrom dataclasses import replace\n"
        "from lipwright.pipeline.settings import TrainSettings\nfrom lipwright.pipeline.train import train_model\n"
        f"settings = replace({SETTINGS!r}, {change})\n"
        "if __name__ == '__main__':\n    train_model(sys.argv[1], sys.argv[2], settings, device='cpu', seed=3)\n"
    )
    done = torchrun(str(script), str(corpus), str(tmp_path / "two"))
    assert done.returncode == 0, done.stderr
    subprocess.run([sys.executable, str(script), str(corpus), str(tmp_path / "one")], check=True)
    one, two = (load_file(tmp_path / name / FIT_FILE) for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert one["search.adam.0.step"] == two["search.adam.0.step"] == STEPS
    for name in one:
        np.testing.assert_allclose(two[name], one[name], atol=1e-5, err_msg=name)
    rows = [json.loads((tmp_path / name / METRICS_FILE).read_text()) for name in ("one", "two")]
    for key in rows[0]:
        assert rows[1][key] == pytest.approx(rows[0][key], abs=1e-5), key
    # The weights are still on their way, by far more than the tolerance: their running average lags behind.
    weight = "members.0.read_out.weight"
    assert np.abs(one[f"search.network.{weight}"] - one[f"search.average.{weight}"]).max() > 1e-3


def test_processes_share_one_file_of_two_corpora(toy_corpus: Maker, tmp_path: Path) -> None:
    first, second = toy_corpus(tmp_path / "first", (12.0,)), toy_corpus(tmp_path / "second", (12.0, 14.0), seed=1)
    script = tmp_path / "train.py"
    script.write_text(
        "import sys\nfrom dataclasses import replace\nfrom lipwright.data.corpus import Corpus\n"
        "from lipwright.pipeline import sequences\nsequences.LEAST_HUSHED_S = 20.0\n"
        "from lipwright.pipeline.settings import TrainSettings\nfrom lipwright.pipeline.train import train_model\n"
        f"settings = replace({SETTINGS!r}, hushed_share=0.2)\n"
        "def count(corpus, clip_id, load=Corpus.load_clip):\n    print('read', clip_id, flush=True)\n"
        "    return load(corpus, clip_id)\nCorpus.load_clip = count\n"
        "if __name__ == '__main__':\n    train_model(sys.argv[2:], sys.argv[1], settings, device='cpu', seed=3)\n"
    )
    done = torchrun(str(script), str(tmp_path / "two"), str(first), str(second))
    assert done.returncode == 0, done.stderr
    alone = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "one"), str(first), str(second)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert sorted(done.stdout.split()) == sorted(alone.stdout.split())  # one process of the machine reads, for both
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name in one:
        np.testing.assert_allclose(two[name], one[name], atol=1e-5, err_msg=name)
    assert [path.name for path in cache_folder().glob(".*")] == []


def test_of_several_processes_one_speaks(toy_corpus: Maker, tmp_path: Path) -> None:
    corpus = toy_corpus(tmp_path / "corpus")
    lipwright = str(Path(sys.executable).parent / "lipwright")
    train = ("--no-python", lipwright, "train", str(corpus), "--out", str(tmp_path / "run"), "--json", "--device", "cpu")
    train += ("--init", "none", "--hidden", "8", "--layers", "1", "--epochs", "2")
    done = torchrun(*train)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["epochs"] in (1, 2)
    more = torchrun(*train, "--resume")
    assert more.returncode == 0, more.stderr
    assert len((tmp_path / "run" / METRICS_FILE).read_text().splitlines()) == 2 + json.loads(done.stdout)["epochs"]
    again = torchrun(*train)
    assert again.returncode != 0
    assert "already exists" in again.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["corpus", "run"]


WAITS = """
import sys, time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
import torch
from torch import distributed
from lipwright.data.corpus import Corpus
from lipwright.data.errors import CorpusError
from lipwright.pipeline.processes import team
from lipwright.pipeline.sequences import load_sequences

folder, said = Path(sys.argv[1]), []
with team(torch.device("cpu")) as ours:
    ours.wait()
    distributed.distributed_c10d._set_pg_timeout(timedelta(seconds=1), distributed.group.WORLD)  # torch's is half an hour
    for name, machines in (("broken", 1), ("whole", 1), ("whole", 2), ("other", 2)):
        seen = folder / ("whole" if name == "other" and ours.rank == 0 else name)
        try:
            load_sequences(Corpus.load(seen), team=replace(ours, local_rank=0) if machines == 2 else ours)
            said.append("read")
        except CorpusError as error:
            said.append(str(error))
    late = ours.rank == 0
    time.sleep(2 * late)
    said.append(ours.told(ours.rank))
    ours.wait()
    time.sleep(2 * late)
    try:
        ours.total(torch.ones(1))
    except RuntimeError:
        said.append("too late")
    (folder / str(ours.rank)).write_text("\\n".join(map(str, said)))
    ours.wait()
"""


def test_processes_share_errors_and_wait_for_work_alone(toy_corpus: Maker, tmp_path: Path) -> None:
    for name, seed in (("broken", 0), ("whole", 0), ("other", 0)):
        toy_corpus(tmp_path / name, (12.0,) if name == "other" else (11.0,), seed=seed)
    (clip,) = (tmp_path / "broken" / "clips").iterdir()
    clip.write_bytes(clip.read_bytes()[:5000])
    script = tmp_path / "read.py"
    script.write_text(WAITS)
    done = torchrun(str(script), str(tmp_path))
    assert done.returncode == 0, done.stderr
    for rank in "01":
        broken, *whole, other, first, late = (tmp_path / rank).read_text().splitlines()
        assert clip.name in broken
        assert "run lipwright preprocess again" in broken
        assert whole == ["read", "read"]
        assert "give every machine the same" in other
        assert (first, late) == ("0", "too late")


def test_what_killed_processes_left_goes_with_the_next_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIPWRIGHT_CACHE", str(tmp_path))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with scratch_folder() as folder:
        left = folder.rename(tmp_path / folder.name.replace(own_mark(), f"{dead.pid}-1"))
    with team(torch.device("cpu")) as ours:
        assert ours.size == 1
        assert not left.exists()


def test_more_processes_than_streams_are_refused(toy_corpus: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import nullcontext

    from lipwright.data.errors import InputError
    from lipwright.pipeline import train
    from lipwright.pipeline.processes import Team

    monkeypatch.setattr(train, "team", lambda device: nullcontext(Team(0, 18)))
    with pytest.raises(InputError, match="17 streams cannot be shared by 18 processes"):
        train_model(toy_corpus(tmp_path / "corpus"), tmp_path / "run", SETTINGS, device="cpu")
