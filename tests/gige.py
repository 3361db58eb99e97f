"""A GigE Vision camera in software on loopback: Aravis has one."""

from __future__ import annotations

import fcntl
import os
import secrets
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from system_packages import require

PROGRAM = """
import ctypes, sys, time
library = ctypes.CDLL("libaravis-0.8.so.0")
library.arv_gv_fake_camera_new.restype = ctypes.c_void_p
library.arv_gv_fake_camera_new.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
library.arv_gv_fake_camera_is_running.argtypes = [ctypes.c_void_p]
camera = library.arv_gv_fake_camera_new(b"127.0.0.1", sys.argv[1].encode())
print(library.arv_gv_fake_camera_is_running(camera), flush=True)
time.sleep(600)
"""


class VirtualCamera:
    """A process that is a GigE Vision camera, with a serial number of its own."""

    def __init__(self):
        self.serial = f"T{secrets.token_hex(4)}"
        self.uri = f"genicam://{self.serial}"
        self.start()

    def start(self):
        command = [sys.executable, "-c", PROGRAM, self.serial]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == b"1", "the port of GigE Vision is taken"

    def signal(self, number):
        os.kill(self._process.pid, number)

    def kill(self):
        self._process.kill()
        self._process.communicate()


@contextmanager
def virtual_camera():
    """Start one; skips loudly without Aravis. GigE Vision has one port: tests that run side by side take turns."""
    require("aravis")
    with open(Path(tempfile.gettempdir()) / "edgead-test-gige.lock", "w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        camera = VirtualCamera()
        try:
            yield camera
        finally:
            camera.kill()
