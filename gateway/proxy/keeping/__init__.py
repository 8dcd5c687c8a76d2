"""Requests for what upstreams keep: whose, where, and what answers bring.

pins.py            start here: the objects that a request names, and the account that keeps them
home.py            where things are made that need no model
object_keeper.py   remembers what an answer brings, before the client has it
answer_objects.py  ids, bodies and states in an answer
refresher.py       reads an object again where it lies
kept_events.py     the same for a stream, event by event, and for what flows
large_answers.py   reads what is too large to be decoded, or compressed
"""
