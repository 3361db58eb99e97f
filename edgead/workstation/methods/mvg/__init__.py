"""Gaussian-AD: a multivariate Gaussian of pooled features."""
