"""The daemon's log: one JSON object a line on stderr, without the site's secrets."""

from __future__ import annotations

import json
import logging
import sys
import threading
from datetime import datetime, timezone
from typing import Any, TextIO
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, SecretStr

from edgead.components.uri import without_credentials
from edgead.line.site.schema import Site

_HIDDEN = "***"
# Shorter ones would also blot out parts of words.
_SHORTEST_SECRET = 4
_OF_EVERY_RECORD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "color_message"}


class JsonFormatter(logging.Formatter):
    """Formatter of records as lines of JSON, with each `extra` as a key."""

    def __init__(self) -> None:
        super().__init__()
        self._secrets: frozenset[str] = frozenset()

    def hide(self, site: Site) -> None:
        """Mask the secrets of this site in all later lines."""
        self._secrets |= {secret for secret in _secrets(site) if len(secret) >= _SHORTEST_SECRET}

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        line = {"at": at, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        line |= {key: value for key, value in vars(record).items() if key not in _OF_EVERY_RECORD}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(self._without_secrets(line), default=str, ensure_ascii=False)

    def _without_secrets(self, value: Any) -> Any:
        if isinstance(value, str):
            for secret in sorted(self._secrets, key=len, reverse=True):  # a whole URI before its password
                value = value.replace(secret, _HIDDEN)
        elif isinstance(value, dict):
            return {key: self._without_secrets(item) for key, item in value.items()}
        elif isinstance(value, list | tuple):
            return [self._without_secrets(item) for item in value]
        return value


def log_json_lines(stream: TextIO | None = None) -> JsonFormatter:
    """Send all log records, warnings and exceptions of threads to a stream, by default stderr, as JSON lines."""
    formatter = JsonFormatter()
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    # The daemon's own messages say already that it starts and stops.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    threading.excepthook = _log_dead_thread
    return formatter


def _log_dead_thread(dead: threading.ExceptHookArgs) -> None:
    name = dead.thread.name if dead.thread else "unknown"
    if dead.exc_value is not None:
        trace = (dead.exc_type, dead.exc_value, dead.exc_traceback)
        logging.getLogger(__name__).error("the thread %s died", name, exc_info=trace)


def _secrets(value: Any) -> set[str]:
    if isinstance(value, SecretStr):
        return {value.get_secret_value()}
    if isinstance(value, BaseModel):
        return set().union(*(_secrets(getattr(value, name)) for name in type(value).model_fields))
    if isinstance(value, dict):
        return set().union(*map(_secrets, value.values()))
    if isinstance(value, str) and without_credentials(value) != value:
        return {value, *_password(value)}
    return set()


def _password(uri: str) -> set[str]:
    try:
        password = urlsplit(uri).password or ""
    except ValueError:
        return set()
    return {password, unquote(password)}
