"""Images: read, checked, written and drawn on; always uint8 BGR (H, W, 3)."""
