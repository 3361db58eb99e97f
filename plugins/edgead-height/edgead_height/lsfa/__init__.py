"""LSFA, after Tu et al. 2024: features of colour and height, adapted to a product so that both agree on good parts."""
