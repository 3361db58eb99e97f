"""Rooms for images without labels: piles of parts screened, rejects sorted into kinds."""
