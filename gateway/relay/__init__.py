"""The relay: from an admitted request to its answer, through a pool of upstream endpoints.

story.py      one request: pick an endpoint, try it, on failure the next, then stream or answer
attempt.py    one try against one endpoint: gathers a whole answer or watches over a stream
outlet.py     one endpoint's side of the wire: request heads, which of its headers pass, masking
upstreams.py  the pools and outlets of all models, made when first needed, kept across reloads
"""
