"""A daemon without cameras and models, whose parts say what a test wants: for tests of what is shown of it."""

from __future__ import annotations

import queue
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
from fakes import make_verdict, numbered

from edgead.calibration.blind import BlindLimitError
from edgead.errors import SettingsError
from edgead.images.files import decode_image
from edgead.images.likeness import Size
from edgead.images.overlay import draw_heat
from edgead.line.daemon.alarms import Finding
from edgead.line.daemon.commission import Commissioning
from edgead.line.daemon.notices import NoticeLedger
from edgead.line.drift import DriftState
from edgead.line.evidence import EvidenceStore
from edgead.line.evidence.chain import ChainCheck, ChainHead
from edgead.line.evidence.production.counts import Tally
from edgead.line.site.schema import HttpSection, Site
from edgead.line.site.status import HeldOutScores, MarkedScores
from edgead.profiling.latency import LatencyRecorder
from edgead.serialization import verdict_record
from edgead.serialization.notice import KINDS, Notice, NoticeKind
from edgead.types import NO_PART, Frame, Part, Verdict

TOKEN = "correct-horse-battery-staple"
CAP = dict(name="cap", pipelines=("left", "front"))
WHEN = datetime(2026, 11, 25, 6, 0, tzinfo=timezone.utc)


def make_judged(number: int, score: float, *, pipeline: str = "front") -> tuple[Frame, Verdict]:
    frame = Frame(numbered(number), number, number, WHEN, "synthetic:", id=f"{number:08x}-0000-7000-8000-{0:012x}")
    scale = {"review_threshold": 0.4, "typical_score": 0.1}
    return frame, replace(make_verdict(score), pipeline=pipeline, model="0" * 64, **scale)


@dataclass
class FakeCamera:
    name: str = "conveyor"
    state: str = "streaming"
    reason: str | None = None
    frame: Frame | None = None

    def status(self) -> SimpleNamespace:
        counts = dict(captured=12, reconnects=3, corrupt=1, duplicates=2, lost_packets=5, lost_frames=1)
        reported = dict(uri="rtsp://camera/line", since=WHEN, fps=24.5, age_s=0.04, health=("dark",))
        return SimpleNamespace(name=self.name, state=self.state, reason=self.reason, **counts, **reported)

    def latest(self) -> Frame | None:
        return self.frame


@dataclass
class FakePipeline:
    model: Path
    name: str = "front"
    state: str = "running"
    reason: str | None = None
    thresholds: dict[str, float] = field(default_factory=lambda: {"review": 0.4, "reject": 0.5})
    judged: tuple[Frame, Verdict] | None = None
    trigger: str = "software"
    learnt: Size | None = None
    unasked: int = 0
    uninspected: int = 0
    knows_kinds: bool = False
    marked: MarkedScores = MarkedScores([], [], 0)
    calls: list[tuple] = field(default_factory=list)
    audit: Callable[..., None] = lambda **change: None
    drift: DriftState | None = DriftState(
        "warning", "camera", "the camera's images look different (darker)", 90, 80, 3.0
    )

    def status(self) -> SimpleNamespace:
        recorder = LatencyRecorder()
        if self.judged:
            recorder.add_frame(self.judged[1].stage_times, total_ms=12.0, finished_ns=1)
        return SimpleNamespace(
            **dict(name=self.name, camera="conveyor", model=str(self.model), model_sha256="0" * 64, state=self.state),
            **dict(reason=self.reason, since=WHEN, decisions={"ok": 7, "review": 2, "reject": 1}, taken=11, judged=10),
            kinds={"scratch": 1},
            **dict(
                dropped=4,
                skipped=1,
                unasked=self.unasked,
                uninspected=self.uninspected,
                warming_up=0,
                late=2,
                missed=5,
                parts_missed=0,
                codes={"read": 9, "unread": 1},
                restarts=0,
                fps=9.5,
                latency=recorder.summary(),
            ),
            **dict(can_roll_back=False, earlier_model="", earlier_sha256="", earlier_review=None),
            **dict(thresholds=dict(self.thresholds), drift=self.drift),
            knows_kinds=self.knows_kinds,
            realtime_problem=None,
        )

    def latest(self) -> tuple[Frame, Verdict] | None:
        return self.judged

    def fire(self, part: Part = NO_PART) -> None:
        if self.trigger != "software":
            raise SettingsError(f"{self.name}: its trigger is {self.trigger}, which takes no requests; software does")
        self.calls.append(("fire", part))

    def judge(self, data: bytes, part: Part, within_s: float) -> tuple[Frame, Verdict]:
        frame, verdict = make_judged(77, 0.9)
        decode_image(data)
        self.calls.append(("judge", part))
        return replace(frame, part=part), verdict

    def squeezed_into(self, frame: Frame) -> Size | None:
        return self.learnt

    def has_learnt(self, frame: Frame, data: bytes) -> bool:
        return False

    def self_test(self) -> dict[str, Any]:
        return {"passed": True, "images": []}

    def sign_own(self, model: Path, *, by: str) -> None:
        self.calls.append(("sign", model, by))

    def swap(self, model: Path, *, by: str) -> None:
        self.calls.append(("swap", model, by))

    def roll_back(self, *, by: str) -> None:
        self.calls.append(("roll back", by))

    def accept_drift(self, *, by: str) -> None:
        self.calls.append(("accept drift", by))
        self.drift = None

    def pause(self, *, by: str, reason: str = "", minutes: float | None = None) -> None:
        self.state, self.reason = "paused", f"by {by}: {reason}"
        self.calls.append(("pause", by, reason, minutes))

    def resume(self, *, by: str) -> None:
        self.state, self.reason = "running", None
        self.calls.append(("resume", by))

    def good_scores(self) -> HeldOutScores:
        return HeldOutScores(0.1, [0.05, 0.08, 0.12, 0.3], [1.0, 0.8, 0.6, 0.4, 0.2], [self.status().model_sha256])

    def marked_scores(self) -> MarkedScores:
        return self.marked

    def set_thresholds(self, *, review: float, reject: float, by: str, reason: str = "") -> None:
        if reject > 5 and not reason:
            raise BlindLimitError(["the limit would rise far"], by_hand=True)
        self.calls.append(("thresholds", review, reject, by))
        before, self.thresholds = self.thresholds, {"review": review, "reject": reject}
        before = {**before, "typical_score": 0.1}
        self.audit(by=by, action="thresholds", pipeline=self.name, before=before, after=self.thresholds)


class FakeFollower:
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.status = SimpleNamespace(
            source="oci://registry.test/line/caps:stable",
            state="pinned",
            tag_digest="sha256:" + "b" * 64,
            digest="sha256:" + "a" * 64,
            reason="somebody has chosen another model",
            problem=None,
            looked_at=WHEN,
            changed_at=None,
        )

    def follow_again(self, *, by: str) -> None:
        self.calls.append(("follow again", by))


class FakeKinds:
    """No kinds at all; tests of what is shown of kinds have a real store."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def counts(self, pipeline: str, **period: Any) -> dict[str, Any]:
        return {"kinds": [], "unsorted": 0, "false_rejects": 0}

    def boxes(self, pipeline: str, **period: Any) -> list[list[dict[str, Any]]]:
        return []

    def names(self, pipeline: str) -> dict[str, str]:
        return {}

    def known(self, pipeline: str) -> dict[str, list[str]]:
        return {}

    def rename(self, *given: Any, by: str) -> None:
        self.calls.append(("rename", *given, by))

    def merge(self, *given: Any, by: str) -> None:
        self.calls.append(("merge", *given, by))

    def split(self, *given: Any, by: str) -> None:
        self.calls.append(("split", *given, by))

    def correct(self, *given: Any, by: str, pipeline: str | None = None) -> None:
        self.calls.append(("correct", *given, by))


class FakeProduction:
    """A shift with ten parts and an order; tests of production figures have a real store."""

    def __init__(self) -> None:
        order = {"name": "A-17", "batch": "", "started_at": WHEN.isoformat(), "by": "Anna"}
        self.orders = SimpleNamespace(newest=lambda limit=50: [order], between=lambda begin, end: [], start=self.start)

    def start(self, *, name: str, batch: str, by: str) -> None:
        pass

    def count(self, unit: Any, period: Any) -> Tally:
        return Tally(7, 2, 1, false_rejects=1)

    def by_hour(self, unit: Any, period: Any) -> list[Tally]:
        return [Tally(7, 2, 1)]

    def report(self, asked: Any) -> list[Any]:
        return []

    def marks(self, wanted: Any, *, limit: int = 100) -> list[dict[str, Any]]:
        return []

    def report_file(self, asked: Any, kind: str) -> bytes:
        return b"group"

    def verdicts_file(self, wanted: Any, kind: str) -> Any:
        return iter([b"id"])

    def images_size(self, wanted: Any) -> tuple[int, int]:
        return 2, 2**20

    def images_file(self, wanted: Any) -> Any:
        return iter([b"PK"])


class FakeMarks:
    def __init__(self, rows: list[dict[str, Any]]):
        self._rows = rows

    def _set(self, id: str, mark: dict[str, Any] | None) -> None:
        for row in self._rows:
            if row["id"] == id:
                row["mark"] = mark
                row["false_reject"] = mark if mark and mark["verdict"] == "good" and row["decision"] != "ok" else None

    def mark(self, id: str, opinion: str, *, by: str, note: str = "", pipeline: str | None = None) -> bool:
        self._set(id, {"verdict": opinion, "at": WHEN.isoformat(), "by": by, "note": note})
        return True

    def take_back(self, id: str, *, by: str, pipeline: str | None = None) -> None:
        self._set(id, None)


class FakeLessons:
    """One lesson that a test puts here; what is asked for is only written down."""

    def __init__(self) -> None:
        self.found: list[Any] = []
        self.calls: list[tuple[Any, ...]] = []

    def all(self) -> list[Any]:
        return self.found

    def sheet(self, pipeline: str) -> Path | None:
        return None

    def start(self, pipeline: str, good: list[str], *, by: str, reason: str = "") -> None:
        self.calls.append(("start", pipeline, list(good), by, reason))

    def accept(self, pipeline: str, *, by: str) -> None:
        self.calls.append(("accept", pipeline, by))

    def discard(self, pipeline: str, *, by: str) -> None:
        self.calls.append(("discard", pipeline, by))


class FakeHeaps:
    """Heaps that a test puts here; what is asked for is only written down."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {"state": "none"}
        self.calls: list[tuple[Any, ...]] = []

    def of(self, pipeline: str) -> dict[str, Any]:
        return self.found

    def sort(self, pipeline: str, since: datetime) -> None:
        self.calls.append(("sort", pipeline, since))

    def name(self, pipeline: str, heaps: Any, *, by: str) -> None:
        self.calls.append(("name", pipeline, dict(heaps), by))

    def discard(self, pipeline: str) -> None:
        self.calls.append(("discard", pipeline))


class FakeStore:
    def __init__(self, folder: Path):
        self.kinds = FakeKinds()
        self.folder = folder
        self.rows: list[dict[str, Any]] = []
        self.changes: list[dict[str, Any]] = []
        self.parts = SimpleNamespace(newest=lambda part, **asked: [])
        self.production = FakeProduction()
        self.images: dict[str, Any] = {}
        self.recent = SimpleNamespace(find=self.images.get)
        self.marks = FakeMarks(self.rows)
        self.audit_chain = SimpleNamespace(head=ChainHead(3, "c0de" * 16), problem=None, check=self._check_chain)

    def _check_chain(self) -> ChainCheck:
        return ChainCheck(len(self.changes), self.audit_chain.head, self.audit_chain.problem)

    def add(self, frame: Frame, verdict: Verdict) -> None:
        self.images[frame.id] = frame.image
        place = self.folder / frame.id
        place.mkdir()
        images = {"before-001": numbered(999), "frame": frame.image, "heat": draw_heat(frame.image, verdict)}
        for name, image in images.items() if verdict.decision != "ok" else ():
            cv2.imwrite(str(place / f"{name}.jpg"), image)
        # Last: another thread, which answers a request, finds the images of every row.
        self.rows.append({**verdict_record(frame, verdict), "false_reject": None, "mark": None, "recent": True})

    def verdicts(
        self,
        *,
        pipeline=None,
        decision=None,
        kind=None,
        part=NO_PART,
        search="",
        mark=None,
        before_id=None,
        until=None,
        at_least=None,
        limit=50,
    ) -> list[dict[str, Any]]:
        ids = [row["id"] for row in self.rows]
        rows = self.rows[: ids.index(before_id)] if before_id in ids else [] if before_id else self.rows
        asked = {"pipeline": pipeline, "decision": decision, "kind": kind}
        asked |= {name: value or None for name, value in asdict(part).items()}
        wanted = [row for row in rows if all(value in (None, row[key]) for key, value in asked.items())]
        wanted = [row for row in wanted if row["serial"].startswith(search)]
        wanted = [row for row in wanted if mark in (None, (row["mark"] or {}).get("verdict"))]
        wanted = [row for row in wanted if until is None or datetime.fromisoformat(row["captured_at"]) <= until]
        wanted = [row for row in wanted if at_least is None or row["score"] >= at_least]
        return [{**row, "images": self._images(row["id"])} for row in wanted[::-1][:limit]]

    def verdict(self, id: str, *, pipeline: str | None = None) -> dict[str, Any] | None:
        found = [row for row in self.rows if row["id"] == id and pipeline in (None, row["pipeline"])]
        return {**found[0], "images": self._images(id)} if found else None

    def _images(self, id: str) -> list[str]:
        return sorted(file.name for file in (self.folder / id).iterdir())

    def image(self, id: str, name: str, *, pipeline: str | None = None) -> Path | None:
        found = self.verdict(id, pipeline=pipeline)
        return self.folder / id / name if found and name in found["images"] else None

    def counts(self, *, pipeline: str | None = None, since: datetime | None = None) -> dict[str, int]:
        rows = [row for row in self.verdicts(pipeline=pipeline) if datetime.fromisoformat(row["captured_at"]) >= since]
        return Counter(row["decision"] for row in rows)

    def mark_false_reject(self, id: str, *, by: str, note: str = "", pipeline: str | None = None) -> bool:
        return self.marks.mark(id, "good", by=by, note=note)

    @contextmanager
    def audited(self, **change: Any) -> Iterator[None]:
        self.add_audit(**change)
        yield

    def add_audit(self, **change: Any) -> None:
        self.changes.insert(0, {"seq": len(self.changes) + 1, "at": WHEN.isoformat(), "hash": "c0de" * 16, **change})

    def audit(self, *, limit: int = 100) -> list[dict[str, Any]]:
        return self.changes[:limit]

    def status(self) -> dict[str, Any]:
        rows = dict(rows_written=10, rows_doubled=0, rows_waiting=0, rows_lost=0, rows_removed=0)
        return {**rows, "images_written": 6, "images_waiting": 0, "images_dropped": 1, "images_mib": 0.5}

    def problems(self) -> tuple[str, ...]:
        return ("images are not kept: the disk is full",)


class FakeNotices(NoticeLedger):
    def acknowledge(self, id: str, *, by: str) -> Notice | None:
        return self.note_seen(id, by)[0]


class FakeDaemon:
    def __init__(self, folder: Path, *, http: HttpSection | None = None, store: EvidenceStore | None = None):
        model = folder / "models" / "first"
        model.mkdir(parents=True)
        (model / "manifest.json").write_text("{}")
        (folder / "images").mkdir()
        self.site = Site.model_validate(
            {
                "cameras": {"conveyor": {"uri": "rtsp://user:password@camera/line"}},
                "pipelines": {"front": {"camera": "conveyor", "model": model, "trigger": {"kind": "software"}}},
                "http": http or HttpSection(port=0),
                "store": {"folder": folder / "evidence", "free_mib": 0},
            }
        )
        self.cameras = {"conveyor": FakeCamera()}
        self.pipelines = {"front": FakePipeline(model)}
        self.notices = FakeNotices(folder / "notices.json")
        self.followers = {"front": FakeFollower()}
        queued = dict(name="plc", uri="modbus://plc", waiting=1, written=9, dropped=2, failed=3, problem="away")
        self.queued = queued | dict(required=True, failing_s=42.0, blocks=False, notices_lost=0)
        counted = dict(decisions={"ok": 3, "review": 0, "reject": 1, "fault": 1}, waiting=1, unmatched=2)
        said = dict(rule="worst", reason="left: no verdict within 500 ms", problem=None)
        self.parts = {"cap": SimpleNamespace(status=lambda: SimpleNamespace(**counted, **said, **CAP))}
        self.sinks = {"plc": SimpleNamespace(status=lambda: SimpleNamespace(**self.queued))}
        self.store = store or FakeStore(folder / "images")
        self.pipelines["front"].audit = self.store.add_audit
        self.lessons, self.heaps = FakeLessons(), FakeHeaps()
        self.listeners: list[queue.Queue] = []
        self.collectors: list[queue.Queue] = []
        self.commissioning = Commissioning(self)

    def subscribe_verdicts(self) -> queue.Queue:
        self.listeners.append(queue.Queue())
        return self.listeners[-1]

    def subscribe_wanted(self) -> queue.Queue:
        self.collectors.append(queue.Queue())
        return self.collectors[-1]

    def raise_notice(self, kind: NoticeKind, text: str, **values: float) -> Notice | None:
        name, severity = {"camera": "conveyor"}.get(kind, "front"), KINDS[kind][1][-1]
        return self._news(self.notices.stand(Finding(kind, name, text, severity, **values)))

    def resolve_notice(self, notice: Notice) -> Notice | None:
        return self._news(self.notices.resolve(notice.key))

    def _news(self, notice: Notice | None) -> Notice | None:
        for listener in self.listeners:
            listener.put(notice)
        return notice

    def judge(
        self,
        number: int,
        score: float,
        kind: str | None = None,
        part: Part = NO_PART,
        *,
        pipeline: str = "front",
        **said: Any,
    ) -> str:
        frame, verdict = make_judged(number, score, pipeline=pipeline)
        verdict = replace(verdict, **said)
        frame = replace(frame, part=part)
        verdict = replace(verdict, kind=kind, kind_p_value=None if kind is None else 0.25)
        self.cameras["conveyor"].frame = frame
        self.pipelines[pipeline].judged = frame, verdict
        self.store.add(frame, verdict)
        if isinstance(self.store, EvidenceStore):
            self.store.keep(frame, verdict)
        for listener in self.listeners:
            listener.put((frame, verdict))
        for collector in self.collectors:
            collector.put(("conveyor", frame))
        return frame.id
