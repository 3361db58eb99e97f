"""Methods that train a network with torch; device code never imports this package."""
