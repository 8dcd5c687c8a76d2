"""Sections of gateway.yaml with checks of their own.

telemetry.py  where spans go
"""
