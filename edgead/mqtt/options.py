"""What must be known of an MQTT broker to connect to it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr

from edgead.components.options import Host, Port, Section


class BrokerOptions(Section):
    """An MQTT broker, and who connects to it."""

    host: Host
    port: Port = 1883
    user: str | None = None
    password: SecretStr | None = None
    tls: bool = False
    ca_file: Path | None = None
    keepalive_s: Annotated[
        int, Field(ge=2, le=3600, description="A broker that is silent for 1.5 times as long is away.")
    ] = 15
    retry_most_s: Annotated[int, Field(ge=1, le=86_400, description="Longest wait between two tries to connect.")] = 15
