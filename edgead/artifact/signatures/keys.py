"""Ed25519 key files: the private key readable by its owner alone, the public key beside it."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.errors import SettingsError
from edgead.files.disk import writing
from edgead.files.regular_files import UnreadableFileError, open_regular
from edgead.process.installation import install_command

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PUBLIC = ".pub"
_MAX_BYTES = 16 << 10
# Points of small order (at most eight), without the sign: anybody can forge signatures of such keys. As in libsodium,
# ge25519_has_small_order.
_SMALL_ORDER = {
    bytes(32),
    bytes([1]) + bytes(31),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    *(bytes([first]) + b"\xff" * 30 + b"\x7f" for first in (0xEC, 0xED, 0xEE)),
}
_OTHERS = stat.S_IRWXO | stat.S_IWGRP


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Public key that signatures are verified with; `file` is the file it was read from."""

    raw: bytes
    file: Path

    @property
    def id(self) -> str:
        """First half of the key's SHA-256 in hexadecimal digits: its name in signatures and messages."""
        return key_id(self.raw)

    def verifies(self, signature: bytes, message: bytes) -> bool:
        with cryptography():
            from cryptography.exceptions import InvalidSignature
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except InvalidSignature:
            return False
        return True


class PrivateKey:
    """A key that signs."""

    def __init__(self, key: Ed25519PrivateKey, file: Path):
        self._key = key
        self.public = PublicKey(key.public_key().public_bytes_raw(), file)

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


def key_id(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:32]


@contextmanager
def cryptography() -> Iterator[None]:
    """Import the package cryptography within the block, so that unsigned models do not need it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "cryptography":
            raise
        raise SettingsError(f"signatures need `{install_command('signatures')}`") from None


def make_key(file: Path, passphrase: str | None = None) -> PublicKey:
    """Generate a key pair: the private key in `file`, readable by its owner alone, the public key in FILE.pub.

    For a name that ends with .key, .pub replaces .key: site.key and site.pub. Both are PEM (PKCS #8 and
    SubjectPublicKeyInfo), as OpenSSL writes them.

    Raises SettingsError: one of the files exists: a key that signed something is never replaced.
    """
    with cryptography():
        from cryptography.hazmat.primitives import serialization as form
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    public = file.with_suffix(PUBLIC) if file.suffix == ".key" else file.with_name(f"{file.name}{PUBLIC}")
    for each in (file, public):
        if os.path.lexists(each):
            raise SettingsError(f"{each} is there already: name another file, for whoever trusts that key needs it")
    key = Ed25519PrivateKey.generate()
    locked = form.BestAvailableEncryption(passphrase.encode()) if passphrase else form.NoEncryption()
    secret = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, locked)
    shown = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        _write_new(file, secret, 0o600)
        try:
            _write_new(public, shown, 0o644)
        except BaseException:
            file.unlink()
            raise
    return PublicKey(key.public_key().public_bytes_raw(), public)


def read_public_key(file: Path) -> PublicKey:
    """Read a public key file.

    Raises SettingsError: the file cannot be read, or is no Ed25519 key in PEM.
    """
    with cryptography():
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    content, _ = _read(file)
    if b"PRIVATE KEY" in content:
        raise SettingsError(f"{file} is a private key: name the public one, and keep this one where models are signed")
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise SettingsError(f"{file} is no public Ed25519 key in PEM: `edgead key new` makes one")
    raw = key.public_bytes_raw()
    if bytes([*raw[:-1], raw[-1] & 0x7F]) in _SMALL_ORDER:
        raise SettingsError(f"{file} is no key: anybody can sign for it; `edgead key new` makes one")
    return PublicKey(raw, file)


def read_private_key(file: Path, ask: Callable[[], str] | None = None) -> PrivateKey:
    """Read a private key file.

    `ask`: function that returns the passphrase, called if the key has one.
    Raises SettingsError: the file cannot be read, other users may read or write it, it is no Ed25519 key in PEM, or the
        passphrase is wrong.
    """
    with cryptography():
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    content, found = _read(file)
    if os.name == "posix" and found.st_mode & _OTHERS:
        raise SettingsError(
            f"{file} may be read or written by others (mode {stat.S_IMODE(found.st_mode):o}): whoever has it signs in "
            f"its name; `chmod 600 {file}`, and make another key if somebody may have read it"
        )
    key: Any = None
    try:
        passphrase = ask().encode() if ask and b"ENCRYPTED" in content else None
        key = load_pem_private_key(content, passphrase)
    except TypeError:
        raise SettingsError(f"{file} has a passphrase: give it") from None
    except (ValueError, UnsupportedAlgorithm):
        if b"ENCRYPTED" in content:
            raise SettingsError(f"{file} cannot be opened: the passphrase is wrong, or the file damaged") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError(f"{file} is no private Ed25519 key in PEM: `edgead key new` makes one")
    return PrivateKey(key, file)


def _read(file: Path) -> tuple[bytes, os.stat_result]:
    try:
        with open_regular(file, _MAX_BYTES) as (stream, found):
            return stream.read(found.st_size), found
    except UnreadableFileError as error:
        raise SettingsError(f"the key {file} {error}: check its name, and who may read it") from None


def _write_new(file: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
