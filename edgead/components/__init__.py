"""Registry of sources, sinks, triggers and runtimes: options with bounds, names, URI schemes."""
