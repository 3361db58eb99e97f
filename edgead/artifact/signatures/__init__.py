"""Signatures of models: keys, signatures, and which of them a site trusts. Ed25519, by the package cryptography."""
