"""Change run-time records by their rules (contract §6, "Admin").

Knows nothing of HTTP.

    editor.py           who asks, over which stores; what gateway.yaml defines; the audit trail
    record_bodies.py    what is sent in          redaction.py         what is shown, credentials masked
    models.py           the registry of models   credentials.py       kept, or asked for again; where endpoints may lead
    owners.py           users, organisations,    links.py             their grants, one by one
                        plans                    features.py          switches
    keys.py             API keys                 endpoint_states.py   endpoints and their cooldowns
    own_keys.py         those that users make    passing_on.py        what a caller may make of a key
                        for themselves           explain/             who gets which model, and why

Every change is one atomic step on one document, so that no other admin's or panel's change is lost, and leaves an audit
entry in the log and in the store.
"""
