"""Sections of gateway.yaml, one a file.

field_types.py     kinds of values that they share
listening_side.py  `server`
telemetry.py       where spans go
"""
