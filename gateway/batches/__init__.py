"""Batches: many requests in one file (contract §12).

batch_lines.py   a file cut into lines; one line as a request
input_file.py    all lines of a file judged, then rewritten for an endpoint
output_file.py   what the answers in a batch's output used
kept_answers.py  the objects that its answers are
settler.py       batches and background responses, settled when they are over
"""
