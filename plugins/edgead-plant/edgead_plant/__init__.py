"""PLCs and the plant's systems beside Modbus and MQTT: S7, EtherNet/IP, OPC UA, Sparkplug B, lines of GPIO.

`sinks` and `triggers` have what a site file names; beside them lie the connections. Each imports the package of its
protocol where it is opened.
"""
