"""Fleet member: a device that follows a tag of a registry, and reports its models and state to a broker."""
