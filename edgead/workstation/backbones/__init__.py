"""Pretrained backbones, and features of many images by them."""
