"""Options of a connection to an MQTT broker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr

from edgead.components.options import Host, Port, Section

Topic = Annotated[str, Field(pattern=r"^[^+#\s\x00-\x1f$][^+#\x00-\x1f]{0,200}$")]
"""Name of one topic, without wildcards."""


class BrokerOptions(Section):
    """MQTT broker, and the user who connects to it."""

    host: Annotated[Host, Field(description="Name or address of the broker.")]
    port: Annotated[Port, Field(description="Of the broker; 8883 is usual with TLS.")] = 1883
    user: Annotated[str | None, Field(description="Name to sign in with.")] = None
    password: Annotated[SecretStr | None, Field(description="Best from the environment.")] = None
    tls: Annotated[bool, Field(description="Encrypt, and check who the broker is.")] = False
    ca_file: Annotated[
        Path | None, Field(description="Certificates that the broker is checked by; by default those of the system.")
    ] = None
    keepalive_s: Annotated[
        int, Field(ge=2, le=3600, description="A broker that is silent for 1.5 times as long is away.")
    ] = 15
    retry_most_s: Annotated[int, Field(ge=1, le=86_400, description="Longest wait between two tries to connect.")] = 15
