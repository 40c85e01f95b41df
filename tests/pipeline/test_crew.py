"""Many jobs are worked off, whatever becomes of the processes that do them: on one machine, and on a Ray cluster."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pytest

from lipwright.data.errors import InputError, LipwrightError, MissingPartError
from lipwright.data.landmarker import MODEL_NAME, model_path
from lipwright.pipeline import cluster, preprocess
from lipwright.pipeline.crew import work_off
from lipwright.pipeline.intake import ENDED
from lipwright.pipeline.preprocess import preprocess_corpus

TOIL = """
import os, signal, time
from pathlib import Path

def toil(folder, name, deed):
    times = Path(folder) / name
    with times.open("a") as file:
        file.write(f"{os.getpid()}\\n")
    first = len(times.read_text().splitlines()) == 1
    if deed == "dies once" and first:
        os.kill(os.getpid(), signal.SIGKILL)
    if deed == "dies":
        os.kill(os.getpid(), signal.SIGSEGV)
    if deed == "leaves":
        os._exit(3)
    while deed == "fails beside 0" and not Path(folder, "0.waits").exists():
        time.sleep(0.01)
    if deed in ("fails", "fails beside 0") or (deed == "fails once" and first):
        raise OSError(28, "No space left on device", "corpus")
    if deed == "waits" or (deed == "waits once" and first):
        try:
            times.with_suffix(".waits").touch()
            while deed == "waits" or not Path(folder, "go").exists():
                time.sleep(0.01)
        finally:
            times.with_suffix(".left").touch()
    return name, os.getpid()

def crash(*job):
    os.kill(os.getpid(), signal.SIGSEGV)

def given_up(folder, name, deed, how):
    return name, how

if os.environ.get("LAZY") == "yes":
    os._exit(4)
"""
"""Work that goes wrong in all ways: in a file of its own, as other processes import it."""


@pytest.fixture(scope="session")
def toil(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a module with `toil(folder, name, deed)`."""
    folder = tmp_path_factory.mktemp("toil")
    (folder / "toil.py").write_text(TOIL)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", str(folder), os.pathsep)
        yield importlib.import_module("toil")
    del sys.modules["toil"]


@pytest.fixture
def work(toil: Any, tmp_path: Path) -> Callable[..., Iterator[tuple[str, Any]]]:
    """Return a function that has jobs worked off, of those deeds by name."""

    def run(deeds: dict[str, str], **given: Any) -> Iterator[tuple[str, Any]]:
        jobs = ((str(tmp_path), name, deed) for name, deed in deeds.items())
        return work_off(toil.toil, jobs, given_up=toil.given_up, **given)

    return run


# One machine ----------------------------------------------------------------------------------------------------------


def test_a_job_whose_process_dies_is_done_in_the_end(work: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    deeds = {str(k): "" for k in range(8)} | {"2": "dies once"}
    done = list(work(deeds, workers=2))
    assert sorted(name for name, _ in done) == sorted(deeds)
    assert done[-1][0] == "2"
    assert len((tmp_path / "2").read_text().splitlines()) == 2
    assert "SIGKILL" in caplog.text
    assert len({process for _, process in done}) <= 2 + 2
    assert active_children() == []


def test_a_job_that_always_ends_its_process_is_given_up_alone(work: Any, tmp_path: Path) -> None:
    deeds = {str(k): "" for k in range(6)} | {"1": "dies", "3": "leaves"}
    done = dict(work(deeds, workers=2))
    assert done.keys() == deeds.keys()
    assert (done["1"], done["3"]) == ("SIGSEGV", "exit code 3")
    assert all(isinstance(done[name], int) for name in deeds if not deeds[name])
    assert [len((tmp_path / name).read_text().splitlines()) for name in ("1", "3")] == [2, 2]


def test_what_work_raises_ends_the_run(work: Any, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"No space left on device.*corpus") as caught:
        list(work({"0": "waits", "1": "fails beside 0", "2": ""}, workers=2))
    assert "in toil" in caught.value.__notes__[0]
    assert (tmp_path / "0.left").exists()
    assert active_children() == []


def test_a_run_that_is_left_ends_its_processes_cleanly(work: Any, tmp_path: Path) -> None:
    run = work({"0": "waits", "1": "", "2": ""}, workers=2)
    next(run)
    while not (tmp_path / "0").exists():
        time.sleep(0.01)
    run.close()
    assert (tmp_path / "0.left").exists()
    assert active_children() == []


def test_jobs_are_read_as_they_are_needed(toil: Any, tmp_path: Path) -> None:
    read = 0

    def jobs() -> Iterator[tuple[str, str, str]]:
        nonlocal read
        for read in range(1, 1001):
            yield str(tmp_path), str(read), ""

    run = work_off(toil.toil, jobs(), given_up=toil.given_up, workers=2)
    for _ in range(10):
        next(run)
    assert read <= 10 + 2 * 3
    run.close()


def test_a_single_job_too_has_a_process(work: Any) -> None:
    assert list(work({"0": "dies"}, workers=2)) == [("0", "SIGSEGV")]
    assert list(work({}, workers=2)) == []


def test_a_video_that_ends_its_process_is_a_row_also_where_all_others_are_done(
    toil: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, bad = (tmp_path / f"{name}.mp4" for name in ("done", "bad"))
    done.write_text("no video")
    bad.write_text("no video either")
    preprocess_corpus([done], tmp_path / "corpus")
    monkeypatch.setattr(preprocess, "take_in", toil.crash)
    rows = preprocess_corpus([done, bad], tmp_path / "corpus")["clips"]
    assert {row["path"]: f"{ENDED} (SIGSEGV)" in row["reason"] for row in rows} == {str(done): False, str(bad): True}


def test_processes_end_with_their_parent_however_that_ended(toil: Any, tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        "import sys, toil\n"
        "from lipwright.pipeline.crew import work_off\n"
        "if __name__ == '__main__':\n"
        "    jobs = [(sys.argv[1], name, 'waits') for name in ('0', '1')]\n"
        "    list(work_off(toil.toil, jobs, given_up=toil.given_up, workers=2))\n"
    )
    run = subprocess.Popen([sys.executable, script, tmp_path], stdout=subprocess.PIPE)
    while not (tmp_path / "0").exists() or not (tmp_path / "1").exists():
        assert run.poll() is None
        time.sleep(0.01)
    run.kill()
    try:
        run.communicate(timeout=20)  # until nobody is left who could write there
    except subprocess.TimeoutExpired:
        for name in ("0", "1"):
            os.kill(int((tmp_path / name).read_text()), signal.SIGKILL)
        raise


def test_processes_that_do_not_start_are_told(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAZY", "yes")
    with pytest.raises(LipwrightError, match=r"no process can be started \(exit code 4\)"):
        list(work({"0": "", "1": ""}, workers=2))


# A cluster ------------------------------------------------------------------------------------------------------------


def kill_tracker(video: Path) -> int:
    """Wait for another process to look for faces in a video, kill it, and return its id."""
    while True:
        for link in Path("/proc").glob("[0-9]*/fd/*"):
            pid = int(link.parts[2])
            with suppress(OSError):  # of somebody else, or gone
                if pid != os.getpid() and link.readlink() == video and "mediapipe" in Path(f"/proc/{pid}/maps").read_text():
                    os.kill(pid, signal.SIGKILL)
                    return pid
        time.sleep(0.01)


@pytest.fixture(scope="module")
def machines(toil: Any) -> Iterator[Any]:
    """Return a Ray cluster of two machines with one core each; this machine plays them both."""
    # In /tmp: sockets have names of at most 107 characters.
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ray") as folder:
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # it listens on this machine alone
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else it writes to ~/.ray
        patch.setenv("RAY_TMPDIR", folder)
        (Path(folder) / "ray").mkdir()  # where it notes its address: it makes its other folders itself
        patch.setenv("RAY_health_check_period_ms", "200")  # five in vain, and a machine is lost
        patch.setattr(cluster, "RETRIES", 1)
        before = signal.getsignal(signal.SIGTERM)
        try:
            cluster.import_ray()
        except MissingPartError as error:
            pytest.skip(str(error))
        from ray.cluster_utils import Cluster

        least = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
        there = Cluster(initialize_head=True, head_node_args=least | {"include_dashboard": False})
        there.add_node(**least)
        yield there
        there.shutdown()
        signal.signal(signal.SIGTERM, before)


def test_on_a_cluster_too_deaths_and_failures_take_no_job_along(
    work: Any, machines: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    deeds = {str(k): "" for k in range(8)} | {"2": "dies once", "4": "dies", "6": "fails once"}
    done = dict(work(deeds, ray=machines.address))
    assert done.keys() == deeds.keys()
    assert done["4"] == "WorkerCrashedError"
    assert all(isinstance(done[name], int) for name in deeds if name != "4")
    assert [len((tmp_path / name).read_text().splitlines()) for name in ("2", "4", "6")] == [2, 2, 2]
    assert "gets no more work: [Errno 28] No space left on device" in caplog.text
    assert "".join(capfd.readouterr()) == ""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="tells who reads a video by /proc")
def test_videos_give_the_same_corpus_on_a_cluster_whose_process_is_killed_at_one(
    talk: Any, machines: Any, tmp_path: Path, bars: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    video = tmp_path / "talk.mp4"
    video.write_bytes(talk.path.read_bytes() + b"\0\0\0\x08free")  # an empty box: no cache holds its track
    sources = [video, bars(name="mute.mp4")]
    killed: list[int] = []
    killer = threading.Thread(target=lambda: killed.append(kill_tracker(video)), daemon=True)
    killer.start()
    preprocess_corpus(sources, tmp_path / "there", ray=machines.address)
    killer.join(1)
    assert killed != []
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / MODEL_NAME).symlink_to(model_path().resolve())
    monkeypatch.setenv("LIPWRIGHT_CACHE", str(tmp_path / "cache"))
    for source in sources:  # one by one in this process, where all libraries are loaded
        preprocess_corpus([source], tmp_path / "here")
    here, there = (
        {path.name: path.read_bytes() for path in (tmp_path / name).rglob("*.[js]*") if path.suffix != ".html"}
        for name in ("here", "there")
    )
    assert sorted(Path(name).suffix for name in here) == [".json", ".jsonl", ".safetensors"]
    assert there == here


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="tells which machine a process is on by /proc")
def test_a_machine_that_is_lost_takes_no_job_along_and_a_run_that_is_left_ends_cleanly(
    work: Any, machines: Any, tmp_path: Path
) -> None:
    left = work({"1": "", "2": "waits"}, ray=machines.address)
    assert next(left)[0] == "1"
    while not (tmp_path / "2").exists():
        time.sleep(0.01)
    left.close()
    assert (tmp_path / "2.left").exists()

    run, done = work({"3": "waits once", "4": "waits once"}, ray=machines.address), []
    reader = threading.Thread(target=lambda: done.extend(run))
    reader.start()
    at_work = [tmp_path / name for name in "34"]
    while not all(path.exists() and path.read_text() for path in at_work):
        time.sleep(0.01)
    lost = machines.worker_nodes.copy().pop()
    raylet = lost.all_processes["raylet"][0].process.pid
    (its,) = [pid for path in at_work if parent_of(pid := int(path.read_text())) == raylet]
    machines.remove_node(lost, allow_graceful=False)
    os.kill(its, signal.SIGKILL)  # on a machine of its own it would be gone, too
    (tmp_path / "go").touch()
    reader.join(60)
    assert sorted(name for name, _ in done) == ["3", "4"]
    assert its not in {pid for _, pid in done}
    assert sorted(len(path.read_text().splitlines()) for path in at_work) == [1, 2]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:1", r"no Ray cluster answers at 127\.0\.0\.1:1 .*ray start --head"),
        ("auto", "'auto' is no address of a Ray cluster; give HOST:PORT"),
        ("ray://head:10001", "give HOST:PORT"),
    ],
)
def test_an_address_where_nobody_answers_is_told(work: Any, address: str, words: str) -> None:
    pytest.importorskip("ray", reason="Ray is not installed; pip install 'lipwright[cluster]'")
    with pytest.raises(InputError, match=words):
        list(work({"0": ""}, ray=address))


def test_a_missing_ray_is_told(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPartError, match=r"pip install 'lipwright\[cluster\]'"):
        list(work({"0": ""}, ray="127.0.0.1:1"))
