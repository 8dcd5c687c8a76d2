"""One link to Redis for everything that a process asks of it.

link.py             start here: commands, scripts, subscriptions; up or down
link_forms.py       the link that a URL asks for
address.py          where the server is, and whether another one is to be asked: one server
sentinel.py         the same by the word of Sentinels
cluster/            a link to a Cluster
outage.py           says once that it is away, and once that it is back
connection.py       one connection that is opened again, with back-off, whenever it fails
pipelining.py       what is asked in one turn of the loop goes out in one write; time-outs
script.py           scripts by their hash, with their source where Redis does not know them
subscription.py     channels, on a connection of their own
refusals.py         a Redis that answers, and refuses: MASTERDOWN, NOPERM, READONLY, OOM, LOADING, BUSY
circuit_breaker.py  fail at once until a probe has succeeded
outbox.py           messages that must arrive, in order, whenever that may be
timeout.py          time-outs that do not blame Redis for our own loop's lateness

Of redis-py its connections alone are used (address, TLS, authentication, parsing): its client retries unseen, its pool
fails where it is used up, its pub/sub waits for ever on a connection that is gone.
"""
