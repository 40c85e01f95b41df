"""The landmarker: quiet, strict about its frames; and its model file, checked."""

from __future__ import annotations

import http.server
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pooch
import pytest

from lipwright.data import landmarker
from lipwright.data.errors import MissingPartError
from lipwright.data.landmarker import MODEL_NAME, MODEL_VARIABLE, Landmarker, model_path
from lipwright.data.media import probe, read_frames


def test_the_landmarker_is_quiet(talk, capfd: pytest.CaptureFixture[str]) -> None:
    rgb = next(read_frames(probe(talk.path), threads=1)).rgb()
    with Landmarker() as find:
        assert len(find(rgb, 0.0)[0]) == 1
        assert len(find(rgb, 0.0)[0]) == 1  # the same time again is moved on by a millisecond
    assert capfd.readouterr() == ("", "")


def test_padded_rows_are_refused() -> None:
    with Landmarker() as find, pytest.raises(ValueError, match="C-contiguous"):
        find(np.zeros((64, 80, 3), np.uint8)[:, :64], 0.0)


# The model file -------------------------------------------------------------------------------------------------------


def test_the_model_is_in_the_cache(isolated_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MODEL_VARIABLE, raising=False)
    assert model_path() == isolated_cache / MODEL_NAME


def test_the_variable_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Path(shutil.copy(model_path(), tmp_path / "own.task"))
    monkeypatch.setenv(MODEL_VARIABLE, str(own))
    assert model_path() == own


def test_a_variable_that_names_nothing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MODEL_VARIABLE, str(tmp_path / "none.task"))
    with pytest.raises(MissingPartError, match=r"none\.task.*does not exist"):
        model_path()


@pytest.mark.parametrize("by_variable", [False, True])
def test_another_file_is_not_taken_for_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_variable: bool) -> None:
    (tmp_path / MODEL_NAME).write_bytes(b"something else")
    if by_variable:
        monkeypatch.setenv(MODEL_VARIABLE, str(tmp_path / MODEL_NAME))
    else:
        monkeypatch.setenv("LIPWRIGHT_CACHE", str(tmp_path))
    with pytest.raises(MissingPartError, match="is not the face landmark model"):
        model_path()


def test_a_model_that_was_overwritten_since_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / MODEL_NAME
    shutil.copy(model_path(), path)
    monkeypatch.setenv(MODEL_VARIABLE, str(path))
    assert model_path() == path
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(MissingPartError, match="is not the face landmark model"):
        model_path()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], None]]:
    """Serve bytes as the model's official address, on this machine."""
    content = b""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    def serve(given: bytes) -> None:
        nonlocal content
        content = given

    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", MODEL_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(landmarker, "MODEL_URL", f"http://127.0.0.1:{server.server_port}/{MODEL_NAME}")
        yield serve
        server.shutdown()


def test_a_missing_model_is_fetched(
    served: Callable[[bytes], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    served(model_path().read_bytes())
    monkeypatch.setenv("LIPWRIGHT_CACHE", str(tmp_path))
    for handler in pooch.get_logger().handlers:
        monkeypatch.setattr(handler, "stream", sys.stderr)  # made when stderr was another
    assert model_path() == tmp_path / MODEL_NAME
    assert [p.name for p in tmp_path.iterdir()] == [MODEL_NAME]
    assert capfd.readouterr() == ("", "")


def test_a_model_that_was_fetched_wrong_is_not_kept(
    served: Callable[[bytes], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(b"a captive portal")
    monkeypatch.setenv("LIPWRIGHT_CACHE", str(tmp_path))
    with pytest.raises(MissingPartError, match=MODEL_NAME):
        model_path()
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MODEL_VARIABLE, raising=False)
    monkeypatch.setenv("LIPWRIGHT_CACHE", str(tmp_path))
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(landmarker, "MODEL_URL", f"http://127.0.0.1:1/{MODEL_NAME}")
    with pytest.raises(MissingPartError, match=MODEL_VARIABLE) as caught:
        model_path()
    assert len(str(caught.value).splitlines()) <= 2
