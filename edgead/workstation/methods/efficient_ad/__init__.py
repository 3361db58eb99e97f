"""EfficientAD: student, teacher and autoencoder."""
