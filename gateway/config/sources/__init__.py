"""What a configuration takes from beside gateway.yaml.

certificates.py  the authorities that a `ca_file` names
environment.py   the proxy
includes.py      further files
overrides.py     single values that the environment sets
redis_urls.py    where Redis is: one server, Sentinel, a Cluster
token_issuers.py `auth.jwt`, with the keys that files hold
"""
