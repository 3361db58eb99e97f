"""A real registry (Debian's docker-registry), with or without TLS and a password; and models small enough to send."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import numpy as np
from broker import wait_for_port
from certificates import write_certificates
from patience import MAX_S
from system_packages import require

from edgead.artifact.folder import new_artifact, write_manifest
from edgead.artifact.manifest import Manifest, Preprocessing
from edgead.artifact.oci.reference import Reference
from edgead.heads.nearest import NearestHead

USER, PASSWORD = "line7", "hunter2-is-secret"
# crypt(PASSWORD) with bcrypt, the only hash that the registry takes.
_HASH = "$2b$05$abcdefghijklmnopqrstuulgIDmuT0WuprQt/YPkxHK8OoiL4XjLy"


class RealRegistry:
    """Keeps what it has in a folder over a restart."""

    def __init__(self, folder: Path, *, guarded: bool = False, tls: bool = False):
        self._program = require("docker-registry")
        folder.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._log, self._config = folder / "log", folder / "config.yml"
        self._environment = {
            **os.environ,
            "REGISTRY_HTTP_ADDR": f"127.0.0.1:{self.port}",
            "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": str(folder / "data"),
            "OTEL_TRACES_EXPORTER": "none",
        }
        if guarded:
            (folder / "htpasswd").write_text(f"{USER}:{_HASH}\n")
            self._environment["REGISTRY_AUTH"] = "htpasswd"
            self._environment["REGISTRY_AUTH_HTPASSWD_REALM"] = "line"
            self._environment["REGISTRY_AUTH_HTPASSWD_PATH"] = str(folder / "htpasswd")
        if tls:
            write_certificates(folder)
            self._environment["REGISTRY_HTTP_TLS_CERTIFICATE"] = str(folder / "server.pem")
            self._environment["REGISTRY_HTTP_TLS_KEY"] = str(folder / "server.key")
        self._config.write_text("version: 0.1\nstorage: {filesystem: {}}\nhttp: {}\n")
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        with open(self._log, "ab") as log:
            command = [self._program, "serve", str(self._config)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=self._environment)
        wait_for_port(self.process, self.port, self._log)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(MAX_S)
            self.process = None

    def reference(self, tag: str = "stable", name: str = "line/caps") -> Reference:
        return Reference.read(f"oci://127.0.0.1:{self.port}/{name}:{tag}")

    @property
    def log(self) -> str:
        return self._log.read_text()


def small_model(path: Path, *, rows: int = 4, network: bytes = b"not really a network" * 1000) -> Path:
    """A folder with hashes that are right; nothing can judge by it."""
    manifest = Manifest.draft("patchcore", Preprocessing(image_size=(32, 32)), NearestHead())
    with new_artifact(path) as draft:
        (draft / "model.onnx").write_bytes(network)
        np.save(draft / "memory_bank.npy", np.ones((rows, 3), np.float32))
        write_manifest(draft, manifest)
    return path
