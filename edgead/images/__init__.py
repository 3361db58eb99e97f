"""Reading, checking, writing and drawing of images, uint8 BGR (H, W, 3) unless stated otherwise."""
