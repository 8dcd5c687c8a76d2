"""Authenticate callers and resolve models by their grants."""
