"""LSFA, after Tu et al. 2024: features of colour and height are adapted to a product by what one says of the other."""
