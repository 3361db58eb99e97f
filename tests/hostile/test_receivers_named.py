"""Receivers whose host nobody can look up are refused where the site file is read, not by a thread that ends."""

from __future__ import annotations

import re

import pytest
import yaml

from edgead.errors import SettingsError
from edgead.line.site.load import load_site

NO_HOSTS = {"empty_label": "a..b", "label_of_80": "a" * 80, "leading_dot": ".plc", "nul": "plc\0", "newline": "p\nlc"}
KINDS = ("modbus", "mqtt", "webhook")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NO_HOSTS)
def test_a_host_that_nobody_can_look_up(tmp_path, kind, name):
    host = NO_HOSTS[name]
    sink = {"kind": kind, **({"url": f"http://{host}/SECRET"} if kind == "webhook" else {"host": host})}
    site = {
        "cameras": {"top": {"uri": "camera:0"}},
        "pipelines": {"front": {"camera": "top", "model": "model", "sinks": ["plc"]}},
        "sinks": {"plc": sink},
    }
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(site))
    place = "url" if kind == "webhook" else "host"
    with pytest.raises(SettingsError, match=rf"site.yaml, line \d+: sinks.plc.{place}: ") as refused:
        load_site(tmp_path / "site.yaml")
    assert re.search("is no name of a host|control character|has a NUL", str(refused.value)) and "SECRET" not in str(
        refused.value
    )
