"""The journal: records on disk before anybody relies on them, and what becomes of them after a death."""
