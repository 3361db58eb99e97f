"""Certificates of a server on this computer, and of who signs them, as RFC 5280 wants them and Python from 3.13 on."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path


def write_certificates(folder: Path) -> None:
    """An authority and a server's certificate for 127.0.0.1, each with its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now = datetime.datetime.now(datetime.timezone.utc)

    def certificate(name, key, issuer, issuer_key, *extensions):
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=3))
            .not_valid_after(now + datetime.timedelta(days=3))
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("edgead test", "127.0.0.1")]
    signs = dict.fromkeys(("key_cert_sign", "crl_sign"), True) | dict.fromkeys(
        ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
    )
    authority = [
        (x509.BasicConstraints(ca=True, path_length=None), True),
        (x509.KeyUsage(**signs, encipher_only=False, decipher_only=False), True),
        (x509.SubjectKeyIdentifier.from_public_key(keys[0].public_key()), False),
    ]
    server = [
        (x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key()), False),
    ]
    (folder / "ca.pem").write_bytes(certificate(names[0], keys[0], names[0], keys[0], *authority))
    (folder / "server.pem").write_bytes(certificate(names[1], keys[1], names[0], keys[0], *server))
    encoding = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.key").write_bytes(keys[1].private_bytes(*encoding))
