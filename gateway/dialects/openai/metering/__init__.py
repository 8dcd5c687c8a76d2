"""What an answer used: reported, else by the text in it.

contents.py      an event's data or a whole answer, by one decoding
texts.py         the size of its text; many events of a stream at a time
answer_scan.py   answers too large for one look, or of another shape
usage_report.py  a `usage` as only some upstreams report it
made_usage.py    images, speech
"""
