"""Signatures of models: keys, signatures and a site's trust in them. Ed25519, by the package cryptography."""
