"""EfficientAD: student, teacher and autoencoder, and what distils a teacher."""
