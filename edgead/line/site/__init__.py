"""Site file: schema, reader and checks."""
