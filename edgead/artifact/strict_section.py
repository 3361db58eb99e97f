"""A section of the manifest: unknown keys and what is not finite are refused."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A section of the manifest: unknown keys and what is not finite are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
