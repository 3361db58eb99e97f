"""A daemon in the process of a test, with a real camera and a model that is none."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace

import httpx
import yaml
from fakes import make_verdict, mjpeg_server
from patience import wait_for

from edgead.line.daemon import model_control
from edgead.line.daemon.run import Daemon
from edgead.line.daemon.thresholds import ThresholdRecord
from edgead.line.drift import DriftState


@dataclass
class Watch:
    """A drift watch that finds nothing."""

    parts: int = 0

    def restore(self, kept):
        pass

    def to_dict(self):
        return {}

    def add(self, verdict, image):
        self.parts += 1
        return DriftState("ok", None, None, self.parts, None, 0.0)


class Slot:
    """A model slot whose model rejects every second image."""

    model = "0" * 64
    knows_kinds = False
    earlier = "", "", None
    thresholds = ThresholdRecord(review=0.4, reject=0.5)

    def __init__(self, pipeline, section, kept, *, threads=None, accept=None):
        self.section, self.path = section, section.model
        self._count = 0

    def load(self):
        pass

    def changing(self, within_s=0):
        return nullcontext()

    def settle_superseded(self, record):
        pass

    def swap(self, model, record=lambda model: None):
        record(str(model))
        self.path = model

    def golden(self):
        return ()

    def misfit(self, frame):
        return None

    def drift_watch(self, section):
        return Watch()

    def shown(self, frame):
        return frame

    def step(self, frame):
        self._count += 1
        return replace(make_verdict(0.9 if self._count % 2 else 0.1), model=self.model)

    def close(self):
        pass


class Running:
    """A daemon whose main loop runs in a thread; `killing` makes what was patched fail."""

    def __init__(self, folder, url):
        site = {
            "cameras": {"top": {"uri": url, "retry_first_s": 0.2, "retry_most_s": 0.5, "stalled_after_s": 1.0}},
            "pipelines": {"a": {"camera": "top", "model": "model", "sinks": ["lines"]}},
            "sinks": {"lines": {"kind": "uri", "uri": f"jsonl:{folder}/lines.jsonl"}},
            "store": {"folder": "evidence", "free_mib": 0},
            "http": {"port": 0},
            "limits": {"restarts": 100},
        }
        self.file = folder / "site.yaml"
        self.site = site
        self.write()
        self.daemon = Daemon(self.file)
        self.daemon.startup()
        self.loop = threading.Thread(target=self.daemon.main_loop, name="main loop", daemon=True)
        self.loop.start()

    def write(self):
        self.file.write_text(yaml.safe_dump(self.site))

    @property
    def pipeline(self):
        return self.daemon.pipelines["a"].status()

    @property
    def camera(self):
        return self.daemon.cameras["top"].status()

    @property
    def client(self):
        server = self.daemon._page._server
        return httpx.Client(base_url=f"http://127.0.0.1:{server.port if server else 9}", timeout=5)

    def ready(self):
        try:
            with self.client as client:
                return client.get("/readyz").status_code
        except httpx.TransportError:
            return 0

    def event(self):
        """The first verdict that comes as an event."""
        with self.client as client, client.stream("GET", "/api/events") as stream:
            return next(line for line in stream.iter_lines() if line.startswith("event: verdict"))

    def reload(self):
        self.daemon._requests._asked.put("reload")

    def judges(self):
        """Whether verdicts come, and the state says so."""
        before = self.pipeline.judged
        time.sleep(0.3)
        return self.pipeline.state == "running" and self.pipeline.judged > before

    def close(self):
        self.daemon._requests._asked.put("stop")
        self.loop.join(30)
        self.daemon.shutdown()


@contextmanager
def running(folder, monkeypatch):
    monkeypatch.setattr(model_control, "ActiveModel", Slot)
    with mjpeg_server(10**6, fps=15) as server, ExitStack() as stack:
        started = Running(folder, f"{server.url}/x")
        stack.callback(started.close)
        wait_for(started.judges, "verdicts")
        yield started
