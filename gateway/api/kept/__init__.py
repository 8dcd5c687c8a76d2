"""Relay requests for objects to the upstreams that keep them (contract §12).

kept_routes.py   rows that need no model, or merely name one
batch_files.py   the input files of batches
list_handler.py  lists of top level, from our own index
object_asks.py   where the objects of a request live, and what its answers bring
"""
