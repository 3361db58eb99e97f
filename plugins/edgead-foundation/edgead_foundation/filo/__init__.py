"""FiLo: detection by words for possible defects of a product."""
