"""The studio without a browser: it gives out nothing but its files; its jobs wait for each other and are remembered."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from lipwright.data.edits import Edit
from lipwright.data.errors import InputError
from lipwright.data.mouth import load_track
from lipwright.pipeline.course import FIT_FILE
from lipwright.pipeline.studio import open_studio
from lipwright.pipeline.studio.jobs import QUEUED, RUNNING, Job, JobQueue
from lipwright.pipeline.studio.work import CONSENTS, FIRST, FOOTAGE, RENDERS, RUNS, SOUNDS, Project, WorkFolder, plain_name
from lipwright.pipeline.studio.worker import DONE, FAILED, STOPPED

PATIENCE_S = 120.0
MOST_MB = 2.0


@pytest.fixture
def work(tmp_path: Path) -> Iterator[WorkFolder]:
    """Return an empty work folder."""
    folder = WorkFolder(tmp_path / "work")
    yield folder
    folder.close()


@pytest.fixture
def jobs(work: WorkFolder) -> Iterator[JobQueue]:
    """Return the jobs of the work folder."""
    queue = JobQueue(work)
    yield queue
    queue.close()


def _bring(work: WorkFolder, path: Path, kind: str, name: str | None = None) -> str:
    upload = work.uploads / "x" / (name or path.name)
    upload.parent.mkdir(exist_ok=True)
    shutil.copy(path, upload)
    return work.project(FIRST).take_in(kind, work.upload(str(upload)))


def _until(jobs: JobQueue, job: Job, when: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not when():
        assert job.state in (QUEUED, RUNNING), f"{job.state}: {job.words}"
        assert time.monotonic() < end, "it never came so far"
        time.sleep(0.02)


# The folder -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("Ann", "Ann"), ("../../etc/passwd", "etc-passwd"), ("a/b\\c", "a-b-c"), (" .hidden ", "hidden"),
        ("Zoë  Šimić", "Zoë Šimić"), ("a\0b\nc", "a-b c"), ("x" * 300, "x" * 80), ("é" * 300, "é" * 40),
        ("<img src=x>", "img src-x"),
    ],
)  # fmt: skip
def test_names_are_what_any_file_system_takes(given: str, name: str) -> None:
    assert plain_name(given) == name


@pytest.mark.parametrize("given", ["", "..", "///", "\0", "…"])
def test_a_name_of_nothing_is_refused(given: str) -> None:
    with pytest.raises(InputError, match="another name"):
        plain_name(given)


def test_what_comes_in_is_looked_at(work: WorkFolder, talk: Any, tmp_path: Path) -> None:
    project = work.project(FIRST)
    assert _bring(work, talk.path, FOOTAGE, "talk.MP4") == "talk.mp4"
    assert _bring(work, talk.path, FOOTAGE, "talk.mp4") == "talk 2.mp4"
    assert _bring(work, talk.path, SOUNDS, "speech.mp4") == "speech.mp4"
    (tmp_path / "a.txt").write_text("yes")
    assert _bring(work, tmp_path / "a.txt", CONSENTS) == "a.txt"
    with pytest.raises(InputError, match="is not one of"):
        _bring(work, tmp_path / "a.txt", FOOTAGE)
    with pytest.raises(InputError, match=r"^fake.mp4 cannot be read"):
        _bring(work, tmp_path / "a.txt", FOOTAGE, "fake.mp4")
    assert project.names(FOOTAGE) == ["talk.mp4", "talk 2.mp4"]
    assert [path for path in work.uploads.rglob("*") if path.is_file()] == []


def test_a_long_name_keeps_its_end_and_what_is_made_of_it_has_its_own(work: WorkFolder, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("yes")
    for name, taken in (("x" * 200, "x" * 76), ("x" * 200, f"{'x' * 74} 2"), ("ж" * 90, "ж" * 38), ("ж" * 90, "ж" * 37 + " 2")):
        assert _bring(work, tmp_path / "a", CONSENTS, f"{name[:100]}.txt") == f"{taken}.txt"
    project = work.project(FIRST)
    out = f"{plain_name('ж' * 90)} 7.mp4"
    assert project.place(RENDERS, out).name == out
    assert len({project.place(RENDERS, out), project.place(RENDERS, f"{out}.json"), project.mouth(out)}) == 3


def test_what_lies_elsewhere_is_not_taken_in(work: WorkFolder, talk: Any) -> None:
    (work.uploads / "link.mp4").symlink_to(talk.path)
    for path in (talk.path, work.uploads / "link.mp4", work.uploads / ".." / ".lock", work.uploads / "gone.mp4"):
        with pytest.raises(InputError, match="not come in"):
            work.upload(str(path))
    assert talk.path.is_file()


def test_one_studio_at_a_time_works_in_a_folder(work: WorkFolder) -> None:
    with pytest.raises(InputError, match="open in another studio"):
        WorkFolder(work.folder)


def test_projects_have_names_of_their_own(work: WorkFolder) -> None:
    assert work.projects() == [FIRST]
    assert work.project("Ann / Bob", new=True).name == "Ann - Bob"
    with pytest.raises(InputError, match="already"):
        work.project("Ann - Bob", new=True)
    for name in ("nobody", "", "..", "../.uploads"):
        with pytest.raises(InputError, match="there is no project"):
            work.project(name)


# Over HTTP ------------------------------------------------------------------------------------------------------------


COMMAND = Path(sysconfig.get_path("scripts")) / "lipwright"


@dataclass(frozen=True)
class Served:
    """The address of a studio, and its folder."""

    url: str
    folder: Path

    @property
    def project(self) -> Project:
        return Project(self.folder / "projects" / FIRST)


@pytest.fixture(scope="module")
def studio(talk: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Return a studio that the command has opened, with a video."""
    work = WorkFolder(tmp_path_factory.mktemp("studio") / "work")
    _bring(work, talk.path, FOOTAGE)
    work.close()
    words = [COMMAND, "studio", "--port", "0", "--work", work.folder, "--upload-mb", str(MOST_MB), "--json"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    told = "".join(iter(process.stdout.readline, "}\n")) + "}"
    try:
        yield Served(json.loads(told)["url"], work.folder)
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "lipwright: stopped\n")


def _ask(studio: Served, path: str, method: str = "GET", body: Any = None, **headers: str) -> tuple[int, bytes, Any]:
    host = studio.url.removeprefix("http://").rstrip("/")
    connection = http.client.HTTPConnection(host, timeout=60)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, {"Host": host} | named, encode_chunked="transfer-encoding" in named)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content, answer.headers


def test_files_of_the_folder_are_given_out_also_in_parts(studio: Served, talk: Any) -> None:
    whole = talk.path.read_bytes()
    path = f"/work/{FIRST}/{FOOTAGE}/{talk.path.name}"
    code, content, headers = _ask(studio, path)
    assert (code, content == whole, headers["content-type"]) == (200, True, "video/mp4")
    assert "default-src 'self'" in headers["content-security-policy"]
    code, content, _ = _ask(studio, path, range="bytes=100-199")
    assert (code, content) == (206, whole[100:200])
    _, _, headers = _ask(studio, f"{path}?download=1")
    assert headers["content-disposition"].startswith("attachment")


def test_nothing_else_is_given_out(studio: Served, talk: Any) -> None:
    project = studio.project
    secret = studio.folder.parent / "secret.mp4"
    secret.write_bytes(b"secret")
    (project.folder / FOOTAGE / "link.mp4").symlink_to(secret)
    (project.folder / CONSENTS).mkdir(exist_ok=True)
    (project.folder / CONSENTS / "record.txt").write_text("secret")
    up = "..%2f" * 3
    paths = [
        f"/work/{FIRST}/{FOOTAGE}/link.mp4",
        f"/work/{FIRST}/{FOOTAGE}/{up}secret.mp4",
        f"/work/{FIRST}/{FOOTAGE}/../../../../secret.mp4",
        f"/work/{up}/{FOOTAGE}/secret.mp4",
        f"/work/{FIRST}/{CONSENTS}/record.txt",
        f"/work/{FIRST}/corpus/corpus.json",
        f"/work/{FIRST}/../.lock",
        f"/gradio_api/file={secret}",
        f"/gradio_api/file={project.folder}/{FOOTAGE}/{talk.path.name}",
        "/gradio_api/file=http://127.0.0.1/",
        "/gradio_api/proxy=http://127.0.0.1/",
        "/gradio_api/info", "/gradio_api/openapi.json", "/gradio_api/runs", "/gradio_api/vibe-code", "/docs", "/openapi.json",
        f"/static/..%2f..%2f{up}etc/passwd", "/assets/..%2f..%2f..%2fetc%2fpasswd", "/monitoring",
    ]  # fmt: skip
    for path in paths:
        code, content, _ = _ask(studio, path)
        assert code in (403, 404), path
        assert b"secret" not in content
        assert b"root:" not in content
    for method in ("POST", "PUT", "DELETE"):
        assert _ask(studio, f"/work/{FIRST}/{FOOTAGE}/{talk.path.name}", method)[0] in (404, 405)


def test_pages_elsewhere_cannot_use_it(studio: Served) -> None:
    host = studio.url.removeprefix("http://").rstrip("/")
    assert _ask(studio, "/", Host="attacker.example")[0] == 403
    assert _ask(studio, "/", Origin="http://attacker.example")[0] == 403
    assert _ask(studio, "/", Origin="null")[0] == 403
    assert _ask(studio, "/gradio_api/queue/join", "POST", b"{}", Origin=f"http://{host}.attacker.example")[0] == 403
    for site in ("cross-site", "same-site"):
        for path in ("/", f"/work/{FIRST}/{FOOTAGE}/talk.mp4"):
            assert _ask(studio, path, Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors")[0] == 403
        assert _ask(studio, "/", Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate")[0] == 200
    assert _ask(studio, "/", Sec_Fetch_Site="same-origin", Sec_Fetch_Mode="no-cors")[0] == 200
    assert _ask(studio, "/", Origin=f"http://{host}")[0] == 200
    assert _ask(studio, "/", Host=host.replace("127.0.0.1", "localhost"))[0] == 200


def _form(content: bytes, name: str = "a.mp4") -> tuple[bytes, str]:
    head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
    return head + content + b"\r\n--x--\r\n", "multipart/form-data; boundary=x"


def test_an_upload_is_limited(studio: Served) -> None:
    body, kind = _form(bytes(100))
    code, content, _ = _ask(studio, "/gradio_api/upload", "POST", body, Content_Type=kind)
    (path,) = json.loads(content)
    assert code == 200
    assert Path(path).is_relative_to(studio.folder / ".uploads")
    large, kind = _form(bytes(round(MOST_MB * 1e6) + 20_000))
    code, content, _ = _ask(studio, "/gradio_api/upload", "POST", large, Content_Type=kind)
    assert (code, b"maximum allowed size" in content) == (413, True)
    several = b"".join(_form(bytes([k]) * round(MOST_MB * 0.9e6), f"{k}.mp4")[0].removesuffix(b"--x--\r\n") for k in range(3))
    code, content, _ = _ask(studio, "/gradio_api/upload", "POST", several + b"--x--\r\n", Content_Type=kind)
    assert (code, len(json.loads(content))) == (200, 3)
    code, _, _ = _ask(studio, "/gradio_api/upload", "POST", iter([body]), Content_Type=kind, transfer_encoding="chunked")
    assert code == 411


def test_a_broken_upload_is_swept_away(studio: Served) -> None:
    left = studio.folder / ".uploads" / "tmpleft"
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    body, kind = _form(b"x")
    assert _ask(studio, "/gradio_api/upload", "POST", body, Content_Type=kind)[0] == 200
    assert not left.exists()


def test_a_port_that_is_taken_is_said_with_exit_code_3(studio: Served, tmp_path: Path) -> None:
    port = int(studio.url.rstrip("/").rpartition(":")[2])
    with pytest.raises(InputError, match=f"port {port} is taken"), open_studio(tmp_path / "w", port=port):
        pass
    command = [COMMAND, "studio", "--port", str(port), "--work", tmp_path / "w"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout) == (3, "")
    assert ran.stderr.startswith(f"lipwright: port {port} is taken")


# Jobs -----------------------------------------------------------------------------------------------------------------


def test_jobs_wait_for_each_other_and_are_remembered(work: WorkFolder, jobs: JobQueue, talk: Any, tmp_path: Path) -> None:
    video = _bring(work, talk.path, FOOTAGE)
    first = jobs.ask(FIRST, "check", {"video": video})
    _until(jobs, first, lambda: first.state == RUNNING)
    second = jobs.ask(FIRST, "check", {"video": video})
    third = jobs.ask(FIRST, "check", {"video": "gone.mp4"})
    with pytest.raises(InputError, match="waiting already"):
        jobs.ask(FIRST, "check", {"video": video})
    assert [first.state, second.state, third.state] == [RUNNING, QUEUED, QUEUED]
    jobs.cancel(second.number)
    assert (second.state, second.words) == (STOPPED, "cancelled before it began")
    assert jobs.wait(first, PATIENCE_S).state == DONE
    assert (first.result or {})["verdict"] == "usable"
    assert jobs.wait(third, PATIENCE_S).state == FAILED
    assert "holds no 'gone.mp4'" in third.words
    assert str(tmp_path) not in third.words
    jobs.close()
    again = JobQueue(work)
    assert {job.number: (job.state, job.result) for job in again.every()} == {
        job.number: (job.state, job.result) for job in (first, second, third)
    }
    assert again.last(FIRST, "check", video=video).number == second.number  # type: ignore[union-attr]
    again.close()


def test_a_job_that_is_killed_takes_nothing_along(work: WorkFolder, jobs: JobQueue, talk: Any) -> None:
    video = _bring(work, talk.path, FOOTAGE)
    killed, next_ = jobs.ask(FIRST, "check", {"video": video}), jobs.ask(FIRST, "check", {"video": "gone.mp4"})
    _until(jobs, killed, lambda: jobs._pid is not None)
    assert jobs._pid is not None
    os.kill(jobs._pid, signal.SIGKILL)
    assert jobs.wait(killed, PATIENCE_S).state == FAILED
    assert "SIGKILL" in killed.words
    assert jobs.wait(next_, PATIENCE_S).state == FAILED
    assert "gone.mp4" in next_.words


def _nobody() -> int:
    """Return the number of a process that is no more."""
    return int(subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True).stdout)


def test_what_a_killed_job_left_half_written_goes(work: WorkFolder, jobs: JobQueue) -> None:
    project, theirs = work.project(FIRST), f"{_nobody()}-7"

    def leave() -> list[Path]:
        left = [project.place(kind, "a").with_name(f".a.b{end}") for kind, end in (
            (RENDERS, f".{theirs}.partial"), (RENDERS, f".{theirs}.sealed"), (RUNS, f".{theirs}.partial"),
        )]  # fmt: skip
        left[0].write_bytes(b"half")
        left[1].write_bytes(b"half")
        left[2].mkdir()
        return left

    by_others = project.place(RENDERS, "a").with_name(f".a.b.{os.getppid()}.partial")
    by_others.write_bytes(b"half")
    left = leave()
    jobs.wait(jobs.ask(FIRST, "check", {"video": "gone.mp4"}), PATIENCE_S)
    assert [path for path in left if path.exists()] == []
    left = leave()
    work.close()
    WorkFolder(work.folder).close()
    assert [path for path in left if path.exists()] == []
    assert by_others.exists()


def test_the_last_jobs_are_known_and_none_waits_twice(
    work: WorkFolder, jobs: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lipwright.pipeline.studio.jobs.MOST_KEPT", 3)
    given = {"run": "run {number}", "init": "none", "epochs": 1, "resume": False}
    first = jobs.ask(FIRST, "check", {"video": "gone.mp4"})  # the others wait while its process starts
    jobs.ask(FIRST, "train", given)
    with pytest.raises(InputError, match="waiting already"):
        jobs.ask(FIRST, "train", given)
    third = jobs.ask(FIRST, "train", given | {"epochs": 2})
    jobs.wait(first, PATIENCE_S)
    fourth = jobs.ask(FIRST, "check", {"video": "gone.mp4"})
    assert [job.number for job in jobs.every()] == [4, 3, 2]
    assert sorted(path.stem for path in work.jobs.glob("*.json")) == ["00002", "00003", "00004"]
    for job in (third, fourth):
        jobs.cancel(job.number)


def test_a_studio_that_was_killed_says_so_of_its_job(work: WorkFolder) -> None:
    for number, state in enumerate((RUNNING, QUEUED), 1):
        job = Job(number, "check", FIRST, {"video": "a.mp4"}, state)
        (work.jobs / f"{number:05d}.json").write_text(json.dumps(vars(job)))
    (work.jobs / f".00002.json.{_nobody()}-1.partial").write_text("{")
    (work.jobs / "00003.json").write_text('{"number": 3, "half')
    queue = JobQueue(work)
    was, waited = queue.every()[::-1]
    assert (was.state, "ended meanwhile" in was.words) == (STOPPED, True)
    assert queue.wait(waited, PATIENCE_S).state == FAILED  # it was begun: there is no such video
    assert [path.name for path in work.jobs.iterdir() if path.suffix != ".json"] == []
    queue.close()


def test_a_training_that_is_cancelled_keeps_the_best_so_far_and_goes_on(
    work: WorkFolder, jobs: JobQueue, toy_corpus: Callable[..., Path]
) -> None:
    project = work.project(FIRST)
    toy_corpus(project.corpus, (16.0,))
    given = {"run": "run {number}", "init": "none", "epochs": 2, "resume": False}
    job = jobs.ask(FIRST, "train", given)
    _until(jobs, job, lambda: len(project.metrics("run 1")) >= 1)
    jobs.cancel(job.number)
    assert jobs.wait(job, PATIENCE_S).state == STOPPED
    assert "holds the best so far" in job.words
    assert project.names(RUNS) == ["run 1"]
    assert (project.folder / RUNS / "run 1" / FIT_FILE).is_file()
    done = len(project.metrics("run 1"))
    going = jobs.ask(FIRST, "train", given | {"run": "run 1", "resume": True})
    assert jobs.wait(going, PATIENCE_S).state == DONE, going.words
    assert len(project.metrics("run 1")) > done
    assert not list((project.folder / RUNS).glob(".*"))


def test_a_render_is_cancelled_made_and_painted_again_where_it_was_edited(work: WorkFolder, jobs: JobQueue, talk: Any) -> None:
    project = work.project(FIRST)
    target, sound = _bring(work, talk.path, FOOTAGE), _bring(work, talk.path, SOUNDS)
    given = {
        "out": "{number}.mp4", "target": target, "sound": sound, "model": "base", "consent": None, "face": None,
        "settings": {"label": True, "closed_in_silence": True},
    }  # fmt: skip
    cancelled = jobs.ask(FIRST, "render", given)
    _until(jobs, cancelled, lambda: (cancelled.progress or ("",))[0] == "render")
    jobs.cancel(cancelled.number)
    assert jobs.wait(cancelled, PATIENCE_S).state == STOPPED
    assert list((project.folder / RENDERS).iterdir()) == []
    made = jobs.ask(FIRST, "render", given)
    assert jobs.wait(made, PATIENCE_S).state == DONE, made.words
    assert project.names(RENDERS) == ["2.mp4"]
    assert any("made with Lipwright" in line for line in project.made("2.mp4")["words"])
    before = (project.folder / RENDERS / "2.mp4").read_bytes()
    track = load_track(project.mouth("2.mp4"))
    replace(track, edits=(Edit(1, 2, hold=True),)).save(project.mouth("2.mp4"))
    edited = jobs.ask(FIRST, "paint", {"out": "2.mp4"})
    assert jobs.wait(edited, PATIENCE_S).state == DONE, edited.words
    assert 0 < (edited.result or {})["painted"] <= (edited.result or {})["frames"]
    assert (project.folder / RENDERS / "2.mp4").read_bytes() != before
    assert [Edit(**edit) for edit in project.made("2.mp4")["edits"]] == [Edit(1, 2, hold=True)]


def test_a_tick_at_an_edit_that_is_gone_means_no_other() -> None:
    from lipwright.pipeline.studio.tabs import _named

    names = [*_named((Edit(1, 2, 0.5), Edit(3, 4, closed=True), Edit(1, 2, 0.5)))]
    assert len(set(names)) == 3
    assert not {names[0], names[2]} & {*_named((Edit(3, 4, closed=True),))}


def test_closing_stops_what_runs_and_keeps_what_waits(work: WorkFolder, talk: Any) -> None:
    video = _bring(work, talk.path, FOOTAGE)
    queue = JobQueue(work)
    first = queue.ask(FIRST, "check", {"video": video})
    _until(queue, first, lambda: queue._pid is not None)
    second = queue.ask(FIRST, "check", {"video": video})
    queue.close()
    assert (first.state, second.state) == (STOPPED, QUEUED)
    assert json.loads((work.jobs / "00002.json").read_text())["state"] == QUEUED


# A disk that is full, and no network ----------------------------------------------------------------------------------

ALONE = ["unshare", "--user", "--map-root-user", "--mount", "--net", "sh", "-ec"]
"""A shell that sees disks of its own, and no network."""

INSIDE = """
import json, shutil, sys, urllib.error, urllib.request
from contextlib import suppress
from pathlib import Path
from lipwright.pipeline.studio import open_studio
from lipwright.pipeline.studio.work import FOOTAGE

def main():
    disk, video, said = Path(sys.argv[1]), sys.argv[2], {}
    with open_studio(disk / "work", port=0) as studio:
        page = urllib.request.urlopen(studio.url, timeout=30).read().decode()
        said["page"] = "Lipwright studio" in page
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        large = urllib.request.Request(studio.url + "gradio_api/upload", bytes(20_000_000), kind)
        try:
            urllib.request.urlopen(large, timeout=30)
        except urllib.error.HTTPError as error:
            said["upload"] = [error.code, error.read().decode()]
        project = studio.work.project("first")
        given = {"out": "{number}.mp4", "target": "a.mp4", "sound": "a.mp4", "model": "base", "consent": None, "face": None,
                 "settings": {}}
        for kind in ("footage", "sounds"):
            shutil.copy(video, project.place(kind, "a.mp4"))
        filler = disk / "filler"
        filler.write_bytes(bytes(studio.work.free_bytes() - 60_000))
        job = studio.jobs.wait(studio.jobs.ask("first", "render", given), 120)
        said["full"] = [job.state, job.words, [path.name for path in (project.folder / "renders").iterdir()]]
        with suppress(OSError), filler.open("ab", buffering=0) as more:
            while more.write(bytes(4096)): pass
        try:
            studio.jobs.ask("first", "render", given)
        except OSError as error:
            said["no room to ask"] = error.strerror
        filler.unlink()
        job = studio.jobs.wait(studio.jobs.ask("first", "render", given), 120)
        said["room again"] = [job.state, job.words]
    print(json.dumps(said))

if __name__ == "__main__":
    main()
"""


def _can_be_alone() -> bool:
    try:
        return subprocess.run([*ALONE, "mount -t tmpfs tmpfs /mnt"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not _can_be_alone(), reason="needs a disk and a network of its own")
def test_a_full_disk_is_said_and_no_network_is_missed(talk: Any, tmp_path: Path) -> None:
    (tmp_path / "inside.py").write_text(INSIDE)
    (tmp_path / "disk").mkdir()
    up = "import fcntl, socket, struct; fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh', b'lo', 1))"
    script = f'mount -t tmpfs -o size=60m tmpfs "$1"; "$0" -c "{up}"; "$0" "$3" "$1" "$2"'
    words = [sys.executable, str(tmp_path / "disk"), str(talk.path), str(tmp_path / "inside.py")]
    done = subprocess.run([*ALONE, script, *words], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["page"]
    assert said["upload"][0] == 507
    assert "make room" in said["upload"][1]
    state, why, left = said["full"]
    assert (state, left) == (FAILED, [])
    assert "No space left on device" in why
    assert said["no room to ask"] == "No space left on device"
    assert said["room again"] == [DONE, ""]
