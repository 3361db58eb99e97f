"""MQTT brokers: options of a connection, and a client that reconnects by itself."""
