"""Reference of the HTTP API and of the metrics, generated from the application that serves them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from docs.make.markdown import code, first_paragraph, table
from edgead.line.web.app import build_app
from edgead.line.web.metrics import DaemonCollector

_STATUS = dict.fromkeys(("rows_lost", "rows_waiting", "images_written", "images_dropped", "images_mib"), 0)


def _daemon() -> Any:
    """Return a daemon without cameras and pipelines, which is enough to list routes and metrics."""
    store = SimpleNamespace(status=lambda: _STATUS, problems=lambda: ())
    notices = SimpleNamespace(counts=lambda: {"open": {}, "raised": {}})
    parts = SimpleNamespace(cameras={}, pipelines={}, parts={}, sinks={}, store=store, notices=notices)
    site = SimpleNamespace(http=None, pipelines={}, parts={}, shifts={})
    return SimpleNamespace(site=site, subscribe_verdicts=None, **vars(parts))


def openapi() -> dict[str, Any]:
    """Return the OpenAPI description that the daemon serves at `/openapi.json`."""
    return build_app(_daemon()).openapi()


def metrics() -> list[Any]:
    """Return every metric of the daemon, as Prometheus gets it."""
    return list(DaemonCollector(_daemon()).collect())


def page() -> str:
    """Write the page of the API."""
    made = openapi()
    parts = [
        "# The HTTP API",
        "`/docs` on the device lists the same, `/openapi.json` gives it to programs. Errors are JSON (RFC 9457). "
        "How to let others in is on [The page and the API](../how-to/page-and-api.md).",
    ]
    routes = [(method, path, each) for path, item in made["paths"].items() for method, each in item.items()]
    parts.append(table(("route", "does"), ([code(f"{m.upper()} {p}"), _summary(each)] for m, p, each in routes)))
    for method, path, operation in routes:
        parts += [f"## `{method.upper()} {path}`", operation.get("description") or operation.get("summary", "")]
        if operation.get("parameters"):
            parts.append(_parameters(operation["parameters"]))
        if "requestBody" in operation:
            parts.append(_body(made, operation["requestBody"]))
    return "\n\n".join(part for part in parts if part) + "\n"


def metrics_page() -> str:
    """Write the page of the metrics."""
    rows = [
        [code(_exposed(each)), each.type, ", ".join(map(code, _labels(each))), each.documentation] for each in metrics()
    ]
    return (
        "\n\n".join(
            (
                "# Metrics",
                "`GET /metrics` gives them to Prometheus, with memory, processor time and open files of the process.",
                table(("metric", "kind", "labels", "is"), rows),
            )
        )
        + "\n"
    )


def _summary(operation: dict[str, Any]) -> str:
    text = first_paragraph(operation.get("description")) or operation.get("summary", "")
    return text.partition(". ")[0].rstrip(".")


def _exposed(metric: Any) -> str:
    return metric.name + {"counter": "_total", "info": "_info", "histogram": "_bucket"}.get(metric.type, "")


def _labels(metric: Any) -> tuple[str, ...]:
    return tuple(getattr(metric, "_labelnames", ())) or (("pipeline", "stage") if metric.type == "summary" else ())


def _parameters(parameters: list[dict[str, Any]]) -> str:
    rows = [[code(each["name"]), each["in"], _kind(each["schema"]), each.get("description", "")] for each in parameters]
    return table(("parameter", "in", "takes", "means"), rows)


def _body(made: dict[str, Any], body: dict[str, Any]) -> str:
    schema = next(iter(body["content"].values()))["schema"]
    if schema.get("format") == "binary":
        return f"The body is a file: {', '.join(map(code, body['content']))}."
    schema = next((each for each in schema.get("anyOf", ()) if "$ref" in each), schema)  # one that may be left out
    if "$ref" in schema:
        schema = made["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    needed = schema.get("required", ())
    rows = [
        [
            code(name),
            _kind(field),
            "must be given" if name in needed else code(field.get("default", "")),
            field.get("description", ""),
        ]
        for name, field in schema.get("properties", {}).items()
    ]
    return f"{first_paragraph(schema.get('description'))}\n\n" + table(("field", "takes", "default", "means"), rows)


def _kind(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_kind(each) for each in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(map(code, schema["enum"]))
    return schema.get("type", "object")
