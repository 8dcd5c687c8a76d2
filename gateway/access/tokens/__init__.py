"""Tokens of identity providers (`auth.jwt`), taken in a key's place.

tokens.py     a credential → the key that it stands for, verified once and remembered
claims.py     what a token says, judged by what its issuer may say
key_sets.py   each issuer's keys: fetched, refreshed, held, shared by workers
"""

from __future__ import annotations

from gateway.access.tokens.key_sets import FETCH_SECONDS, Fetch, KeySets, KeySetStatus
from gateway.access.tokens.tokens import Tokens

__all__ = ["FETCH_SECONDS", "Fetch", "KeySetStatus", "KeySets", "Tokens"]
