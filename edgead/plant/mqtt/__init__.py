"""MQTT brokers: what is said of one, and a connection that comes again by itself."""
