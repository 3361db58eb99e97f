"""Signing in and out of the page."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, SecretStr

from edgead.daemon.http.dependencies import ClientAddress, TheGuard
from edgead.daemon.http.schemas import Done, SessionAnswer

routes = APIRouter(prefix="/api", tags=["sign in"])


class TokenGiven(BaseModel):
    token: Annotated[SecretStr, Field(max_length=1024)]


@routes.get("/session")
def session(request: Request, guard: TheGuard) -> SessionAnswer:
    """Report whether this browser must sign in, and give its CSRF token."""
    if guard.token is None:
        return SessionAnswer(token_needed=False, signed_in=True, csrf=None)
    found = guard.sessions.find(request.cookies.get(guard.cookie))
    return SessionAnswer(token_needed=True, signed_in=found is not None, csrf=found.csrf if found else None)


@routes.post("/login")
def login(given: TokenGiven, response: Response, address: ClientAddress, guard: TheGuard) -> Done:
    """Exchange the token for a cookie."""
    if guard.token is None:
        return Done(done="no token is needed")
    guard.check_token(given.token.get_secret_value(), address)
    guard.sign_in(response)
    return Done(done="signed in")


@routes.post("/logout")
def logout(request: Request, response: Response, guard: TheGuard) -> Done:
    """End the session of this browser."""
    guard.sign_out(request, response)
    return Done(done="signed out")
