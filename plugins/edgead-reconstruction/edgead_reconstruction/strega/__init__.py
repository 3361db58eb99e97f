"""StRegA: a compact context-encoding autoencoder of slices, and what it does to its residuals."""
