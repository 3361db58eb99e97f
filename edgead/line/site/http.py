"""Section `http` of the site file: where page and API listen, and who may sign in with which role."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, IPvAnyNetwork, SecretStr, model_validator

from edgead.components.options import Host, Name, Seconds, Section, is_loopback
from edgead.line.site.users import Role

_FEWEST = 16


def _long_enough(token: SecretStr) -> SecretStr:
    if len(token.get_secret_value()) < _FEWEST:
        raise ValueError(f"is shorter than {_FEWEST} characters: `openssl rand -hex 32` makes one")
    return token


def _not_all(network: IPvAnyNetwork) -> IPvAnyNetwork:
    if network.prefixlen == 0:
        raise ValueError("believes everybody: name the address of the proxy")
    return network


def _is_here(network: IPvAnyNetwork) -> bool:
    return network.is_loopback or any(ip_address(own) in network for own in ("127.0.0.1", "::1"))


Token = Annotated[SecretStr, AfterValidator(_long_enough)]
Header = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$")]
RoleName = Annotated[Role, Field(description="view, operate or engineer.")]


class TokenSection(Section):
    """Token of one program, with its own name and role."""

    token: Annotated[Token, Field(description="16 characters or more; best from the environment.")]
    role: RoleName = "view"


class PanelSection(Section):
    """Panel at the line, whose browser stays signed in."""

    token: Annotated[Token, Field(description="Typed once on the panel; a new token signs it out.")]
    role: Annotated[Literal["view", "operate"], Field(description="Role of anybody at the panel: view or operate.")] = (
        "operate"
    )
    days: Annotated[float, Field(gt=0, le=3650, description="Time that the panel stays signed in.")] = 365.0


class ProxySection(Section):
    """Proxy that signs people in (OIDC, LDAP), and sends their names and groups in headers."""

    from_: Annotated[
        tuple[Annotated[IPvAnyNetwork, AfterValidator(_not_all)], ...],
        Field(alias="from", min_length=1, max_length=16, description="The proxy's addresses, such as [127.0.0.1/32]."),
    ]
    user_header: Annotated[Header, Field(description="Header with the person's name.")] = "X-Forwarded-User"
    groups_header: Annotated[Header, Field(description="Header with the person's groups.")] = "X-Forwarded-Groups"
    separator: Annotated[str, Field(pattern=r"^[,;|]$", description="Sign between groups: `,`, `;` or `|`.")] = ","
    roles: Annotated[
        dict[Annotated[str, Field(min_length=1, max_length=255)], Role],
        Field(min_length=1, description="Roles by group; the highest counts. A person in none of them is refused."),
    ]
    secret_header: Annotated[Header, Field(description="Header with `secret`.")] = "X-Proxy-Secret"
    secret: Annotated[
        Token | None, Field(description="Secret that only the proxy knows; needed if the proxy runs on this computer.")
    ] = None

    @model_validator(mode="after")
    def _nobody_elses(self) -> ProxySection:
        # A page whose name was rebound to this computer may set any header, and comes from here just as the proxy does.
        if self.secret is None and any(_is_here(network) for network in self.from_):
            raise ValueError("a proxy on this computer needs a secret: every program and page here could say the same")
        if len({each.lower() for each in (self.user_header, self.groups_header, self.secret_header)}) < 3:
            raise ValueError("user_header, groups_header and secret_header must be three different headers")
        return self


class HttpSection(Section):
    """The page and the API. Without a token, users, panels or a proxy, only this computer can reach them."""

    host: Annotated[
        Host, Field(description="Address to listen on; any but this computer's own needs a token or users.")
    ] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="Port; 0 takes a free one.")] = 8080
    token: Annotated[
        SecretStr | None,
        Field(description="Token with the role engineer, 16 characters or more; best from the environment."),
    ] = None
    users: Annotated[
        Path | None, Field(description="File of the people who sign in by name; `edgead user` writes it.")
    ] = None
    tokens: Annotated[
        dict[Name, TokenSection], Field(description="More tokens, by the names that the list of changes shows.")
    ] = {}
    panels: Annotated[dict[Name, PanelSection], Field(description="Panels at the line, by name.")] = {}
    unlock_minutes: Annotated[float, Field(gt=0, le=480, description="Time that a PIN raises a panel's role.")] = 5.0
    proxy: Annotated[ProxySection | None, Field(description="A proxy that signs people in.")] = None
    secure_cookie: Annotated[bool, Field(description="Set it only behind a proxy that serves HTTPS.")] = False
    session_hours: Annotated[float, Field(gt=0, le=24 * 365, description="Longest time that a sign-in lasts.")] = 12.0
    session_idle_minutes: Annotated[
        float, Field(gt=0, le=60 * 24 * 365, description="A sign-in ends earlier if no page is open for this time.")
    ] = 60.0
    failures_most: Annotated[
        int, Field(ge=1, le=10**6, description="Wrong tokens and passwords of an address in `failures_within_s`.")
    ] = 10
    failures_within_s: Annotated[Seconds, Field(description="Time in which wrong ones are counted.")] = 60.0

    @property
    def is_open(self) -> bool:
        """Whether the page can be used without signing in."""
        return not (self.token or self.users or self.tokens or self.panels or self.proxy)

    @model_validator(mode="after")
    def _guarded(self) -> HttpSection:
        if not is_loopback(self.host) and self.is_open:
            raise ValueError(
                f"host {self.host} can be reached from elsewhere: give a token or users, or bind 127.0.0.1"
            )
        if self.token is not None and len(self.token.get_secret_value()) < _FEWEST:
            raise ValueError("the token is shorter than 16 characters: `openssl rand -hex 32` makes one")
        named: dict[str, TokenSection | PanelSection] = {**self.tokens, **self.panels}
        given = [
            self.token,
            *(each.token for each in self.tokens.values()),
            *(each.token for each in self.panels.values()),
        ]
        uses = Counter(token.get_secret_value() for token in given if token is not None)
        if len(named) < len(self.tokens) + len(self.panels) or any(count > 1 for count in uses.values()):
            raise ValueError(
                "two tokens or panels have the same name or the same token: who uses it would not be known"
            )
        return self
