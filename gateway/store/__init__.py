"""Stores of models, users, organisations, plans and keys.

base.py            the interfaces (what is asked of grants, where run-time documents live), and the catalogue of models
file.py            the store of gateway.yaml
layered.py         gateway.yaml over run-time records: what the gateway serves from
cached.py          run-time records, parsed and remembered
runtime_models.py  those of models, which are all held
freshness.py       how long what was read may be relied on
embedded.py        run-time documents in a SQLite file, for one process
redis.py           run-time documents in Redis, for many; redis_writer.py: their writing
passes.py          sessions and tickets, for a limited time
live_channel.py    requests as they run, of other workers
"""
