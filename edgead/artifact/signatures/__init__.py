"""Who signed a model: keys, signatures, and which of them a site trusts. Ed25519, by the package cryptography."""
