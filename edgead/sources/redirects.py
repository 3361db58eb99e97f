"""Redirects of an HTTP camera, where OpenCV's FFmpeg cannot be kept from following them."""

from __future__ import annotations

import base64
import re
import ssl
from functools import cache
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

import cv2

# The first libavformat that is known to take `max_redirects`; earlier ones follow eight, whatever they are asked.
_TAKES_THE_OPTION = (62, 12)


def is_redirected(url: str, timeout_s: float, authority: str | None = None) -> bool:
    """Ask an HTTP address once, as FFmpeg will, and report whether the answer is another address.

    A camera could still answer FFmpeg otherwise; this keeps out those that answer everybody alike. False where FFmpeg
    refuses redirects itself, and for what cannot be asked: FFmpeg cannot open it either, and says why.
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
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # as FFmpeg has it
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
        """Give no other request: the answer becomes an HTTPError."""


@cache
def ffmpeg_refuses() -> bool:
    """Whether OpenCV's FFmpeg can be kept from following redirects; False where its version is not known."""
    found = re.search(r"avformat:\s+YES \((\d+)\.(\d+)", cv2.getBuildInformation())
    return found is not None and tuple(map(int, found.groups())) >= _TAKES_THE_OPTION
