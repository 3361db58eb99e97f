"""The operator's page and the list of the API: files of the package, nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from starlette.staticfiles import StaticFiles

_FOLDER = Path(__file__).parent / "page"


def add(app: FastAPI) -> None:
    """Serve the page under /, the API's list under /docs, and their files."""

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(_FOLDER / "index.html")

    @app.get("/docs", include_in_schema=False)
    def docs() -> FileResponse:
        return FileResponse(_FOLDER / "docs.html")

    app.mount("/page", StaticFiles(directory=_FOLDER), name="page")
