"""A server with OpenAI's chat API, as llama.cpp, vLLM and Ollama have it: it answers as it should, or as it is bid."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def completion(text: Any, model: str = "stub-vl") -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"object": "chat.completion", "model": model, "choices": [{"index": 0, "message": message}]}


class ChatServer:
    """Hears on loopback. `say` gives the words to a request's body; or `misbehave` takes the handler over.

    `requests` are the method, path, headers and body of each request.
    """

    def __init__(self, say=lambda body: "A scratch.", *, models=("stub-vl",), misbehave=None):
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.released = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                server.requests.append(("GET", self.path, dict(self.headers), None))
                if models is None:
                    self.answer(404, b"{}")
                else:
                    listed = [{"id": name, "object": "model"} for name in models]
                    self.answer(200, json.dumps({"object": "list", "data": listed}).encode())

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.requests.append(("POST", self.path, dict(self.headers), body))
                if misbehave is not None:
                    self.close_connection = True
                    misbehave(self, server)
                else:
                    self.answer(200, json.dumps(completion(say(body))).encode())

            def answer(self, status, content, kind="application/json", **headers):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # who asked has gone
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    @property
    def asked(self) -> list[Any]:
        """The bodies of the questions."""
        return [body for method, _, _, body in self.requests if method == "POST"]

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
