"""What sources, sinks, triggers and runtimes are registered with: options with bounds, names, URI schemes."""
