"""Entry points of the package: found, documented, and named without the package of any protocol."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import entry_points

import pytest
import yaml
from doc_pages import blocks, written_pages
from started_threads import started_threads

import edgead_plant
from edgead.errors import SettingsError
from edgead.line.site.load import load_site
from edgead.line.triggers import TRIGGERS
from edgead.process.installation import comes_with
from edgead.sinks import SINKS

SITE = {"cameras": {"top": {"uri": "synthetic:"}}, "pipelines": {"caps": {"camera": "top", "model": "model"}}}
S7 = {"kind": "s7", "host": "10.0.0.20", "db": 20}
SECTIONS = {
    "s7": S7,
    "ethernet_ip": {"kind": "ethernet_ip", "host": "10.0.0.21"},
    "opcua": {"kind": "opcua"},
    "sparkplug": {"kind": "sparkplug", "host": "10.0.0.5"},
    "gpio": {"kind": "gpio", "line": 17, "delay_ms": 400},
}
EXTRAS = {"ethernet_ip": "ethernet-ip"}
PAGES = ("docs/how-to/plc-and-plant.md",)
# What fails in each.
THREADS = {
    "gpio": "catches everything: a line that is lost is a fault of its pipeline",
    "gate": "reads what became of each pulse: the end of the gate's process is reported and counted",
    "opc ua": "its sink fails with each verdict then, and its problem says so",
}


def load(tmp_path, **changed):
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(SITE | changed))
    return load_site(tmp_path / "site.yaml", {"SCADA_PASSWORD": "hunter2-is-secret"})


@pytest.mark.parametrize("registry", [SINKS, TRIGGERS], ids=["sinks", "triggers"])
def test_every_entry_point_is_a_component_that_the_core_names_where_this_package_is_not_installed(registry):
    group = f"edgead.{registry.kind}s"
    names = {entry.name for entry in entry_points(group=group) if entry.value.startswith("edgead_plant.")}
    assert names <= set(registry.all()) and not names & set(registry.builtin())
    for name in names:
        assert f"edgead-plant[{EXTRAS.get(name, name)}]" in comes_with(group, name)
    assert len(names) == (5 if registry is SINKS else 3)


def test_every_option_has_a_meaning():
    without = [
        f"{component.name}: {name}"
        for registry in (SINKS, TRIGGERS)
        for component in registry.all().values()
        if component.options.__module__.startswith("edgead_plant.")
        for name, field in component.options.model_fields.items()
        if name != "kind" and not field.description
    ]
    assert without == []


def test_the_schema_and_the_list_of_components_have_them():
    def run(option):
        code = "from edgead.cli import main; main()"
        return subprocess.run([sys.executable, "-c", code, "daemon", option], capture_output=True, text=True).stdout

    (sinks,) = json.loads(run("--schema"))["properties"]["sinks"]["patternProperties"].values()
    assert set(SECTIONS) <= set(sinks["discriminator"]["mapping"])
    assert all(name in run("--components") for name in SECTIONS)


@pytest.mark.parametrize("page", PAGES)
def test_the_parts_of_a_site_on_the_page_can_be_loaded(page, tmp_path):
    parts = [block for block in blocks(page, written_pages()[page]) if block.language == "yaml"]
    found = set()
    for block in parts:
        part = yaml.safe_load(block.text)
        site = load(tmp_path, **part)
        found |= {sink.kind for sink in site.sinks.values()}
        found |= {pipeline.trigger.kind for pipeline in site.pipelines.values()}
    assert set(SECTIONS) <= found


def test_sparkplug_takes_verdicts_alone(tmp_path):
    with pytest.raises(SettingsError, match="notices.sinks: 'plant' takes verdicts alone"):
        load(tmp_path, sinks={"plant": SECTIONS["sparkplug"]}, notices={"sinks": ["plant"]})


def test_sparkplug_is_no_payload_of_mqtt_any_more(tmp_path):
    with pytest.raises(SettingsError, match="sinks.plant.payload: unknown key"):
        load(tmp_path, sinks={"plant": {"kind": "mqtt", "host": "h", "payload": "sparkplug"}})


@pytest.mark.parametrize("kind", [kind for kind in SECTIONS if kind != "gpio"])
def test_a_sink_without_the_package_of_its_protocol_says_what_to_install(kind):
    code = f"""
import sys
for name in ("snap7", "pylogix", "asyncua", "google.protobuf"):
    sys.modules[name] = None
from edgead.errors import EdgeadError
from edgead.sinks import SINKS, open_queued
try:
    open_queued("plant", SINKS.named({kind!r}).options.model_validate({SECTIONS[kind]!r}))
except EdgeadError as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert re.search(rf"needs `.*pip install .*edgead-plant\[{EXTRAS.get(kind, kind)}\]'`", ran.stdout), ran.stderr


def test_naming_them_imports_no_package_of_a_protocol():
    code = """
import sys
from edgead.sinks import SINKS
from edgead.line.triggers import TRIGGERS
SINKS.all(), TRIGGERS.all()
print(*{name.partition(".")[0] for name in sys.modules})
"""
    imported = set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split())
    assert "edgead_plant" in imported
    assert not imported & {"snap7", "pylogix", "asyncua", "gpiod", "paho", "google", "torch", "onnx"}


def test_it_starts_no_thread_that_is_not_in_the_list():
    assert {name for _, name in started_threads(edgead_plant)} == set(THREADS)
