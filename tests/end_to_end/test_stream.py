"""`lipwright stream` as people run it: sound piped in, and a server that clients talk to."""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from lipwright.data.mouth import Speaker
from lipwright.pipeline.predict import base_model, predict_mouth
from lipwright.pipeline.visemes import RHUBARB

GAIN_DB = 3.0
DEADLINE_S = 120.0


@pytest.fixture(scope="module")
def start(installed: Any) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Return what starts the command; what still runs at the end is killed."""
    with ExitStack() as ends:

        def run(*words: object) -> subprocess.Popen[bytes]:
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            process = subprocess.Popen([installed.path, "stream", *map(str, words)], bufsize=0, **pipes)
            ends.enter_context(process)
            ends.callback(process.kill)
            return process

        yield run


def s16le(samples: np.ndarray) -> bytes:
    return np.round(32767 * samples).astype("<i2").tobytes()


def offline(samples: np.ndarray) -> np.ndarray:
    """Return the mouths (T, 40, 3) that a prediction of 16-bit samples gives."""
    model = base_model()
    speaker = Speaker(model.neutral.numpy(), model.config.scale)
    heard = np.round(32767 * samples).astype(np.float32) / 32768
    return np.asarray(predict_mouth(model, heard, speaker, gain=10 ** (GAIN_DB / 20)).xyz[:])


# Stdin ----------------------------------------------------------------------------------------------------------------


def test_lines_come_while_sound_goes_in_and_are_the_offline_mouth(start: Any, babble: Callable[..., np.ndarray]) -> None:
    samples = babble(3.0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as osc:
        osc.bind(("127.0.0.1", 0))
        osc.settimeout(DEADLINE_S)
        process = start("--gain-db", GAIN_DB, "--points", "--blendshapes", "--osc", f"127.0.0.1:{osc.getsockname()[1]}")
        process.stdin.write(s16le(samples[:16000]))
        early = [json.loads(process.stdout.readline()) for _ in range(55)]  # flushed: no more sound has gone in
        sent = osc.recv(65536)
    process.stdin.write(s16le(samples[16000:]))
    out, err = process.communicate(timeout=DEADLINE_S)
    rows = early + [json.loads(line) for line in out.splitlines()]
    assert (process.returncode, err) == (0, b"")
    assert [row["t"] for row in rows] == [round(k / 100, 2) for k in range(301)]
    np.testing.assert_allclose([row["points"] for row in rows], offline(samples), atol=2e-5)
    assert {row["viseme"] for row in rows} <= set(RHUBARB.names)
    assert rows[100]["blendshapes"]["jawOpen"] > 0
    _is_osc_of(sent, early[0])


def _is_osc_of(sent: bytes, row: dict[str, Any]) -> None:
    from pythonosc.osc_bundle import OscBundle

    told = {message.address: message.params[0] for message in OscBundle(sent)}
    wanted = {f"/lipwright/{name}": row[name] for name in ("aperture", "openness", "width", "protrusion", "viseme")}
    wanted |= {f"/lipwright/blendshapes/{name}": value for name, value in row["blendshapes"].items()}
    assert told == {
        name: pytest.approx(value, abs=1e-5) if isinstance(value, float) else value for name, value in wanted.items()
    }


def test_json_is_one_document(start: Any, babble: Callable[..., np.ndarray]) -> None:
    sound = np.repeat(babble(1.0).astype("<f4"), 3)  # 48 kHz
    process = start("--json", "--visemes", "none", "--rate", 48000, "--format", "f32le", "--channels", 2)
    out, err = process.communicate(np.stack([sound, sound], 1).tobytes(), timeout=DEADLINE_S)
    told = json.loads(out)
    assert (process.returncode, err) == (0, b"")
    assert (told["step_hz"], told["lookahead_ms"]) == (100, 400)
    assert [row["t"] for row in told["steps"]] == [round(k / 100, 2) for k in range(101)]
    assert "viseme" not in told["steps"][0]


def test_whoever_reads_may_stop(start: Any, babble: Callable[..., np.ndarray]) -> None:
    process = start()
    process.stdin.write(s16le(babble(1.0)))
    assert json.loads(process.stdout.readline())["t"] == 0
    process.stdout.close()
    process.stdin.write(s16le(babble(10.0)))
    assert process.wait(DEADLINE_S) == 0  # stdin is open: it was the reader that ended it
    assert process.stderr.read() == b""


@pytest.mark.parametrize("as_json", [False, True])
def test_ctrl_c_ends_it_between_lines(start: Any, babble: Callable[..., np.ndarray], as_json: bool) -> None:
    process = start(*(["--json"] if as_json else []))
    process.stdin.write(s16le(babble(1.0)))
    first = process.stdout.readline() + process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert b"Traceback" not in err
    if as_json:
        assert json.loads(first + out)["steps"]
    else:
        assert all(json.loads(line) for line in (first + out).splitlines())


def test_ctrl_c_leaves_a_whole_document_also_where_the_reader_lets_it_wait(
    start: Any, babble: Callable[..., np.ndarray]
) -> None:
    process = start("--json", "--points", "--gain-db", GAIN_DB)
    process.stdin.write(s16le(babble(1.9)))
    assert select.select([process.stdout], [], [], DEADLINE_S)[0]
    process.stdin.write(s16le(babble(1.9)))  # by now its pipe is full
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    out, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert len(json.loads(out)["steps"]) > 30


@pytest.mark.parametrize(
    ("words", "said"), [([], "stream hears raw PCM on stdin"), (["--listen", "0", "--token", ""], "--token is empty")]
)
def test_what_cannot_be_begun(installed: Any, words: list[str], said: str) -> None:
    closed = {"preexec_fn": lambda: os.close(0)}
    ended = subprocess.run(
        [installed.path, "stream", *words], capture_output=True, text=True, timeout=DEADLINE_S, check=False, **closed
    )
    assert ended.returncode == 2
    assert said in ended.stderr


# The server -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Served:
    """A server that runs."""

    process: subprocess.Popen[bytes]
    url: str
    token: str | None

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    @contextmanager
    def client(self, wish: Any = None, query: str = "", **options: Any) -> Iterator[ClientConnection]:
        """Connect; say what is wanted, if anything."""
        with connect(f"ws://{self.host}/live{query}", max_size=None, close_timeout=10, **options) as client:
            if wish is not None:
                client.send(json.dumps(wish))
            yield client

    def ask(self, path: str, **headers: str) -> tuple[int, dict[str, str]]:
        """Ask for something over HTTP."""
        asking = http.client.HTTPConnection(self.host, timeout=DEADLINE_S)
        asking.request("GET", path, headers=headers)
        answer = asking.getresponse()
        answer.read()
        asking.close()
        return answer.status, dict(answer.headers)


@pytest.fixture(scope="module")
def serve(start: Any) -> Callable[..., Served]:
    """Return what starts a server, and waits until it serves."""

    def run(*words: object) -> Served:
        process = start("--json", "--gain-db", GAIN_DB, *words)
        lines: list[bytes] = []
        while not lines or lines[-1] != b"}\n":
            assert select.select([process.stdout], [], [], DEADLINE_S)[0]
            lines.append(process.stdout.readline())
            assert lines[-1], process.stderr.read()
        return Served(process, **json.loads(b"".join(lines)))

    return run


@pytest.fixture(scope="module")
def server(serve: Callable[..., Served]) -> Served:
    return serve("--listen", "127.0.0.1:0")


def talk(
    client: ClientConnection, data: bytes, size: int = 3200
) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """Send sound in pieces and the end; return what it is ready for, the steps, and what it says at the end."""
    ready = json.loads(client.recv(DEADLINE_S))
    for start in range(0, len(data), size):
        client.send(data[start : start + size])
    client.send('{"end": true}')
    rows: list[dict[str, Any]] = []
    while "steps" in (said := json.loads(client.recv(DEADLINE_S))) and "end" not in said:
        rows += said["steps"]
    with pytest.raises(ConnectionClosed):
        client.recv(DEADLINE_S)
    assert client.protocol.close_code == 1000
    return ready, rows, said


def refusal(client: ClientConnection) -> tuple[int | None, str]:
    """Return the code that a connection is closed with, and the words before it."""
    said = json.loads(client.recv(DEADLINE_S))
    with pytest.raises(ConnectionClosed):
        client.recv(DEADLINE_S)
    return client.protocol.close_code, said["error"]


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_two_clients_at_once_are_sent_their_own_mouths(server: Served, babble: Callable[..., np.ndarray]) -> None:
    sounds = [babble(2.0, seed) for seed in (1, 2)]
    wish = {"rate": 16000, "points": True, "blendshapes": True}
    with server.client(wish) as a, server.client(wish | {"visemes": False}) as b:
        readies = [json.loads(client.recv(DEADLINE_S)) for client in (a, b)]
        rows: list[list[Any]] = [[], []]
        for start in range(0, 32000, 1600):
            for client, sound in zip((a, b), sounds, strict=True):
                client.send(s16le(sound[start : start + 1600]))
        for k, client in enumerate((a, b)):
            client.send('{"end": true}')
            while "end" not in (said := json.loads(client.recv(DEADLINE_S))):
                rows[k] += said["steps"]
            assert said == {"end": True, "steps": 201, "dropped_steps": 0, "dropped_frames": 0}
    assert [ready["lookahead_ms"] for ready in readies] == [410, 400]
    for ready in readies:
        assert ready["step_hz"] == 100
        assert ready["face"] is None
        assert ready["speaker"]["scale"] == pytest.approx(base_model().config.scale)
    for own, sound in zip(rows, sounds, strict=True):
        np.testing.assert_allclose([row["points"] for row in own], offline(sound), atol=2e-5)
        assert own[50]["blendshapes"]["jawOpen"] >= 0
    assert rows[0][0]["viseme"] in RHUBARB.names
    assert "viseme" not in rows[1][0]


def test_sound_that_is_broken_is_silence(server: Served) -> None:
    """Half a sample in each message, and what is no number; the client is served to the end."""
    heard = []
    for message in (np.full(2500, np.nan, np.float32).tobytes()[:-1], bytes(10_000)):
        with server.client({"rate": 48000, "format": "f32le"}) as client:
            _, rows, end = talk(client, 40 * message, len(message))
        assert end["steps"] == len(rows) == pytest.approx(209, abs=1)
        heard.append([row["aperture"] for row in rows])
    np.testing.assert_allclose(*heard, atol=1e-4)


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([b"\0\0"], "first message is a JSON object"),
        (["[" * 100_000], "first message is a JSON object"),
        (['{"rate": 7}'], "rate is 7 Hz"),
        (['{"rate": 16000, "quality": 1}'], "there is no 'quality'"),
        (["{}", "{}"], 'and {"end": true} alone'),
        (["{}", "[" * 100_000], 'and {"end": true} alone'),
    ],
)
def test_what_a_client_may_not_say(server: Served, messages: list[Any], words: str) -> None:
    with server.client() as client:
        for message in messages:
            client.send(message)
        if messages[0] == "{}":
            assert json.loads(client.recv(DEADLINE_S))["ready"]
        code, said = refusal(client)
    assert code == 1008
    assert words in said


def test_a_message_that_is_too_large_ends_the_connection_alone(server: Served) -> None:
    with server.client({"rate": 16000}) as client:
        assert json.loads(client.recv(DEADLINE_S))["ready"]
        with pytest.raises(ConnectionClosedError):
            client.send(bytes((1 << 20) + 1))
            while True:
                client.recv(DEADLINE_S)
        assert client.protocol.close_code == 1009
    with server.client({"rate": 192000, "channels": 8}) as client:
        assert talk(client, bytes(1 << 20), 1 << 20)[2]["steps"] == 35


def test_a_ninth_client_is_refused_and_places_become_free(server: Served) -> None:
    with ExitStack() as open_:
        clients = [open_.enter_context(server.client({})) for _ in range(8)]
        assert all(json.loads(client.recv(DEADLINE_S))["ready"] for client in clients)
        with server.client() as ninth:
            assert refusal(ninth) == (1013, "8 clients are served already; try again later")

    def is_free() -> bool:
        with server.client() as client, suppress(ConnectionClosed):
            client.send("{}")
            return "ready" in json.loads(client.recv(DEADLINE_S))
        return False

    wait_until(is_free)


def test_a_client_that_goes_away_is_forgotten(server: Served, babble: Callable[..., np.ndarray]) -> None:
    for _ in range(10):  # more than there are places
        with server.client({"rate": 8000}) as client:
            wait_until(lambda client=client: "ready" in json.loads(client.recv(DEADLINE_S)))
            client.send(s16le(babble(20.0)))
            client.socket.shutdown(socket.SHUT_RDWR)  # no farewell
        time.sleep(0.3)
    assert server.process.poll() is None


def test_others_pages_may_not_use_it(server: Served) -> None:
    port = urlsplit(server.url).port
    for origin in ("https://example.com", f"http://example.com:{port}", f"http://127.0.0.1:{port + 1}", "null"):
        with pytest.raises(InvalidStatus, match="403"), server.client(origin=origin):
            pass
    with server.client({}, origin=f"http://127.0.0.1:{port}") as client:
        assert json.loads(client.recv(DEADLINE_S))["ready"]
    # A name of somebody else's that leads to this machine makes their page one of the same origin.
    assert server.ask("/", Host=f"example.com:{port}")[0] == 403
    assert server.ask("/live", Host=f"localhost:{port}")[0] == 426


def test_there_is_a_page_and_nothing_else(server: Served) -> None:
    status, headers = server.ask("/")
    assert status == 200
    assert headers["Content-Type"].startswith("text/html")
    for path in ("/stream.html", "/../pyproject.toml", "/live/", "//", "/index.html"):
        assert server.ask(path)[0] == 404


def test_what_is_no_address_is_no_reason_to_fail(server: Served) -> None:
    assert server.ask("//[")[0] == 404
    assert server.ask("/live", Origin="http://[")[0] == 403


@pytest.mark.parametrize("method", ["HEAD", "POST", "OPTIONS"])
def test_the_page_is_only_to_be_got(server: Served, method: str) -> None:
    with socket.create_connection(("127.0.0.1", urlsplit(server.url).port), DEADLINE_S) as client:
        client.sendall(f"{method} / HTTP/1.1\r\nHost: {server.host}\r\n\r\n".encode())
        answer = client.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert answer.endswith(b"\r\n\r\n")  # nothing after the head


def test_a_name_that_no_machine_has(start: Any) -> None:
    process = start("--listen", "a" * 300 + ":0")
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 3
    assert b"this machine has no such address" in err


def test_a_token_is_asked_for(serve: Callable[..., Served]) -> None:
    server = serve("--listen", "0.0.0.0:0")
    assert server.token is not None
    assert len(server.token) > 16
    reached = Served(server.process, server.url.replace("0.0.0.0", "127.0.0.1"), server.token)
    assert f"?token={server.token}" in server.url
    for path in ("/", "/?token=", f"/?token={server.token}x", "/live", "/?token=%00%ff"):
        assert reached.ask(path)[0] == 401
    assert reached.ask(f"/?token={server.token}")[0] == 200
    with pytest.raises(InvalidStatus, match="401"), reached.client():
        pass
    with reached.client({}, f"?token={server.token}") as client:
        assert json.loads(client.recv(DEADLINE_S))["ready"]
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(DEADLINE_S) == 130


def test_a_port_that_is_taken(server: Served, start: Any) -> None:
    process = start("--listen", urlsplit(server.url).port)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out) == (3, b"")
    assert b"the port is taken" in err
    assert b"Traceback" not in err


def test_ctrl_c_ends_the_server_also_with_clients(server: Served) -> None:
    silent = ("127.0.0.1", urlsplit(server.url).port)
    with server.client({}) as client, socket.create_connection(silent):
        assert json.loads(client.recv(DEADLINE_S))["ready"]
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(8) == 130  # it does not wait until who says nothing has had the time to
        with pytest.raises(ConnectionClosed):
            client.recv(DEADLINE_S)
    assert server.process.wait(DEADLINE_S) == 130
    err = server.process.stderr.read().decode()
    assert "Traceback" not in err
    assert [line for line in err.splitlines() if "sound" in line] == [
        "9999 bytes of sound came, not a multiple of 4: the rest is heard as silence"
    ]
