"""Links to Redis that look after themselves."""
