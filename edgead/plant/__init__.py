"""The plant around a device: MQTT brokers and PLCs, and connections to them that reconnect by themselves."""
