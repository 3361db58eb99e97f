"""Limit of wrong tokens and passwords from one address."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

_MAX_ADDRESSES = 1024
_IPV6_PREFIX = 64  # one customer has at least that many addresses; counting single ones would limit nobody


class FailureLimit:
    """Counter of failures by address, which says how long to wait; in bounded memory, as the oldest are forgotten."""

    def __init__(self, *, most: int, within_s: float, clock: Callable[[], float] = time.monotonic):
        self._most, self._within_s, self._clock = most, within_s, clock
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_s(self, address: str) -> float:
        """Return the seconds until an address may try again; 0 if it may try now."""
        with self._lock:
            count, since = self._failures.get(network_of(address), (0, 0.0))
            left_s = since + self._within_s - self._clock()
            return max(0.0, left_s) if count >= self._most else 0.0

    def add(self, address: str) -> None:
        """Count one failure."""
        network, now = network_of(address), self._clock()
        with self._lock:
            count, since = self._failures.pop(network, (0, now))
            if now - since > self._within_s:
                count, since = 0, now
            self._failures[network] = (count + 1, since)
            if len(self._failures) > _MAX_ADDRESSES:
                self._failures.popitem(last=False)

    def __len__(self) -> int:
        return len(self._failures)


def network_of(address: str) -> str:
    """Return the key that failures are counted by: an IPv4 address, or the network of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address  # a Unix socket, a test client
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, _IPV6_PREFIX), strict=False))
    return str(parsed)
