"""Models in a registry of the OCI standard: pushed under a tag, pulled by tag or digest, every byte checked."""
