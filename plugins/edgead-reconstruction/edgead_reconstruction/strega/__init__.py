"""StRegA: a compact context-encoding autoencoder of slices, whose residuals are opened by area."""
