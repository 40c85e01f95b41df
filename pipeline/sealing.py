"""Manifests signed into files, with the C2PA library (extra ``provenance``). Nothing goes over a network."""

from __future__ import annotations

import io
import json
import logging
import threading
import wave
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from lipwright.data.errors import InputError, LipwrightError
from lipwright.pipeline.certificate import Certificate
from lipwright.pipeline.manifest import Ingredient, Manifest, agent
from lipwright.pipeline.progress import Progress

log = logging.getLogger(__name__)

SETTINGS = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    "core": {
        "allowed_network_hosts": [],
        # Else it holds up to 512 MB of what it writes, and hashes 256 MB at a time: memory would grow with the file.
        "backing_store_memory_threshold_in_mb": 16,
        "merkle_tree_chunk_size_in_kb": 4096,
    },
    "builder": {"thumbnail": {"enabled": False}},
}

TOLD_EVERY_S = 0.1

T = TypeVar("T")


class _Watched:
    """A file as the library reads and writes it, until it is told to stop.

    It keeps the error that the library makes a number of.
    """

    def __init__(self, file: BinaryIO, stopped: threading.Event) -> None:
        self.file, self.stopped = file, stopped
        self.error: OSError | None = None

    def _do(self, act: Callable[..., T], *values: Any) -> T:
        if self.stopped.is_set():
            raise InterruptedError
        try:
            return act(*values)
        except OSError as error:
            self.error = error
            raise

    def read(self, count: int = -1) -> bytes:
        return self._do(self.file.read, count)

    def readinto(self, buffer: memoryview) -> int:
        return self._do(self.file.readinto, buffer)  # type: ignore[attr-defined]

    def write(self, data: bytes) -> int:
        return self._do(self.file.write, data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._do(self.file.seek, offset, whence)

    def tell(self) -> int:
        return self._do(self.file.tell)

    def flush(self) -> None:
        self._do(self.file.flush)


def try_certificate(certificate: Certificate) -> None:
    """Sign a moment of silence: what the library finds wrong with a certificate is told before any work is spent.

    Raises
    ------
    InputError
        It cannot sign.
    """
    import c2pa

    silence = io.BytesIO()
    with wave.open(silence, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(b"\0\0")
    silence.seek(0)
    made = {"action": "c2pa.created", "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicMedia"}
    assertions = [{"label": "c2pa.actions.v2", "data": {"actions": [made]}, "created": True}]
    try:
        with _builder({"claim_generator_info": [agent()], "assertions": assertions}) as builder, _signer(certificate) as signer:
            builder.sign(signer, "audio/wav", silence, io.BytesIO())
    except c2pa.C2paError as error:
        where = certificate.file or "the local test certificate"
        raise InputError(f"{where} ({certificate.name}) cannot sign content credentials: {said(error)}") from None


def _apart(work: Callable[[threading.Event], T], tell: Callable[[], None] = lambda: None) -> T:
    """Let the library work in a thread of its own, which is told to stop when this one is interrupted.

    It calls Python for every read, where an interrupt would be lost, or taken for the end of the file.
    """
    stopped = threading.Event()
    with ThreadPoolExecutor(1, "c2pa") as pool:
        job = pool.submit(work, stopped)
        try:
            while not wait([job], TOLD_EVERY_S).done:
                tell()
            return job.result()
        finally:
            stopped.set()


def read(path: Path, anchors: str | None = None) -> dict[str, Any]:
    """Read and check the manifests of a file; `c2pa.C2paError` where there are none, or they are damaged.

    Parameters
    ----------
    path
        What kind of file it is, its content tells.
    anchors
        Certificates of authorities that are trusted, PEM.
    """
    import c2pa

    settings = SETTINGS if anchors is None else SETTINGS | {"trust": {"user_anchors": anchors}}

    def look(stopped: threading.Event) -> dict[str, Any]:
        with (
            path.open("rb") as file,
            c2pa.Reader(None, _Watched(file, stopped), context=c2pa.Context.from_dict(settings)) as reader,
        ):
            return dict(json.loads(reader.json()))

    return _apart(look)


def sign(certificate: Certificate, manifest: Manifest, whole: Path, signed: Path, progress: Progress | None = None) -> None:
    """Write a file with its manifest, signed, in it.

    Parameters
    ----------
    certificate
        Who signs.
    manifest
        What is said.
    whole, signed
        What it is said of, and what to write.
    progress
        Called with ("sign", bytes written, in all).

    Raises
    ------
    LipwrightError
        The library cannot do it.
    OSError
        `signed` cannot be written.
    """
    import c2pa

    size = whole.stat().st_size
    failed: list[OSError] = []

    def work(stopped: threading.Event) -> None:
        with whole.open("rb") as source, signed.open("w+b") as sink:
            read, written = _Watched(source, stopped), _Watched(sink, stopped)
            try:
                _sign(certificate, manifest, read, written, stopped)
            finally:
                failed.extend(filter(None, (read.error, written.error)))

    def tell() -> None:
        if progress and signed.exists():
            progress("sign", min(signed.stat().st_size, size), size)

    try:
        _apart(work, tell)
    except c2pa.C2paError as error:
        if failed:
            raise failed[0] from None
        raise LipwrightError(
            f"content credentials could not be signed ({said(error)}); --no-provenance leaves them out"
        ) from None
    if progress:
        progress("sign", size, size)


def _sign(certificate: Certificate, manifest: Manifest, read: _Watched, written: _Watched, stopped: threading.Event) -> None:
    with _builder(manifest.definition) as builder, _signer(certificate) as signer:
        for ingredient in manifest.ingredients:
            _add(builder, ingredient, stopped)
        builder.sign(signer, manifest.definition["format"], read, written)


def _add(builder: Any, ingredient: Ingredient, stopped: threading.Event) -> None:
    """Name a file that something was made from, with the credentials that it has itself."""
    import c2pa

    named = {"title": ingredient.name, "relationship": ingredient.relationship, "label": ingredient.label}
    form = ingredient.format
    if form is not None:
        with ingredient.path.open("rb") as file:
            try:
                return builder.add_ingredient(named, form, _Watched(file, stopped))
            except c2pa.C2paError as error:
                if stopped.is_set():
                    raise
                log.warning("%s is named without its own credentials, which cannot be read: %s", ingredient.path, said(error))
                named["description"] = "its own credentials could not be read"
    builder.add_ingredient(named, "application/octet-stream", io.BytesIO(b"\0"))


def _builder(definition: dict[str, Any]) -> Any:
    import c2pa

    return c2pa.Builder(definition, context=c2pa.Context.from_dict(SETTINGS))


def _signer(certificate: Certificate) -> Any:
    import c2pa

    info = c2pa.C2paSignerInfo(
        certificate.algorithm, certificate.chain, certificate.key, None
    )  # no time stamp: it takes a network
    return c2pa.Signer.from_info(info)


def said(error: Exception) -> str:
    """Return what the library says, on one line, without its own name for the kind of error."""
    words = " ".join(str(error).split())
    return words.partition(": ")[2] or words
