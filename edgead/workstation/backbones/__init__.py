"""Pretrained backbones, and extraction of their features from many images."""
