"""StRegA: a compact context-encoding autoencoder of slices, and the opening of its residuals."""
