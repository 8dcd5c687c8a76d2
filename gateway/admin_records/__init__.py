"""Change run-time records by their rules (contract §6, "Admin").

Knows nothing of HTTP.

    desk.py       who asks, over which stores; what gateway.yaml defines; the audit trail
    bodies.py     what is sent in                    shown.py   what is told, credentials masked
    models.py     the registry of models             credentials.py  kept, or asked for again; where endpoints may lead
    owners.py     users, organisations, plans        links.py   their grants, one by one
    keys.py       API keys                           features.py  switches
    watch.py      endpoints and their cooldowns

Every change is one atomic step on one document, so that no other admin's or panel's change is lost, and leaves an audit
entry in the log and in the store.
"""
