"""Clients around a client: cache, retries, limits, money."""
