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
    port: Annotated[Port, Field(description="Port of the broker; 8883 is usual with TLS.")] = 1883
    user: Annotated[str | None, Field(description="Name to sign in with.")] = None
    password: Annotated[SecretStr | None, Field(description="Password; best from the environment.")] = None
    tls: Annotated[bool, Field(description="Whether to encrypt, and check the broker's certificate.")] = False
    ca_file: Annotated[
        Path | None, Field(description="File of certificates to check the broker by; by default the system's.")
    ] = None
    keepalive_s: Annotated[
        int, Field(ge=2, le=3600, description="A broker silent for 1.5 times as long counts as lost.")
    ] = 15
    retry_most_s: Annotated[int, Field(ge=1, le=86_400, description="Longest wait between two tries to connect.")] = 15
