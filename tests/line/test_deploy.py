"""What deploy/ has for containers: sites that load, metrics that exist, rules that Prometheus takes."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from importlib.metadata import requires
from pathlib import Path

import pytest
import yaml
from fake_daemon import FakeDaemon
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from system_packages import require

from edgead.line.site.load import load_site
from edgead.line.web.metrics import build_registry

DEPLOY = Path(__file__).parents[2] / "deploy"
MONITORING = DEPLOY / "monitoring"
ALERTS = yaml.safe_load((MONITORING / "alerts.yaml").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((MONITORING / "grafana" / "dashboards" / "edgead.json").read_text())
EXPRESSIONS = [rule["expr"] for rule in RULES] + [
    target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]
]


@pytest.fixture
def samples(tmp_path):
    """Of every metric, by its name, the values that each of its labels has."""
    daemon = FakeDaemon(tmp_path)
    daemon.judge(1, 0.9)
    found: dict[str, dict[str, set[str]]] = {}
    for family in build_registry(daemon).collect():
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_metric_exists_with_its_labels(expression, samples):
    names = re.findall(r"\b(?:edgead|process)_\w+", re.sub(r'"[^"]*"', "", expression))
    assert set(names) <= set(samples), "no such metric"
    assert names or expression.startswith("up{")
    for name, selector in re.findall(r"\b(edgead_\w+)\{([^}]*)\}", expression):
        for label, operator, wanted in re.findall(r'(\w+)(=~|!=|=)"([^"]*)"', selector):
            assert label in samples[name], f"{name} has no label {label}"
            if operator != "!=" and not wanted.startswith("$"):
                assert set(wanted.split("|")) <= samples[name][label], f"{name}: {label} is never {wanted}"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_says_of_what_it_speaks(rule, samples):
    assert rule["labels"]["severity"] in ("warning", "critical")
    names = re.findall(r"edgead_\w+", rule["expr"])
    known = {"instance"}.union(*(samples[name] for name in names))
    assert set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])) <= known


def test_prometheus_takes_the_rules(tmp_path):
    promtool = require("promtool")
    for kind, name in (("rules", "alerts.yaml"), ("config", "prometheus.yaml")):
        command = [promtool, "check", kind, *(["--syntax-only"] if kind == "config" else []), MONITORING / name]
        checked = subprocess.run(command, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout + checked.stderr


# Each alert that has a story here: what was measured every minute, and when it is to be on.
STORIES = {
    "EdgeadRejectsInARow": (['edgead_notices_open{kind="rejects_in_a_row"} 0x9 1x9'], "5m", "11m"),
    "EdgeadYieldIsBelowItsLimit": (['edgead_notices_open{kind="yield_below"} 0x9 1x9'], "5m", "11m"),
    "EdgeadNoPartComes": (['edgead_notices_open{kind="no_part"} 0x9 1x9'], "5m", "12m"),
    "EdgeadPartsAreNotInspected": (['edgead_notices_open{kind="not_inspected"} 0x9 1x9'], "5m", "12m"),
    "EdgeadFramesDoNotFitTheModel": (['edgead_notices_open{kind="frame_format"} 0x9 1x9'], "5m", "11m"),
    "EdgeadSiteFileIsNotInForce": (['edgead_notices_open{kind="site"} 0x9 1x9'], "5m", "12m"),
    "EdgeadYieldHasFallen": (
        [
            'edgead_verdicts_total{pipeline="a",decision="ok"} 0+90x40 3600+60x40',
            'edgead_verdicts_total{pipeline="a",decision="reject"} 0+10x40 400+40x40',
        ],
        "40m",
        "75m",
    ),
    "EdgeadNoticesAreLost": (['edgead_sink_notices_lost_total{sink="hook"} 0x9 1x9'], "5m", "11m"),
    "EdgeadSinkFails": (['edgead_sink_faulty{sink="hook"} 0x9 1x9'], "9m", "13m"),
    "EdgeadDrift": (['edgead_drift_warning{pipeline="a",cause="camera"} 0x9 1x9'], "9m", "16m"),
}


def test_alerts_come_when_they_should_and_not_before(tmp_path):
    promtool = require("promtool")
    tests = []
    for alert, (series, calm, alarmed) in STORIES.items():
        given = [{"series": name, "values": values} for name, _, values in (one.partition(" ") for one in series)]
        firing = f'count(ALERTS{{alertname="{alert}", alertstate="firing"}}) or vector(0)'
        checks = [
            {"expr": firing, "eval_time": at, "exp_samples": [{"value": value}]}
            for at, value in ((calm, 0), (alarmed, 1))
        ]
        tests.append({"interval": "1m", "input_series": given, "promql_expr_test": checks})
    file = tmp_path / "test.yaml"
    rules = [str(MONITORING / "alerts.yaml")]
    file.write_text(yaml.safe_dump({"rule_files": rules, "evaluation_interval": "1m", "tests": tests}))
    checked = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_site_of_the_container_loads_and_lies_in_its_volume(monkeypatch):
    monkeypatch.setenv("EDGEAD_TOKEN", "of-nobody-but-this-test")
    monkeypatch.setenv("PROMETHEUS_TOKEN", "of-a-reader-of-this-test")
    site = load_site(DEPLOY / "container-site.yaml")
    assert site.http is not None and site.http.port == 8080 and site.http.tokens["prometheus"].role == "view"
    for path in (site.store.folder, *(pipeline.model for pipeline in site.pipelines.values())):
        assert path is not None and path.is_relative_to("/var/lib/edgead")


def test_what_the_composition_mounts_and_names_is_there():
    composition = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = composition["services"]
    for service in services.values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in composition["volumes"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        assert set(service.get("secrets", ())) <= set(composition["secrets"])
        assert set(service.get("depends_on", ())) <= set(services)
    scrapes = yaml.safe_load((MONITORING / "prometheus.yaml").read_text())["scrape_configs"]
    assert [target for scrape in scrapes for config in scrape["static_configs"] for target in config["targets"]] == [
        "edgead:8080"
    ]


def test_the_lists_of_packages_have_what_edgead_asks_for():
    system = re.search(r"^requires = (.+)", (DEPLOY.parent / "pyproject.toml").read_text(), re.MULTILINE)
    asked = {"requirements.txt": requires("edgead"), "build-requirements.txt": ast.literal_eval(system[1])}
    for file, requirements in asked.items():
        pinned = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (DEPLOY / file).read_text(), re.MULTILINE))
        for requirement in map(Requirement, requirements):
            if all(
                requirement.marker and not requirement.marker.evaluate({"extra": extra})
                for extra in ("daemon", "people")
            ):
                continue
            version = pinned.get(canonicalize_name(requirement.name))
            assert version and version in requirement.specifier, f"{requirement} is not in {file}: run `make locks`"


def test_the_image_runs_as_nobody_special_and_asks_whether_it_is_ready():
    lines = (DEPLOY / "Containerfile").read_text()
    assert "\nUSER edgead\n" in lines and "/readyz" in lines.partition("HEALTHCHECK")[2]
    assert lines.count("pip install") - lines.count("--require-hashes") == 2, (
        "edgead itself, and extras that are asked for"
    )
    copied = {line[1:] for line in (DEPLOY.parent / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    assert copied == {name for name in copied if (DEPLOY.parent / name).exists()}
