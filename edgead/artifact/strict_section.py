"""Base of the manifest's sections: unknown keys and numbers that are not finite are refused."""

from pydantic import BaseModel, ConfigDict


class StrictSection(BaseModel):
    """Base of the manifest's sections: unknown keys and numbers that are not finite are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
