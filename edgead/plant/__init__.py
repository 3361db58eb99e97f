"""Connections to the plant around a device, MQTT brokers and PLCs, which reconnect by themselves."""
