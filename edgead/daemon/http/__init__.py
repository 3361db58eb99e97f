"""Probes, metrics, the API and the operator's page of a daemon, over HTTP."""

from __future__ import annotations

from edgead.errors import SettingsError

try:
    import fastapi  # noqa: F401
    import prometheus_client  # noqa: F401
    import uvicorn  # noqa: F401
except ModuleNotFoundError as error:
    raise SettingsError(f"the page and the API need {error.name}: pip install 'edgead[daemon]'") from None
