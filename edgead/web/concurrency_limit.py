"""Limit of the requests that are worked on at a time."""

from __future__ import annotations

from collections import Counter

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgead.web.middleware import OPEN_FOLDER, OPEN_PATHS
from edgead.web.problems import problem

# Signing in reads a body of people who are not known yet: they may wait for each other, and for nobody else.
_SIGN_IN = "/api/login"
_MAX_REQUESTS = {_SIGN_IN: 8, "": 64}


class ConcurrencyLimit:
    """Answers 503 to what is too much.

    What is open to all is answered always: probes, for who asks them would restart a busy device, and the page's files,
    or strangers could take their place. Their number is that of the connections.
    """

    def __init__(self, app: ASGIApp):
        self._app = app
        self._under_way: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        lane = _SIGN_IN if path == _SIGN_IN else ""
        if scope["type"] != "http" or (not lane and (path in OPEN_PATHS or path.startswith(OPEN_FOLDER))):
            await self._app(scope, receive, send)
            return
        if lane:  # strangers who dawdle with their body take no place
            receive = await _whole(receive)
        if self._under_way[lane] >= _MAX_REQUESTS[lane]:
            detail = f"{_MAX_REQUESTS[lane]} requests are under way: try again"
            await problem(503, detail, {"Retry-After": "1", "Connection": "close"})(scope, receive, send)
            return
        self._under_way[lane] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._under_way[lane] -= 1


async def _whole(receive: Receive) -> Receive:
    """Wait for the whole of a body; gives what receives it again."""
    messages: list[Message] = []
    problem: HTTPException | None = None
    try:
        while not messages or messages[-1].get("more_body", False):
            messages.append(await receive())
    except HTTPException as error:  # it is too long: the app answers that
        problem = error

    async def again() -> Message:
        if messages:
            return messages.pop(0)
        if problem is not None:
            raise problem
        return await receive()

    return again
