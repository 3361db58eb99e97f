"""Section `models` of the site file: the keys, one of which must have signed a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from edgead.artifact.signatures.trust import ModelTrust
from edgead.components.options import Section


class ModelsSection(Section):
    """Models that may judge: all, or only models that a key of the site has signed."""

    require_signed: Annotated[
        bool, Field(description="Whether to refuse every model that none of `keys` has signed.")
    ] = False
    keys: Annotated[
        tuple[Path, ...], Field(max_length=64, description="Public keys, each a file that `edgead key new` made.")
    ] = ()
    device_key: Annotated[
        Path | None,
        Field(description="Private key of this device: it signs models learnt here, and these are accepted here."),
    ] = None

    def open_trust(self) -> ModelTrust:
        """Read the keys; raise SettingsError if one cannot be read, or the package cryptography is missing."""
        return ModelTrust(self.require_signed, self.keys, self.device_key)

    @model_validator(mode="after")
    def _has_keys(self) -> ModelsSection:
        if self.require_signed and not self.keys and self.device_key is None:
            raise ValueError("require_signed needs keys: name the public key of who signs your models")
        return self
