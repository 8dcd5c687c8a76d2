"""Relay an admitted request through a pool of upstream endpoints.

A plain request goes through three files: pipeline.py, attempt.py and the accounting in books/. The others are called
where it is no plain one.

ask.py              what is asked of it
pipeline.py         one request: pick an endpoint, try it, on failure the next, then tell the answer
attempt.py          one try against one endpoint: its answer as it comes, and a whole one told to the client
response.py         all other answers: streams, refusals, faults, heartbeats
responder.py        the ports to the client's side
endpoint_client.py  one endpoint's side of the wire: request heads, kinds of answers
upstreams.py        the pools of all models, made when first needed, kept across reloads
failures.py         what stood in the way, and the error that it comes to
verdicts.py         which failure counts against which endpoint
cooldowns.py        the list of cooldowns
heartbeat.py        signs of life before a stream's first event
usage_meter.py      what is seen of an answer, be it in pieces, for the books
answer_view.py      a look at a body beside its way to the client
books/              accounting: reserve, journal, settle by what was seen; work that goes on is booked when it ends
queueing/           requests that wait for an endpoint instead of being refused
stream/             a stream's opening, its events once it lives, what it unfolds to, what is held
refusals/           what an answer means for request and endpoint, and what of a refusal clients and the log may see
"""
