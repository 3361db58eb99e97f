"""Foundation backbones: their names, files of weights and networks."""
