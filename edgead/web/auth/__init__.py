"""Who asks, and what each may do: tokens, sessions, panels, proxies, roles."""
