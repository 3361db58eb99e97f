"""Stand-ins that tests share: a detector without a network, a camera on HTTP, videos with numbered frames."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from edgead.types import Box, StageTimes, Verdict

TIMES = StageTimes(1.0, 2.0, 3.0, 4.0)
FOURCC = {".avi": "MJPG", ".mp4": "mp4v", ".mkv": "MJPG"}


class FakeDetector:
    """Rejects bright images; takes `work_s` for each."""

    launches = ""

    def __init__(self, *, work_s: float = 0.0):
        self.work_s = work_s
        self.seen: list[int] = []
        preprocessing = SimpleNamespace(image_size=(60, 80), roi=None)
        self.manifest = SimpleNamespace(preprocessing=preprocessing)

    def session(self) -> SimpleNamespace:
        return SimpleNamespace(
            step=lambda frame: self.predict(frame.image), shown=lambda frame: frame, misfit=lambda frame: None
        )

    def advice(self, scores: list[float]) -> str:
        return ""

    def predict(self, image_bgr: np.ndarray) -> Verdict:
        time.sleep(self.work_s)
        self.seen.append(read_number(image_bgr))
        return make_verdict(float(image_bgr.mean()) / 255, times=StageTimes(1.0, self.work_s * 1e3, 0.5, 0.25))


def make_verdict(score: float, *, times: StageTimes = TIMES) -> Verdict:
    """A verdict with one hot spot where the score is above 0.5; between 0.4 and 0.5 it is for review."""
    anomaly_map = np.full((60, 80), 0.3 * min(score, 0.5), np.float32)
    anomaly_map[20:30, 40:60] = score
    decision = "reject" if score > 0.5 else "review" if score > 0.4 else "ok"
    boxes = (Box(80, 40, 40, 20, score),) if score > 0.5 else ()
    return Verdict(score, decision, anomaly_map, 0.5, 0.5, boxes, times)


def numbered(number: int, *, size: tuple[int, int] = (120, 160)) -> np.ndarray:
    """An image whose number survives a lossy codec: sixteen black or white blocks along its top."""
    image = np.full((*size, 3), 40, np.uint8)
    width = size[1] // 16
    for bit in range(16):
        image[:16, bit * width : (bit + 1) * width] = 255 * (number >> bit & 1)
    return image


def read_number(image: np.ndarray) -> int:
    width = image.shape[1] // 16
    bits = [image[4:12, bit * width + 2 : (bit + 1) * width - 2].mean() > 127 for bit in range(16)]
    return sum(1 << i for i, bit in enumerate(bits) if bit)


def write_video(path: Path, count: int, *, fps: float = 25) -> Path:
    """Write a video of numbered frames."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*FOURCC[path.suffix]), fps, (160, 120))
    assert writer.isOpened()
    for number in range(count):
        writer.write(numbered(number))
    writer.release()
    return path


def edit_manifest(path: Path, change: Callable[[dict], object], *, stamp: bool = True) -> None:
    """Change the manifest of an artifact; with `stamp`, as if it had been written like that."""
    content = json.loads((path / "manifest.json").read_text())
    del content["manifest_sha256"]
    change(content)
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest() if stamp else "0" * 64
    (path / "manifest.json").write_text(json.dumps({**content, "manifest_sha256": digest}))


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def mjpeg_server(
    count: int,
    *,
    fps: float = 50,
    then: Callable[[], object] = lambda: None,
    certificates: Path | None = None,
) -> Iterator[SimpleNamespace]:
    """Serve numbered frames as multipart/x-mixed-replace to every client, then call `then` and hang up.

    While its `away` is set it hangs up on everyone. With the folder of `write_certificates` it speaks TLS.
    """
    state = SimpleNamespace(sent=-1, requests=[], away=False)

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self):
            state.requests.append((self.path, self.headers.get("Authorization")))
            if self.path.startswith("/missing") or state.away:
                self.send_error(404)
                return
            if self.path.startswith("/private") and not self.headers.get("Authorization"):
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            try:
                for number in range(count):
                    if state.away:
                        return
                    data = cv2.imencode(".jpg", numbered(number))[1].tobytes()
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                    self.wfile.write(head.encode() + data + b"\r\n")
                    state.sent = number
                    time.sleep(1 / fps)
                then()
            except OSError:
                pass  # the client has seen enough

        def log_message(self, format, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    server.daemon_threads = True
    if certificates is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    state.url = f"http{'s' if certificates else ''}://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def full_disk(tmp_path, size_kib):
    """A small file system of its own that can really be full."""
    if os.geteuid() != 0:
        pytest.skip("FULL DISK NOT TESTED: mounting a tmpfs needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "tmpfs", str(disk)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"FULL DISK NOT TESTED: {done.stderr.strip()}")
    try:
        yield disk
    finally:
        # What still maps a file of it, such as the frames of a caught exception, lets go of it later.
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
