"""What upstreams keep: whose it is, and where (contract §12).

index.py           start here: what the rest of the gateway may ask and say
record.py          the values: an object, a page of a list, work that is not settled yet
accounts.py        which endpoints are one account, also after a credential was rotated
journaled.py       the index: caches and journal in front of a store
changes.py         what is remembered and forgotten, as values
object_journal.py  changes that no store has taken yet, on disk; pending.py: the same, in memory
delivery.py        brings them to the store, those of dead processes too
paging.py          pages of a list, from slices of a store
cache.py           what was used last
backend.py         the interface of stores: sqlite.py for one process, redis.py for all

Nothing here knows HTTP, paths or bodies: ids, owners and accounts alone.
"""
