"""Routes that sign in and out of the page, and raise the role of a panel by a PIN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

import anyio.to_thread
from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import AfterValidator, BaseModel, Field, SecretStr, StringConstraints, model_validator

from edgead.line.site.users import MAX_CHARACTERS, Role, user_name
from edgead.line.web.answers import Done
from edgead.line.web.auth.callers import Caller, Refusal, Who, named
from edgead.line.web.auth.cookies import SignedIn
from edgead.line.web.auth.guard import client_address, log_session
from edgead.line.web.dependencies import Daemon, TheGuard
from edgead.line.web.problems import problems

routes = APIRouter(prefix="/api", tags=["sign in"])

Found = TypeVar("Found")
PersonName = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=64),
    Field(description="As `edgead user list` shows it."),
]


class Given(BaseModel):
    """Credentials: a token, or a name and a password."""

    token: Annotated[SecretStr | None, Field(max_length=1024)] = None
    name: PersonName | None = None
    password: Annotated[SecretStr | None, Field(max_length=MAX_CHARACTERS)] = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Given:
        if (self.token is None) == (self.name is None) or (self.name is None) != (self.password is None):
            raise ValueError("give a token, or a name and a password")
        return self

    def person(self) -> tuple[str, str]:
        return self.name or "", self.password.get_secret_value() if self.password else ""


class PinGiven(BaseModel):
    name: Annotated[PersonName, AfterValidator(user_name)]  # the audit shows it, even if it is refused
    pin: Annotated[SecretStr, Field(min_length=4, max_length=8, description="4 to 8 digits.")]


class SessionAnswer(BaseModel):
    """Identity of this browser, and the ways to sign in."""

    token_needed: Annotated[bool, Field(description="Whether the page needs a sign-in.")]
    signed_in: bool
    csrf: Annotated[str | None, Field(description="Token to send as X-CSRF-Token with every change.")]
    ways: Annotated[list[Literal["token", "password", "proxy"]], Field(description="Possible ways to sign in.")]
    way: Annotated[
        Literal["open", "token", "password", "pin", "panel", "proxy"] | None, Field(description="This browser's way.")
    ] = None
    name: Annotated[str, Field(description="Name for the list of changes; empty if the page asks for it.")] = ""
    role: Role | None = None
    panel: Annotated[str, Field(description="Name of the panel; empty for other browsers.")] = ""
    can_unlock: Annotated[bool, Field(description="Whether a PIN can raise the role of this panel.")] = False
    raised_s: Annotated[float | None, Field(description="Seconds for which a PIN still raises the role.")] = None
    problem: Annotated[str | None, Field(description="Reason why the proxy's headers are refused.")] = None


@routes.get("/session")
def session(request: Request, guard: TheGuard) -> SessionAnswer:
    """Report this browser's identity, the ways to sign in, and its CSRF token."""
    ways = {"token": guard.has_tokens, "password": guard.has_users, "proxy": guard.has_proxy}
    answer: dict[str, Any] = {"token_needed": not guard.is_open, "ways": [way for way, there in ways.items() if there]}
    try:
        found = guard.find(request)
    except Refusal as refused:
        found, answer["problem"] = None, refused.detail
    if found is None:
        return SessionAnswer(signed_in=False, csrf=None, **answer)
    return SessionAnswer(signed_in=True, csrf=found.csrf, **answer, **_described(request, guard, found))


def _described(request: Request, guard: TheGuard, found: SignedIn) -> dict[str, Any]:
    who = found.who
    raised_s = guard.cookies.raised_s(request) if who.way == "pin" else None
    can_unlock = who.way in ("panel", "pin") and guard.has_users
    described = {"way": who.way, "name": who.name, "role": who.role, "panel": who.panel}
    return {**described, "can_unlock": can_unlock, "raised_s": raised_s}


@routes.post("/login")
async def login(given: Given, request: Request, response: Response, guard: TheGuard) -> Done:
    """Exchange a token, or a name and a password, for a cookie."""
    if guard.is_open:
        return Done(done="no token is needed")
    address = client_address(request)
    if given.token is not None:
        who = guard.by_token(given.token.get_secret_value(), address)
    else:
        who = await _one_at_a_time(request, lambda: guard.by_password(*given.person(), address))
    guard.cookies.sign_in(request, response, who)
    log_session("signed in", who, address)
    return Done(done="signed in")


@routes.post("/logout")
def logout(request: Request, response: Response, guard: TheGuard) -> Done:
    """End the session of this browser."""
    found = guard.cookies.find(request)
    guard.cookies.sign_out(request, response)
    if found is not None:
        log_session("signed out", found.who, client_address(request))
    return Done(done="signed out")


@routes.post("/unlock", responses=problems(409))
async def unlock(given: PinGiven, request: Request, response: Response, daemon: Daemon, guard: TheGuard) -> Done:
    """Raise the role of a panel for some minutes, by name and PIN; audited, even if it is refused."""
    panel = guard.cookies.panel_of(request)
    if panel is None:
        raise HTTPException(409, "only a panel is unlocked by a PIN: sign in by name and password")
    pin = given.pin.get_secret_value()
    address = client_address(request)

    def tried() -> Who:
        try:
            who = guard.by_pin(panel.name, given.name, pin)
        except Refusal as refused:
            if refused.status == 403:  # a caller who must wait was counted, and audited, before
                _audit(daemon, named(given.name, Caller(guard.cookies.as_panel(panel.name), address)), "unlock_refused")
            raise
        minutes = guard.cookies.raised.lifetime_s / 60
        _audit(daemon, named("", Caller(who, address)), "unlock", {"role": who.role, "minutes": minutes})
        return who

    guard.cookies.unlock(request, response, await _one_at_a_time(request, tried))
    return Done(done="unlocked")


@routes.post("/lock", responses=problems(409))
def lock(request: Request, response: Response, daemon: Daemon, guard: TheGuard) -> Done:
    """End a panel's raised role before its time; audited."""
    who = request.scope["signed_in"].who
    if who.way != "pin":
        raise HTTPException(409, "this panel is locked already, or is none")
    guard.cookies.lock(request, response)
    _audit(daemon, named("", Caller(who, client_address(request))), "lock")
    return Done(done="locked")


def _audit(daemon: Daemon, by: str, action: str, after: Any = None) -> None:
    daemon.store.add_audit(by=by, action=action, pipeline="", before=None, after=after)


async def _one_at_a_time(request: Request, check: Callable[[], Found]) -> Found:
    """Check a password or PIN in a thread that all requests share: many checks at once need much memory and time.

    So a wrong PIN is also counted before the next one is checked.
    """
    return await anyio.to_thread.run_sync(check, limiter=request.app.state.hashing)
