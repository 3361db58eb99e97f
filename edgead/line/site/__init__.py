"""The site file: its schema, its reader and its checks."""
