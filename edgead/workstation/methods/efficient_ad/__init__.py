"""EfficientAD: student, teacher and autoencoder, and distillation of a teacher."""
