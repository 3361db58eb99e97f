"""FiLo: words for what may be wrong with a product."""
