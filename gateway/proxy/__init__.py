"""Relay an admitted request through a pool of upstream endpoints.

ask.py              what is asked of it
pipeline.py         one request: pick an endpoint, try it, on failure the next, then tell the answer
responder.py        the ports to the client's side
response.py         what the responder is told, and the end of the books
attempt.py          one try against one endpoint: gathers a whole answer or watches over a stream
endpoint_client.py  one endpoint's side of the wire: request heads, which of its headers pass
upstreams.py        the pools of all models, made when first needed, kept across reloads
failures.py         what stood in the way, and the error that it comes to
verdicts.py         which failure counts against which endpoint
cooldowns.py        the list of cooldowns
heartbeat.py        signs of life before a stream's first event
usage_meter.py      what was seen of an answer, for the books
answer_view.py      a look at a body beside its way to the client
books/              reserve and settle; work that goes on is booked when it ends
queueing/           requests that wait for an endpoint instead of being refused
stream/             a stream's opening, its events once it lives, what it unfolds to, what is held
refusals/           what an answer means for request and endpoint, and what of a refusal clients and the log may see
"""
