"""State of a follower that outlives a restart; written atomically."""

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
    """A signed model that is older than one which has judged, or of another product; the message says what to do."""


class Signed(BaseModel, frozen=True, extra="forbid"):
    """What the signatures of a pipeline's models have said: of which product they are, and the highest counter."""

    product: str
    counter: int


class FollowRecord(BaseModel, frozen=True, extra="forbid"):
    """Digests of one pipeline.

    Attributes
    ----------
    seen : str or None
        What the tag led to when it was last dealt with; nothing is done until it leads to something else.
    current, previous : str or None
        Whose models are in service, and were before; None for the one that the site file names.
    pinned : bool
        Somebody has gone away from what the tag leads to.
    trying : str or None
        What is tested, or new in service; `starts` counts how often it was started since.
    refused : dict of str
        What will not be tried again, with the reason.
    signed : Signed or None
        What later models must not be below; None as long as no signature was demanded.
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
    signed: Signed | None = None

    def refusing(self, digest: str, reason: str) -> FollowRecord:
        refused = {**self.refused, digest: reason[:_MAX_REASON]}
        newest = dict(list(refused.items())[-MAX_REFUSED:])
        return self.model_copy(update={"seen": digest, "trying": None, "starts": 0, "refused": newest, "pinned": False})

    def serving(self, digest: str, signed: Signed | None) -> FollowRecord:
        update = {"seen": digest, "previous": self.current, "current": digest, "pinned": False, "signed": signed}
        return self.model_copy(update={**update, "changed_at": datetime.now(timezone.utc)})

    def check_newer(self, signatures: Sequence[Signature]) -> Signed | None:
        """Compare the signatures that let a model in with those of models before it; gives what holds after it.

        Raises
        ------
        ReplayedModelError
            All of them are of another product, or older: whoever moves the tag could else bring back any model that
            was ever signed.
        """
        if not signatures:
            return self.signed
        before = self.signed or Signed(product="", counter=0)
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
        return Signed(product=newest.product, counter=newest.counter)


def read_record(file: Path, source: str) -> FollowRecord:
    """Read the record of what follows a tag; one of another tag keeps what is in service and what is refused.

    What its signatures must not be below is forgotten then: who writes the site file may choose other models.
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
