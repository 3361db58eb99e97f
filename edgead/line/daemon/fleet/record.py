"""State of a follower, kept over restarts and written atomically."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from pydantic import BaseModel, ValidationError

from edgead.artifact.signatures.signature import Signature
from edgead.errors import EdgeadError
from edgead.files.atomic import write_whole

logger = logging.getLogger(__name__)

MAX_REFUSED = 32
_MAX_REASON = 500


class ReplayedModelError(EdgeadError):
    """Signed model of another product, or older than a model that has judged here; the message says what to do."""


class SignatureRecord(BaseModel, frozen=True, extra="forbid"):
    """Product and highest counter that the signatures of a pipeline's models have stated so far."""

    product: str
    counter: int


class FollowRecord(BaseModel, frozen=True, extra="forbid"):
    """Record of the digests that one pipeline follows.

    `seen`: the tag's digest when the tag was last handled; nothing is done until the tag has another digest.
    `current`, `previous`: digests in service now and before; None for the model of the site file.
    `pinned`: whether somebody has chosen another model than the tag's.
    `trying`: digest under trial: being tested, or new in service; `starts` counts its starts so far.
    `refused`: digests that will not be tried again, with the reasons.
    `signed`: lower bound for later models; None as long as no signature was required.
    """

    source: str = ""
    seen: str | None = None
    current: str | None = None
    previous: str | None = None
    pinned: bool = False
    trying: str | None = None
    starts: int = 0
    refused: dict[str, str] = {}
    changed_at: datetime | None = None
    signed: SignatureRecord | None = None

    def refusing(self, digest: str, reason: str) -> FollowRecord:
        refused = {**self.refused, digest: reason[:_MAX_REASON]}
        newest = dict(list(refused.items())[-MAX_REFUSED:])
        return self.model_copy(update={"seen": digest, "trying": None, "starts": 0, "refused": newest, "pinned": False})

    def serving(self, digest: str, signed: SignatureRecord | None) -> FollowRecord:
        update = {"seen": digest, "previous": self.current, "current": digest, "pinned": False, "signed": signed}
        return self.model_copy(update={**update, "changed_at": datetime.now(timezone.utc)})

    def check_newer(self, signatures: Sequence[Signature]) -> SignatureRecord | None:
        """Check that a new model is not older than earlier ones; return the bound for later models.

        Raises ReplayedModelError: all signatures are of another product, or older: otherwise, whoever moves the tag
            could bring back any model that was ever signed.
        """
        if not signatures:
            return self.signed
        before = self.signed or SignatureRecord(product="", counter=0)
        mine = [each for each in signatures if before.product in ("", each.product)]
        if not mine:
            named = " and ".join(sorted({repr(each.product) if each.product else "no product" for each in signatures}))
            raise ReplayedModelError(
                f"it is signed for {named}, and this pipeline's models are of {before.product!r}: lead the tag to one "
                "of that, or name another source in the site file"
            )
        newest = max(mine, key=lambda each: each.counter)
        if newest.counter < before.counter:
            raise ReplayedModelError(
                f"it is older than one that has judged here (its counter is {newest.counter}, that one's "
                f"{before.counter}): where it shall come back, sign it again and push it"
            )
        return SignatureRecord(product=newest.product, counter=newest.counter)


def read_record(file: Path, source: str) -> FollowRecord:
    """Read the record of a followed tag; from a record of another tag, keep only the models in service and refused.

    The bound of signatures is then forgotten: the author of the site file may choose other models.
    """
    try:
        found = FollowRecord.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return FollowRecord(source=source)
    except (OSError, ValidationError):
        logger.warning("%s cannot be read: the model of the site file judges until the tag has been looked at", file)
        return FollowRecord(source=source)
    if found.source != source:
        return found.model_copy(update={"source": source, "seen": None, "pinned": False, "signed": None})
    return found


def write_record(file: Path, record: FollowRecord) -> None:
    write_whole(file, record.model_dump_json(indent=1).encode())
