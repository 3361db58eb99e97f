"""Cameras that name other addresses in what they answer: FFmpeg must not fetch those."""

from __future__ import annotations

import socket
import struct
import subprocess
import threading
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from system_packages import require

from edgead.sources import SourceError, network, open_source

_MPD = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT2S"'
    ' minBufferTime="PT1S" profiles="urn:mpeg:dash:profile:isoff-main:2011"><Period>'
    '<AdaptationSet mimeType="video/mp4">'
    '<Representation id="1" bandwidth="1"><BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>'
)
_HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n"
ANSWERS = {
    "/hls.m3u8": ("application/vnd.apple.mpegurl", _HLS),
    "/hls": ("text/plain", _HLS),
    "/hls-as-video": ("video/mp2t", _HLS),
    "/variants.m3u8": ("application/x-mpegurl", "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{}\n"),
    "/keys.m3u8": ("application/x-mpegurl", '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{0}"\n#EXTINF:2,\n{0}\n'),
    "/dash.mpd": ("application/dash+xml", _MPD),
    "/concat": ("text/plain", "ffconcat version 1.0\nfile '{}'\n"),
    "/smil": ("application/smil", '<smil><body><video src="{}"/></body></smil>'),
}
REDIRECTS = {f"/redirect-{code}": code for code in (301, 302, 303, 307, 308)}


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """Two seconds of MPEG-TS."""
    file = tmp_path_factory.mktemp("stream") / "line.ts"
    source = ["-f", "lavfi", "-i", "testsrc=size=160x120:rate=25", "-t", "2"]
    command = [require("ffmpeg"), "-loglevel", "quiet", *source, "-c:v", "mpeg2video", "-f", "mpegts", file]
    subprocess.run(command, check=True)
    return file.read_bytes()


@contextmanager
def camera(stream):
    """A camera that answers as its path says, and counts what is fetched from where it points to."""
    state = SimpleNamespace(fetched=[])

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self):
            kind, body = "video/mp2t", stream
            if self.path.startswith("/inner"):
                state.fetched.append(self.path)
            if self.path in REDIRECTS:
                self.send_response(REDIRECTS[self.path])
                self.send_header("Location", state.inner)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if self.path in ANSWERS:
                kind, text = ANSWERS[self.path]
                body = text.format(state.inner).encode()
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                self.wfile.write(body)
            except ConnectionError:
                pass

        def log_message(self, format, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    state.inner = f"{state.url}/inner.ts"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("path", [*ANSWERS, *REDIRECTS])
def test_what_a_camera_names_is_not_fetched(path, stream):
    with camera(stream) as hostile:
        with pytest.raises(SourceError, match="redirects and playlists are not followed"):
            open_source(hostile.url + path, open_timeout_s=5, read_timeout_s=2)
        assert hostile.fetched == []


@pytest.mark.parametrize("path", [*REDIRECTS, "/line.ts"])
def test_an_ffmpeg_that_follows_redirects_is_not_given_one(path, stream, monkeypatch):
    monkeypatch.setattr(network, "ffmpeg_refuses", lambda: False)
    monkeypatch.delitem(network._FFMPEG, "max_redirects")
    with camera(stream) as hostile:
        address = hostile.url.replace("http://", "http://kim:p%40ss@") + path
        if path in REDIRECTS:
            with pytest.raises(SourceError, match="redirects and playlists are not followed") as refused:
                open_source(address, open_timeout_s=5, read_timeout_s=2)
            assert "p%40ss" not in str(refused.value) and hostile.fetched == []
        else:
            with closing(open_source(address)) as source:
                assert next(iter(source)).image.shape == (120, 160, 3)


def test_a_stream_is_read_also_with_options_of_the_user(stream, monkeypatch):
    monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", "fflags;nobuffer")
    with camera(stream) as good:
        with closing(open_source(good.url + "/line.ts")) as source:
            assert next(iter(source)).image.shape == (120, 160, 3)
    import os

    assert os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] == "fflags;nobuffer"


def rtsp_server(stream, listening):
    """Answer one client over RTSP with the stream as RTP of MPEG-TS in its own connection (RFC 2326, 2250)."""
    connection, _ = listening.accept()
    with connection, connection.makefile("rb") as lines:
        sdp = b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=line\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:track1\r\n"
        while request := lines.readline():
            headers = {}
            while line := lines.readline().strip():
                name, _, value = line.partition(b":")
                headers[name.lower()] = value.strip()
            method = request.split()[0]
            more, body = b"Session: 1\r\n", b""
            if method == b"OPTIONS":
                more = b"Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
            if method == b"DESCRIBE":
                body = sdp
                more = b"Content-Type: application/sdp\r\nContent-Length: %d\r\n" % len(sdp)
            if method == b"SETUP":
                more += b"Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
            connection.sendall(b"RTSP/1.0 200 OK\r\nCSeq: " + headers[b"cseq"] + b"\r\n" + more + b"\r\n" + body)
            if method == b"PLAY":
                break
        size = 7 * 188
        try:
            for number, at in enumerate(range(0, len(stream), size)):
                head = struct.pack(">BBHII", 0x80, 33, number & 0xFFFF, number * 3000, 1)
                packet = head + stream[at : at + size]
                connection.sendall(b"$\0" + struct.pack(">H", len(packet)) + packet)
            lines.read()
        except ConnectionError:
            pass


def test_a_camera_on_rtsp_is_read(stream):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = threading.Thread(target=rtsp_server, args=(stream, listening), daemon=True)
        serving.start()
        uri = f"rtsp://127.0.0.1:{listening.getsockname()[1]}/stream"
        with closing(open_source(uri, open_timeout_s=10)) as source:
            assert next(iter(source)).image.shape == (120, 160, 3)
        serving.join(10)
