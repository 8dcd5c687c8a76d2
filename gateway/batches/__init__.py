"""Batches: many requests in one file (contract §12).

lines.py        a file cut into lines; one line as a request
input_file.py   all lines of a file judged, then rewritten for an endpoint
"""
