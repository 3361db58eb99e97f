"""Bucket of an object store that speaks S3: takes the files of an export, and only those that it lacks.

Keys, region and endpoint are what every program of AWS reads: AWS_ACCESS_KEY_ID, AWS_PROFILE, ~/.aws, AWS_ENDPOINT_URL.
"""

from __future__ import annotations

import base64
import hashlib
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from edgead.components.uri import origin
from edgead.errors import EdgeadError, SettingsError
from edgead.process.installation import install_command

SCHEME = "s3://"
_PLACE = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])((?:/[^/]+)*)/?")
_IN_MEMORY = 8 << 20  # bytes of a table; a larger one waits on the disk
_CONNECT_S = 5.0
_AGAIN = "run the same command again: what the bucket has is not sent twice"


class BucketError(EdgeadError):
    """A bucket is not there, refuses, or cannot be reached."""


class Bucket:
    """Files below a place in a bucket, which `write` brings up to date; nothing is removed there.

    A file of the same MD5 is not sent again. Stores that give other sums (AWS where a key of KMS encrypts) get every
    file each time.

    Parameters
    ----------
    place : str
        `s3://BUCKET` or `s3://BUCKET/PREFIX`.

    Raises
    ------
    SettingsError
        It is no such place, boto3 is missing, or the environment has no usable keys.
    BucketError
        The bucket is not there, refuses to be listed, or cannot be reached.
    """

    def __init__(self, place: str):
        found = _PLACE.fullmatch(place)
        if found is None:  # not quoted: it may hold a key
            raise SettingsError(
                "-o s3://… names a bucket and a prefix alone, such as s3://evidence/line7; keys and the endpoint "
                "come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL"
            )
        try:
            import boto3
            import botocore.exceptions
            from botocore.config import Config
        except ModuleNotFoundError:
            raise SettingsError(f"s3: needs `{install_command('s3')}`") from None
        self._errors = botocore.exceptions
        self._bucket, self._prefix = found[1], found[2].lstrip("/") + "/" if found[2] else ""
        self._endpoint = ""
        self.sent = 0
        self.kept = 0
        # Content-MD5 is the one checksum that every such store checks; the CRCs that boto3 adds by itself some refuse.
        config = Config(connect_timeout=_CONNECT_S, request_checksum_calculation="when_required")
        with self._explained():
            self._client: Any = boto3.Session().client("s3", config=config)
            self._endpoint = origin(self._client.meta.endpoint_url)
            self._sums = dict(self._list())

    def write(self, name: str, pieces: Iterable[bytes]) -> None:
        """Send a file, which appears whole or not at all.

        Raises
        ------
        BucketError
            The bucket refuses it, or cannot be reached.
        """
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as file:
            md5 = hashlib.md5(usedforsecurity=False)
            for piece in pieces:
                md5.update(piece)
                file.write(piece)
            key = self._prefix + name
            if self._sums.get(key) == md5.hexdigest():
                self.kept += 1
                return
            file.seek(0)
            with self._explained():
                checksum = base64.b64encode(md5.digest()).decode()
                self._client.put_object(Bucket=self._bucket, Key=key, Body=file, ContentMD5=checksum)
        self.sent += 1

    def _list(self) -> Iterator[tuple[str, str]]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
        for page in pages:
            for one in page.get("Contents", ()):
                yield one["Key"], one["ETag"].strip('"')

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say in words what boto3 raises; it may quote what was set, and some of that is secret."""
        errors = self._errors
        try:
            yield
        except errors.ClientError as error:
            raise BucketError(self._refusal(error.response)) from None
        except (errors.NoCredentialsError, errors.PartialCredentialsError, errors.CredentialRetrievalError):
            raise SettingsError(
                "s3: no usable keys are set: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            ) from None
        except (errors.ConnectionError, errors.HTTPClientError) as error:
            raise BucketError(f"{self._endpoint} cannot be reached ({type(error).__name__}): {_AGAIN}") from None
        except (errors.BotoCoreError, ValueError) as error:  # ValueError: an endpoint that is no URL
            raise SettingsError(
                f"s3: boto3 refuses the settings ({type(error).__name__}): see AWS_PROFILE, AWS_REGION, "
                "AWS_ENDPOINT_URL and ~/.aws/config"
            ) from None

    def _refusal(self, response: Any) -> str:
        code, status = response["Error"].get("Code", ""), response["ResponseMetadata"].get("HTTPStatusCode", 0)
        where = f"{self._endpoint}: bucket {self._bucket}"
        if code == "NoSuchBucket":
            return f"{where} is not there: create it, or see AWS_ENDPOINT_URL"
        if status in (401, 403):
            return f"{where} refuses ({code}): the keys must be right, and may list the bucket and put objects"
        return f"{where} answers {status} ({code}): {_AGAIN}"
