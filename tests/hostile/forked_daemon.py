"""Daemons that are forked from a process which has imported all: real ones that start soon, and can be killed.

What their models do beyond their files stands in the folder of the site: a model breaks, is slow, or its loads are held
up, as long as there is a file `broken/MODEL`, `slow/MODEL` or `held/MODEL`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

# What of the daemon takes time and is not what is tested here.
SOON = {
    "line.daemon.reload._FOLLOW_S": 0.2,
    "line.daemon.site_runtime._LEAVE_S": 0.2,
    "line.evidence.database._WAIT_S": 0.1,
    "line.web.load_limits._CPU_SHARE": 1.0,
    "line.web.app._describe_problems": lambda app: None,  # two seconds of each start
}


class Forked:
    """A child of the process that has imported all; the part of `subprocess.Popen` that tests need."""

    def __init__(self, pid: int):
        self.pid = pid

    @property
    def alive(self) -> bool:
        return Path(f"/proc/{self.pid}").exists()

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        with suppress(ProcessLookupError):  # it may end at this moment
            self.send_signal(signal.SIGKILL)

    def wait(self) -> None:
        from patience import wait_for

        wait_for(lambda: not self.alive, f"the end of process {self.pid}")


class Forks:
    """The process that has imported all; its children end with it."""

    def __init__(self) -> None:
        paths = os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))
        self._process = subprocess.Popen(
            [sys.executable, "-c", "import forked_daemon; forked_daemon.serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": paths},
        )

    def fork(self, function: str, **arguments: str | int) -> Forked:
        """Call a function of this module in a child."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([function, arguments]) + "\n")
        return Forked(int(self._process.stdout.readline()))

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, where: TracebackType | None) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


def serve() -> None:
    """Fork a child for each line that comes."""
    import valid_artifact  # noqa: F401  what a daemon, and what makes its models, loads at its start

    import edgead.line.daemon.run
    import edgead.line.web.app
    import edgead.line.web.server
    import edgead.runtime.ort  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        if child := os.fork():
            print(child, flush=True)
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        function, arguments = json.loads(line)
        try:
            {"run_daemon": run_daemon, "run_learning_daemon": run_learning_daemon, "replace_model": replace_model}[
                function
            ](**arguments)
        except Exception:  # noqa: BLE001  a child's edge: it must not go on as its parent
            traceback.print_exc()
        finally:
            os._exit(0)
    os.killpg(0, signal.SIGKILL)  # who asked is gone, maybe without a word


def run_daemon(site: str) -> None:
    """Be the command `edgead daemon`, with its log in a file beside the site's."""
    from edgead.cli import main
    from edgead.detector import Detector, Session

    folder = Path(site).parent
    os.dup2(os.open(folder / "daemon.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), sys.stderr.fileno())
    for name, value in SOON.items():
        module, _, constant = name.rpartition(".")
        setattr(import_module(f"edgead.{module}"), constant, value)
    load, step = Detector.load, Session.step

    def loaded(path: Path, **options: Any) -> Detector:
        while (folder / "held" / Path(path).name).exists():
            time.sleep(0.01)
        return load(path, **options)

    def stepped(session: Session, frame: Any) -> Any:
        name = session._detector.artifact.path.name
        if (folder / "broken" / name).exists():
            raise RuntimeError("the engine broke")
        if (folder / "slow" / name).exists():
            time.sleep(0.2)
        return step(session, frame)

    Detector.load, Session.step = staticmethod(loaded), stepped  # type: ignore[method-assign,assignment]
    sys.argv = ["edgead", "daemon", "-c", site]
    main()


def run_learning_daemon(site: str) -> None:
    """Be the daemon on a slow disk; its learning and teaching copy a model, and take no time.

    The model that is learnt lies in the folder `learnable`. Where there is a file `die`, whoever puts a model into
    service kills the daemon after as many steps of the file system as stand there.
    """
    from edgead.line.daemon.commission import draft_work
    from edgead.line.daemon.teaching.lesson_process import LessonProcess

    folder = Path(site).parent
    draft_work.LearningProcess = partial(CopyingLearner, folder / "learnable")  # type: ignore[misc,assignment]
    LessonProcess.run = teach_by_copying  # type: ignore[method-assign]
    # The slow disk: what two people ask for at once takes place at once.
    os.rmdir = slow(os.rmdir, 1.0, lambda path: Path(path).name == "model")
    os.mkdir = slow(os.mkdir, 0.25, lambda path: "/models/" in str(path))
    die_on_the_way(folder / "die")
    run_daemon(site)


def slow(step: Any, by_s: float, where: Any) -> Any:
    def run(path: Any, *arguments: Any, **options: Any) -> None:
        if where(path):
            time.sleep(by_s)
        step(path, *arguments, **options)

    return run


class CopyingLearner:
    """The learner of a draft that gives a copy of a model."""

    waits = False
    two_products: tuple[str, ...] = ()

    def __init__(self, model: Path, order: dict[str, Any], log: Path, ended: Any):
        from edgead.line.daemon.commission.draft_work import LearningStep

        self.progress = LearningStep()
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._learn, args=(model, order, ended))
        self._thread.start()

    def cancel(self) -> None:
        self._cancelled.set()
        self._thread.join()

    def _learn(self, model: Path, order: dict[str, Any], ended: Any) -> None:
        from edgead.files.atomic import new_folder

        with new_folder(Path(order["folder"])) as unfinished:
            copy_with_note(model, unfinished / "model", [*map(str, order["images"]), order["region"], order["ignored"]])
            shown = {"parts": [], "blurred": [], "learnt": 20, "calibrated": 20, "false_reject_rate": 0.1}
            (unfinished / "result.json").write_text(json.dumps({**shown, "frame_ms": 1.0}))
        if not self._cancelled.is_set():
            ended(None)


def teach_by_copying(process: Any, task: Any, within_s: float) -> Any:
    """Be `LessonProcess.run` of a model that keeps its limits."""
    from edgead.line.daemon.teaching.lesson_process import LessonResult

    copy_with_note(task.model, task.output, [str(task.output), *map(str, task.good)])
    return LessonResult(report={"before": {}, "after": {}})


def copy_with_note(model: Path, copy: Path, note: Any) -> None:
    """Copy a model; with another note in its manifest it is another model."""
    from valid_artifact import read_manifest, stamp

    shutil.copytree(model, copy)
    content = read_manifest(copy)
    content["training"]["note"] = note
    stamp(copy, content)


def die_on_the_way(file: Path) -> None:
    """See `run_learning_daemon`."""
    from edgead.line.daemon.commission.drafts import Commissioning

    go, way = Commissioning.go, threading.local()

    def counted(step: Any) -> Any:
        def run(*arguments: Any, **options: Any) -> Any:
            left = getattr(way, "left", -1)
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            way.left = left - 1
            return step(*arguments, **options)

        return run

    def went(self: Any, *arguments: Any) -> Any:
        way.left = int(file.read_text()) if file.exists() else -1
        try:
            return go(self, *arguments)
        finally:
            if file.exists():
                file.write_text(str(way.left))
            way.left = -1

    Commissioning.go = went  # type: ignore[method-assign]
    for name in ("mkdir", "rmdir", "rename", "replace", "fsync"):
        setattr(os, name, counted(getattr(os, name)))


def replace_model(model: str, draft: str, after: int, by_renames: bool) -> None:
    """Let a draft take the place of a model, and be killed after so many steps of the file system.

    `by_renames`: on a file system that exchanges no two names in one step.
    """
    from edgead.artifact import earlier_versions as versions

    left = after

    def counted(step: Any) -> Any:
        def run(*arguments: Any) -> None:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            step(*arguments)

        return run

    def refused(one: Path, other: Path) -> None:
        raise NotImplementedError

    at_once = getattr(versions, "exchange_names", refused)
    versions.exchange_names = refused if by_renames else counted(at_once)
    os.rename = counted(os.rename)
    versions.keep_and_replace(Path(model), Path(draft))
