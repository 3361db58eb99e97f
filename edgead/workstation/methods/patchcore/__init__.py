"""PatchCore: nearest patches of a memory bank."""
