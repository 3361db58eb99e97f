"""Methods that train a network; with them comes torch, so nothing on the device imports this package."""
