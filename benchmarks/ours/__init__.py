"""Measured programs that run this library."""
