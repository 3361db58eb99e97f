"""Components: registries of sources, sinks, triggers and runtimes, with names, options and URI schemes."""
