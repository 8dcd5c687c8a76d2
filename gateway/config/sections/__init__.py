"""Sections of gateway.yaml, one a file.

kinds.py      values that they share
server.py     the listening side
telemetry.py  where spans go
"""
