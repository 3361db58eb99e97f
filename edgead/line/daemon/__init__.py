"""The daemon: cameras, pipelines, sinks and the store of one site, unattended for months."""
