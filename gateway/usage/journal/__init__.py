"""The journal: records on disk first, replayed after a death."""
