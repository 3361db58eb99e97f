"""Gaussian-AD: multivariate Gaussians of pooled features."""
