"""Cameras behind a URL: rtsp://, http://, https:// and udp:// (MJPEG, MPEG-TS and whatever else FFmpeg reads).

Redirects of an HTTP camera are refused, even if OpenCV's FFmpeg cannot be kept from following them.
"""

from __future__ import annotations

import base64
import os
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

import cv2

from edgead.components.options import Section
from edgead.components.uri import without_credentials
from edgead.sources.connection import LiveAddress
from edgead.sources.contract import SourceError
from edgead.sources.live import LiveLimits
from edgead.sources.registry import register

# The first libavformat that is known to obey `max_redirects`; earlier ones always follow up to eight.
_TAKES_THE_OPTION = (62, 12)
# A hostile camera could make FFmpeg read from this computer or its network, by a redirect, a playlist (HLS, DASH,
# concat) or a description (SDP). So only streams are read, and only from the given address.
_FFMPEG = {
    "rtsp_transport": "tcp",  # OpenCV's default
    "protocol_whitelist": "rtsp,rtp,srtp,udp,tcp,tls,http,https,httpproxy,crypto",
    "format_whitelist": "rtsp,mpjpeg,mjpeg,mpegts,mpeg,mpegvideo,h264,hevc,flv,matroska,mov",
    "max_redirects": "0",
    "tls_verify": "0",  # unless an authority is named; from FFmpeg 9 on the default is 1
}
_NOT_FOLLOWED = "redirects and playlists are not followed: give the address of the stream itself"
_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
# Variable that names a file of certificates; without it none is verified.
_AUTHORITY = "EDGEAD_CAMERA_CA"
_DEFAULT_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}


def is_redirected(url: str, timeout_s: float, authority: str | None = None) -> bool:
    """Request an HTTP address once, as FFmpeg would, and return whether the answer is a redirect.

    A camera could still answer FFmpeg differently: only cameras that answer every request alike are found. False if
    FFmpeg refuses redirects itself, or if the request fails, as FFmpeg then fails too and reports the reason.
    """
    parts = urlsplit(url)
    if parts.scheme.lower() not in ("http", "https") or ffmpeg_refuses():
        return False
    request = Request(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl())
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        request.add_header("Authorization", f"Basic {base64.b64encode(user.encode()).decode()}")
    context = ssl.create_default_context(cafile=authority)
    if authority is None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # as FFmpeg does without certificates
    try:
        build_opener(_Refuse, HTTPSHandler(context=context)).open(request, timeout=timeout_s).close()
    except HTTPError as error:
        error.close()
        return 300 <= error.code < 400
    except (OSError, HTTPException, ValueError):
        pass
    return False


class _Refuse(HTTPRedirectHandler):
    def redirect_request(self, *args: object) -> None:
        """Follow no redirect, so that it raises an HTTPError."""


@cache
def ffmpeg_refuses() -> bool:
    """Whether OpenCV's FFmpeg can be kept from following redirects; False if its version is unknown."""
    found = re.search(r"avformat:\s+YES \((\d+)\.(\d+)", cv2.getBuildInformation())
    return found is not None and tuple(map(int, found.groups())) >= _TAKES_THE_OPTION


_opening = threading.Lock()


class NetworkOptions(Section):
    """Stream that FFmpeg reads: MJPEG, MPEG-TS, H.264; the URL's options go to the camera. One thread decodes it."""


def network_address(url: str, options: NetworkOptions, limits: LiveLimits) -> LiveAddress:
    """Make the address of a stream from its URL; user name and password in the URL appear nowhere else."""
    shown = without_credentials(url)
    return LiveAddress(shown, lambda: _connect(url, shown, limits))


def _connect(url: str, shown: str, limits: LiveLimits) -> cv2.VideoCapture:
    settings = [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
        int(limits.open_timeout_s * 1000),
        cv2.CAP_PROP_READ_TIMEOUT_MSEC,
        int(limits.read_timeout_s * 1000),
        # With several threads FFmpeg logs errors of a later frame than it returns; one decodes 1080p at 30 frames/s.
        cv2.CAP_PROP_N_THREADS,
        1,
    ]
    authority = _authority()
    if is_redirected(url, limits.open_timeout_s, authority):
        raise SourceError(f"{shown}: {_NOT_FOLLOWED}")
    with _only_streams({"tls_verify": "1", "ca_file": authority} if authority else {}):
        capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, settings)
    if not capture.isOpened():
        capture.release()
        raise SourceError(f"{shown}: {_why_unreachable(url, authority)}")
    return capture


def _authority() -> str | None:
    """File of the certificate authority for cameras with TLS; None if any certificate is accepted."""
    authority = os.environ.get(_AUTHORITY)
    if not authority:
        return None
    try:
        ssl.create_default_context(cafile=authority)
    except OSError:
        raise SourceError(f"{_AUTHORITY} names {authority!r}, which is no file of certificates (PEM)") from None
    if set(authority) & set("|;"):  # separators of FFmpeg's options
        raise SourceError(f"{_AUTHORITY} names {authority!r}: choose a path without | and ;")
    return authority


@contextmanager
def _only_streams(encryption: dict[str, str]) -> Iterator[None]:
    """Set FFmpeg's options in the environment for the block: `_FFMPEG`, and the user's own.

    OpenCV reads FFmpeg's options only from the environment, each time it opens something, and files must be opened
    without them.
    """
    ours = "|".join(f"{name};{value}" for name, value in (_FFMPEG | encryption).items())
    with _opening:
        theirs = os.environ.get(_OPTIONS)
        os.environ[_OPTIONS] = f"{ours}|{theirs}" if theirs else ours
        try:
            yield
        finally:
            if theirs is None:
                del os.environ[_OPTIONS]
            else:
                os.environ[_OPTIONS] = theirs


def _why_unreachable(url: str, authority: str | None) -> str:
    """Connect to a camera that does not open, and return the reason, since OpenCV gives none."""
    try:
        parts = urlsplit(url)
        if parts.scheme.lower() == "udp":
            return "no stream arrives there"
        address = parts.hostname, parts.port or _DEFAULT_PORTS[parts.scheme.lower()]
        if not parts.hostname:
            return "the URL names no host"
        with socket.create_connection(address, timeout=1.0) as connection:
            if authority and parts.scheme.lower() in ("https", "rtsps"):
                ssl.create_default_context(cafile=authority).wrap_socket(
                    connection, server_hostname=parts.hostname
                ).close()
    except ssl.SSLError as error:  # before ValueError, which some of these are too
        return f"its certificate is not one of {_AUTHORITY}: {getattr(error, 'verify_message', error.reason)}"
    except ValueError:
        return "the URL is malformed (special characters in a password must be percent-encoded)"
    except socket.gaierror:
        return "the host name cannot be resolved"
    except OSError as error:
        return f"the host cannot be reached: {error.strerror or 'no answer'}"
    return f"the host answers but gives no video; check the path, the user name and the password; {_NOT_FOLLOWED}"


register(
    "network",
    NetworkOptions,
    schemes={scheme: f"{scheme}://HOST/PATH" for scheme in ("rtsp", "rtsps", "http", "https")} | {"udp": "udp://:PORT"},
    address=network_address,
    has_query=False,
)
