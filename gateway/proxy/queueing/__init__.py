"""Requests that wait for an endpoint instead of being refused (contract §16).

line.py           who is next: by rank, then users in turn, then as they came
request_queue.py  those that wait, by the model that they wait for; a slot that frees is handed to the next of them
wait.py           the wait itself: in line, judged anew when its turn comes
turn.py           one request's wait, between its reservation and its admission
"""

from gateway.proxy.queueing.request_queue import Handed, Place, RequestQueue
from gateway.proxy.queueing.turn import Turn
from gateway.proxy.queueing.wait import Turns, Wait

__all__ = ["Handed", "Place", "RequestQueue", "Turn", "Turns", "Wait"]
