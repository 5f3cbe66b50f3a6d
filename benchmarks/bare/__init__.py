"""Measured programs that do the least that caching could do."""
