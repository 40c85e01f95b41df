"""A live mouth as OSC messages, for avatars and for music and show software."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Any

from lipwright.data.errors import InputError, MissingPartError
from lipwright.data.mouth import Speaker
from lipwright.pipeline.stream import LiveSteps

ADDRESS = "/lipwright"


class OscSender:
    """Sends steps as OSC over UDP, a bundle each, whether anybody listens or not (`docs/streaming.md`).

    Parameters
    ----------
    host, port
        Whom to send to.

    Raises
    ------
    MissingPartError
        python-osc is not installed.
    InputError
        There is no such host.
    """

    def __init__(self, host: str, port: int) -> None:
        try:
            import pythonosc  # noqa: F401
        except ImportError:
            raise MissingPartError("--osc needs python-osc: pip install 'lipwright[stream]'") from None
        self._address: Any
        try:
            family, kind, _, _, self._address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        except (socket.gaierror, UnicodeError) as error:
            raise InputError(f"--osc {host}:{port}: there is no host of that name ({error})") from None
        self._socket = socket.socket(family, kind)

    def __enter__(self) -> OscSender:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.close()

    def send(self, steps: LiveSteps, speaker: Speaker) -> None:
        """Send each step.

        Raises
        ------
        InputError
            There is no way to that host.
        """
        from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
        from pythonosc.osc_message_builder import OscMessageBuilder

        for row in steps.rows(speaker):
            del row["t"]
            row |= {f"blendshapes/{name}": value for name, value in row.pop("blendshapes", {}).items()}
            bundle = OscBundleBuilder(IMMEDIATELY)
            for name, value in row.items():
                message = OscMessageBuilder(f"{ADDRESS}/{name}")
                message.add_arg(value)
                bundle.add_content(message.build())
            try:
                self._socket.sendto(bundle.build().dgram, self._address)
            except OSError as error:
                raise InputError(f"OSC cannot be sent to {self._address[0]}: {error.strerror}") from None
