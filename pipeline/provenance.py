"""What a rendered file says about itself: metadata, and signed content credentials (C2PA) where it can hold them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from lipwright.data.errors import InputError, MissingPartError
from lipwright.pipeline.manifest import DIGITAL_SOURCE_TYPE, FORMATS, consent_of, manifest_of
from lipwright.pipeline.progress import Progress
from lipwright.pipeline.settings import Credentials, RenderSettings

if TYPE_CHECKING:
    from lipwright.pipeline.certificate import Certificate
    from lipwright.pipeline.render.roles import Script

log = logging.getLogger(__name__)

EXTRA = "pip install 'lipwright[provenance]'"


def missing_part() -> str | None:
    """Return which package of the extra ``provenance`` is not installed, if one is."""
    try:
        import c2pa  # noqa: F401
        import cryptography  # noqa: F401
    except ImportError as error:
        return str(error.name or error)
    return None


def synthetic_tags() -> dict[str, str]:
    """Return container metadata that says the mouth is synthetic; players and ffprobe show it."""
    statement = f"Synthetic media: the mouth in this video was generated from audio by Lipwright {version('lipwright')}."
    return {
        "comment": statement,
        "description": statement,
        "synopsis": f"synthetic=true; digitalSourceType={DIGITAL_SOURCE_TYPE}",
    }


@dataclass(frozen=True)
class Sealer:
    """What is needed to sign, read and found good; or why nothing is signed.

    Attributes
    ----------
    out
        What is to be signed.
    certificate
        Who signs; None: nobody.
    consent
        What is said of a consent record.
    unsigned
        Why nobody signs.
    """

    out: Path
    certificate: Certificate | None = None
    consent: dict[str, str] | None = None
    unsigned: str | None = None

    @property
    def told(self) -> dict[str, str | None]:
        """What a render says of it: ``credentials`` (signed, test certificate, or None), ``signer``, ``unsigned``."""
        own = self.certificate
        if own is None:
            return {"credentials": None, "signer": None, "unsigned": self.unsigned}
        return {"credentials": "signed" if own.file else "test certificate", "signer": own.name, "unsigned": None}

    def seal(
        self,
        target: Path,
        sha256: str,
        scripts: Sequence[Script],
        length_s: Fraction,
        settings: RenderSettings,
        progress: Progress | None = None,
    ) -> Callable[[Path, Path], None] | None:
        """Return what signs a whole file into another, as `VideoWriter` calls it; None where nothing is signed.

        The parameters are those of `lipwright.pipeline.manifest.manifest_of`.
        """
        if (certificate := self.certificate) is None:
            return None
        from lipwright.pipeline.sealing import sign

        manifest = manifest_of(self.out, target, sha256, scripts, length_s, settings, self.consent)
        return lambda whole, signed: sign(certificate, manifest, whole, signed, progress)


def sealer_for(out: Path, credentials: Credentials | None) -> Sealer:
    """Read what signs an output, before any work is spent.

    Raises
    ------
    InputError
        The certificate, the key or the consent record cannot be used.
    MissingPartError
        One of them was given, and the extra ``provenance`` is not installed.
    """
    if credentials is None:
        log.warning("%s gets no content credentials, as asked for; it says that it is synthetic in its metadata alone", out)
        return Sealer(out, unsigned="left out, as asked for")
    asked = bool(credentials.paths)
    if out.suffix.lower() not in FORMATS:
        reason = f"{out.suffix or 'a folder of pictures'} holds none; {', '.join(FORMATS)} do"
        if asked:
            raise InputError(f"{out} cannot be signed: {reason}; choose one of these, or give no certificate, key and consent")
        log.info("%s gets no content credentials: %s", out, reason)
        return Sealer(out, unsigned=reason)
    if missing := missing_part():
        if asked:
            raise MissingPartError(f"content credentials need {missing}; {EXTRA}")
        reason = f"{missing} is not installed; {EXTRA}"
        log.info("%s gets no content credentials: %s", out, reason)
        return Sealer(out, unsigned=reason)
    from lipwright.pipeline.certificate import certificate_for
    from lipwright.pipeline.sealing import try_certificate

    consent = None if credentials.consent is None else consent_of(Path(credentials.consent))
    certificate = certificate_for(credentials.certificate, credentials.key)
    try_certificate(certificate)
    return Sealer(out, certificate, consent)
