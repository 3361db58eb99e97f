"""Verdict latency of the daemon while ten clients use the page, the API and the reports.

`python -m benchmarks page_clients MODEL --minutes 5 --rounds 2 --json clients.json`. Rounds with and without clients
take turns, each with a daemon of its own. Four clients are pages (status, images, events), three look at verdicts,
their images and kinds, three count reports and download tables and images. In a plant they are on other computers;
here they are on the same cores, so that they give way (nice 10). Latencies are those of the records, from the capture
to the verdict, of every frame but the first. Run it on a machine that has nothing else to do.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx

from benchmarks.soak import soak
from benchmarks.stalls import Stalls
from edgead.profiling.latency import machine_facts

LIMIT = 2.0
"""What p99.9 over p50 is to stay within while the clients are there."""
PIPELINE = "line"
_LOOK_S = 0.2
_TIMEOUT_S = 60.0
_NICE = 10


def main(arguments: Sequence[str]) -> None:
    """Measure, print a table, and exit with 1 where a round with clients exceeds the limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks page_clients", description=__doc__)
    parser.add_argument("model", type=Path, help="an artifact, such as out/demo/model")
    parser.add_argument("--minutes", type=float, default=5.0, help="of each round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--rate", type=float, default=10.0, help="parts a second")
    parser.add_argument("--priority", type=int, help="`realtime: {priority: N}` of the pipeline")
    parser.add_argument("--json", type=Path, help="where all rounds go")
    options = parser.parse_args(arguments)
    realtime = {} if options.priority is None else {"priority": options.priority}
    rounds = []
    for _ in range(options.rounds):
        for clients in (True, False):
            rounds.append(_round(options, realtime, clients))
            print(_row(rounds[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine_facts(), "rounds": rounds}, indent=1) + "\n")
    if any(_ratio(one) > LIMIT for one in rounds if one["answers"]):
        sys.exit(f"p99.9 is more than {LIMIT} times p50")


def _round(options: argparse.Namespace, realtime: dict[str, Any], clients: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="edgead-clients-") as name:
        folder = Path(name)
        with _ten_clients(folder / "daemon.log", clients) as answers:
            found = soak(options.model, folder, minutes=options.minutes, rate=options.rate, realtime=realtime)
    found.require_whole()
    return {
        "realtime": realtime,
        "records": found.records,
        "latency_ms": found.latency_ms,
        "answers": dict(answers),
        "stalls": asdict(found.stalls),
    }


@contextmanager
def _ten_clients(log: Path, wanted: bool) -> Iterator[Counter[str]]:
    """Clients in a process of their own; the counter has what they were answered, once they have ended."""
    answers: Counter[str] = Counter()
    if not wanted:
        yield answers
        return
    context = multiprocessing.get_context("spawn")
    over, said = context.Event(), context.SimpleQueue()
    process = context.Process(target=_run_clients, args=(log, over, said))
    process.start()
    try:
        yield answers
    finally:
        over.set()
        answers.update(said.get())
        process.join()


def _run_clients(log: Path, over: Any, said: Any) -> None:
    os.nice(_NICE)
    url, answers = _address(log, over), [Counter[str]() for _ in range(10)]
    kinds: list[Callable[[httpx.Client], Iterator[str]]] = [*[_page] * 4, *[_verdicts] * 3, *[_reports] * 3]
    clients = [
        threading.Thread(target=_use, args=(url, kind, over, counted), daemon=True)
        for kind, counted in zip(kinds, answers, strict=True)
    ]
    events = [threading.Thread(target=_listen, args=(url, over), daemon=True) for _ in range(4)]
    for thread in [*clients, *events]:
        thread.start()
    over.wait()
    for thread in clients:
        thread.join(5.0)
    said.put(sum(answers, Counter[str]()))


def _address(log: Path, over: Any) -> str:
    while not over.wait(0.2):
        if log.is_file():
            for line in log.read_text().splitlines():
                if '"port"' in line:
                    return f"http://127.0.0.1:{json.loads(line)['port']}"
    return ""


def _use(url: str, kind: Callable[[httpx.Client], Iterator[str]], over: Any, answers: Counter[str]) -> None:
    """Ask one thing after the other; what the device refuses for now is asked again, as the page does."""
    with httpx.Client(base_url=url, timeout=_TIMEOUT_S) as client:
        while not over.is_set():
            try:
                for answer in kind(client):
                    answers[answer] += 1
                    if over.wait(_LOOK_S):
                        return
            except httpx.TransportError as error:
                answers[type(error).__name__] += 1
                if over.wait(1.0):
                    return


def _page(client: httpx.Client) -> Iterator[str]:
    """A browser on Live: an image five times a second, the status once, counters sometimes."""
    for turn in itertools.count():
        yield _get(client, f"/api/pipelines/{PIPELINE}/image?overlay=true&width=960")
        if turn % 5 == 0:
            yield _get(client, "/api/status")
        if turn % 50 == 0:
            yield _get(client, "/api/production/counters")


def _verdicts(client: httpx.Client) -> Iterator[str]:
    """Somebody who looks at one reject after the other."""
    yield _get(client, f"/api/pipelines/{PIPELINE}/kinds")
    found = client.get("/api/verdicts?decision=reject&limit=50")
    yield str(found.status_code)
    for row in found.json()["verdicts"][:10] if found.is_success else ():
        yield _get(client, f"/api/verdicts/{row['id']}")
        yield _get(client, f"/api/verdicts/{row['id']}/images/heat.jpg")


def _reports(client: httpx.Client) -> Iterator[str]:
    """Somebody who counts the day and takes it home."""
    now = datetime.now(timezone.utc)
    time_asked = f"since={_at(now - timedelta(days=1))}&until={_at(now)}"
    yield _get(client, f"/api/production/report?by=shift&{time_asked}")
    yield _get(client, f"/api/production/report/table?by=batch&format=csv&{time_asked}")
    yield _get(client, f"/api/production/verdicts?format=csv&{time_asked}")
    yield _get(client, f"/api/production/images?decision=reject&{time_asked}")


def _at(time_asked: datetime) -> str:
    return time_asked.strftime("%Y-%m-%dT%H:%M:%SZ")


def _get(client: httpx.Client, path: str) -> str:
    """The status of an answer that was read whole."""
    answer = client.get(path)
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        time.sleep(1.0)
    return str(answer.status_code)


def _listen(url: str, over: Any) -> None:
    with (
        suppress(httpx.TransportError),  # the daemon has ended
        httpx.Client(base_url=url, timeout=None) as client,
        client.stream("GET", "/api/events") as events,
    ):
        for _ in events.iter_raw():
            if over.is_set():
                return


def _ratio(one: dict[str, Any]) -> float:
    return one["latency_ms"]["p99.9"] / one["latency_ms"]["p50"]


def _row(one: dict[str, Any]) -> str:
    answers = ", ".join(f"{count} x {name}" for name, count in one["answers"].items())
    times = ", ".join(f"{name} {ms:.1f}" for name, ms in one["latency_ms"].items())
    beside = f"ten clients ({answers})" if answers else "nobody"
    return f"| {beside} | {one['records']} | {times} | {_ratio(one):.2f} | {Stalls(**one['stalls'])} |"
