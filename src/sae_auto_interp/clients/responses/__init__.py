"""Stored answers: what was asked before costs nothing."""
