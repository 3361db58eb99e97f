"""The plant around a device: MQTT brokers and PLCs, and connections to them that come again by themselves."""
