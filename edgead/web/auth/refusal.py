"""HTTP refusal: status, reason and headers of a 4xx answer."""

from __future__ import annotations


class Refusal(Exception):
    """A request that may not go on, with the status, the reason and the headers of the answer."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None):
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers or {}
