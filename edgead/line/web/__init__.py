"""Web server of a daemon: probes, metrics, the API and the operator's page."""

from __future__ import annotations

from edgead.errors import SettingsError
from edgead.process.installation import install_command

try:
    import fastapi  # noqa: F401
    import prometheus_client  # noqa: F401
    import uvicorn  # noqa: F401
except ModuleNotFoundError as error:
    raise SettingsError(f"the page and the API need {error.name}: {install_command('daemon')}") from None
