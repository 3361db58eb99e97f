"""Authentication and roles: tokens, sessions, panels, proxies."""
