"""Connections to PLCs and plant systems beyond Modbus and MQTT: S7, EtherNet/IP, OPC UA, Sparkplug B, GPIO lines.

`sinks` and `triggers` have the components that a site file names; the other modules are the connections. Each imports
its protocol's package only when it is opened.
"""
