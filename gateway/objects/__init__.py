"""What upstreams keep: whose it is, and where (contract §12).

index.py       start here: what the rest of the gateway may ask and say
record.py      the values: an object, a page of a list, work that is not settled yet
accounts.py    which endpoints are one account, also after a credential was rotated

Nothing here knows HTTP, paths or bodies: ids, owners and accounts alone.
"""
