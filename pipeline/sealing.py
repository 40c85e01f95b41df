"""Manifests signed into files, with the C2PA library (extra ``provenance``). Nothing goes over a network."""

from __future__ import annotations

import io
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


def sign(certificate: Certificate, manifest: Manifest, whole: Path, signed: Path, progress: Progress | None = None) -> None:
    """Write a file with its manifest, signed, in it.

    The library calls Python for every read, and an interrupt there would be lost, or taken for the end of the file. So it
    works in a thread of its own.

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

    stopped, size = threading.Event(), whole.stat().st_size
    with whole.open("rb") as source, signed.open("w+b") as sink, ThreadPoolExecutor(1, "sign") as pool:
        read, written = _Watched(source, stopped), _Watched(sink, stopped)
        job = pool.submit(_sign, certificate, manifest, read, written, stopped)
        try:
            while not wait([job], TOLD_EVERY_S).done:
                if progress:
                    progress("sign", min(signed.stat().st_size, size), size)
            job.result()
        except c2pa.C2paError as error:
            if cause := read.error or written.error:
                raise cause from None
            raise LipwrightError(
                f"content credentials could not be signed ({said(error)}); --no-provenance leaves them out"
            ) from None
        finally:
            stopped.set()
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

    named = {"title": ingredient.path.absolute().name, "relationship": ingredient.relationship, "label": ingredient.label}
    with ingredient.path.open("rb") as file:
        try:
            builder.add_ingredient(named, ingredient.format, _Watched(file, stopped))
        except c2pa.C2paError as error:
            if stopped.is_set():
                raise
            log.info("%s is named without looking for credentials of its own: %s", ingredient.path, said(error))
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
