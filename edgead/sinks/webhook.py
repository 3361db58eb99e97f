"""Verdicts and notices to a URL: JSON by POST, signed with a secret if given, and tried again (httpx)."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import threading
import time
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr

from edgead.components.options import Seconds, WebhookUrl
from edgead.components.uri import origin
from edgead.errors import SettingsError
from edgead.process.http_attempt import Attempts
from edgead.process.installation import install_command
from edgead.serialization import record_json
from edgead.serialization.notice import Notice, notice_json
from edgead.sinks.contract import CHOICES, BaseSink, SinkError
from edgead.sinks.options import Only, QueuedSinkOptions, QueueSection
from edgead.sinks.registry import register
from edgead.types import Frame, Verdict

# They log whole URLs, in which there may be a password or a token.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)

TIMESTAMP_HEADER = "X-Edgead-Timestamp"
SIGNATURE_HEADER = "X-Edgead-Signature"
ID_HEADER = "X-Edgead-Id"
# Answers after which the same request may succeed: too early, too many, a passing trouble of the server.
_PASSING = frozenset({408, 425, 429})


class WebhookOptions(QueuedSinkOptions):
    """Verdicts as JSON to a URL, signed with HMAC-SHA256 if a secret is given."""

    kind: Literal["webhook"]
    url: Annotated[WebhookUrl, Field(description="URL to post to.")]
    secret: Annotated[
        SecretStr | None, Field(description="Key of the signature; with --sink from EDGEAD_WEBHOOK_SECRET.")
    ] = None
    timeout_s: Annotated[Seconds, Field(description="Time limit of one attempt.")] = 5.0
    retry_first_s: Annotated[Seconds, Field(description="Pause after the first failure; it doubles.")] = 0.5
    retry_most_s: Annotated[Seconds, Field(description="Longest pause.")] = 30.0
    give_up_after_s: Annotated[
        float, Field(ge=0.001, le=31_536_000, description="Time after which an unaccepted verdict counts as failed.")
    ] = 600.0
    only: Annotated[Only, Field(description="Verdicts to post; review includes rejects.")] = "all"
    queue: Annotated[QueueSection, Field(description="How many verdicts may wait.")] = QueueSection(messages=1_000)

    @property
    def takes_notices(self) -> bool:
        return True


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Return `sha256=` and the HMAC-SHA256 of `timestamp.body` in hexadecimal digits."""
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={digest.hexdigest()}"


class WebhookSink(BaseSink):
    """Sink that posts each verdict, in order; a verdict that is not accepted is tried again with growing pauses.

    An attempt takes `timeout_s` at most, whatever data arrives. Connections that fail, timeouts, 408, 425, 429 and
    5xx are tried again for `give_up_after_s`; any other answer outside 2xx refuses the verdict at once. Redirects are
    not followed. Verdicts wait in an `edgead.sinks.queued.QueuedSink` before it.
    """

    needs_image = False

    def __init__(self, section: WebhookOptions):
        try:
            import httpx
        except ModuleNotFoundError:
            raise SettingsError(f"a webhook needs `{install_command('daemon')}`") from None
        shown = origin(section.url)
        if not shown.startswith(("http://", "https://")):
            raise SettingsError("webhook: the url must begin with http:// or https:// and name a host")
        self.uri = f"webhook:{shown}"
        self._problem: str | None = None
        self._section = section
        self.decisions = CHOICES[section.only]
        self._closed = threading.Event()
        self._attempts = Attempts()
        one = httpx.Limits(max_connections=1)
        self._client = httpx.Client(timeout=section.timeout_s, follow_redirects=False, limits=one)

    @property
    def problem(self) -> str | None:
        return self._problem

    def write(self, frame: Frame, verdict: Verdict) -> None:
        """Post a verdict, repeatedly if needed, until it is accepted, refused or given up, or the sink is closed."""
        if verdict.decision in self.decisions:
            self._deliver(frame.id, record_json(frame, verdict).encode(), "the verdict")

    def notify(self, notice: Notice) -> None:
        """Post a notice as `write` posts a verdict.

        A notice is posted up to three times: raised, acknowledged, resolved. The id of each post ends with its event.
        """
        self._deliver(f"{notice.id}-{notice.event}", notice_json(notice).encode(), "the notice")

    def _deliver(self, id: str, body: bytes, what: str) -> None:
        deadline = time.monotonic() + self._section.give_up_after_s
        pause_s = self._section.retry_first_s
        while not self._closed.is_set():
            problem, again = self._post(id, body)
            self._problem = problem and f"{self.uri}: {problem}"
            if problem is None:
                return
            if not again or time.monotonic() + pause_s > deadline:
                self._problem = None  # it waits for nothing any more; the queue reports the error
                raise SinkError(f"{self.uri}: {problem}; {what} was not taken")
            self._closed.wait(pause_s)
            pause_s = min(2 * pause_s, self._section.retry_most_s)
        raise SinkError(f"{self.uri}: closed before {what} was taken")

    def close(self) -> None:
        self._closed.set()
        self._client.close()

    def _post(self, id: str, body: bytes) -> tuple[str | None, bool]:
        """Post once; return an error text or None, and whether another try may succeed."""
        import httpx

        headers = {"Content-Type": "application/json", ID_HEADER: id}
        if self._section.secret is not None:
            headers[TIMESTAMP_HEADER] = timestamp = str(int(time.time()))
            headers[SIGNATURE_HEADER] = signature(self._section.secret.get_secret_value(), timestamp, body)
        try:
            status = self._answer(headers, body)
        except httpx.TimeoutException:
            return self._no_answer, True
        except httpx.ConnectError as error:
            return self._no_answer if self._attempts.overdue else f"no connection: {error}", True
        except (httpx.HTTPError, httpx.InvalidURL, RuntimeError) as error:
            # The libraries' messages may quote the URL. A RuntimeError is a client that was closed meanwhile.
            problem = self._no_answer if self._attempts.overdue else type(error).__name__
            return problem, isinstance(error, httpx.TransportError)
        if 200 <= status < 300:
            return None, False
        return f"answered {status}", status in _PASSING or status >= 500

    def _answer(self, headers: dict[str, str], body: bytes) -> int:
        """Post, and return the HTTP status of the answer without reading its body, which may be long."""
        extensions = {"trace": self._attempts.trace}
        with self._attempts.within(self._section.timeout_s):
            request = self._client.stream(
                "POST", self._section.url, content=body, headers=headers, extensions=extensions
            )
            with request as answer:
                return answer.status_code

    @property
    def _no_answer(self) -> str:
        return f"no answer within {self._section.timeout_s:g} s"


def _read_uri(uri: str) -> dict[str, Any]:
    # The URL may have a query of its own, so that options and the secret cannot be in it.
    return {"url": uri.partition(":")[2], "secret": os.environ.get("EDGEAD_WEBHOOK_SECRET") or None}


register(
    "webhook",
    WebhookOptions,
    lambda name, options: WebhookSink(options),
    schemes={"webhook": "webhook:URL"},
    read_uri=_read_uri,
)
