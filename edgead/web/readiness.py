"""Reasons for which a device is not ready: pipelines out of service, required sinks that fail."""

from __future__ import annotations

from edgead.web.contract import Served


def pipelines_waited_for(daemon: Served) -> list[str]:
    """Name the pipelines that are not in service."""
    # Copied, here and below: a reload may change the dictionary meanwhile.
    return [name for name, pipeline in list(daemon.pipelines.items()) if pipeline.status().state != "running"]


def failing_sinks(daemon: Served) -> dict[str, str]:
    """Name the required sinks that have failed for too long, with a reason that shows no address."""
    found = [sink.status() for sink in list(daemon.sinks.values())]
    return {one.name: f"is required and has failed for {one.failing_s:.0f} s" for one in found if one.blocks}
