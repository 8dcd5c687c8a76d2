"""What was made at run time, carried from one store to another.

entries.py         what is carried, in one form for all places; which kinds there are
copying.py         start here: fill, merge or replace, then compare both ends
embedded_depot.py  the SQLite files of an embedded store; tables.py: their rows as entries
redis_depot.py     Redis; redis_shelves.py: its keys as entries
staging.py         a file's entries, while they are compared
json_lines.py      the file: a line each, validated one by one
left_behind.py     keys in the store that is not in use

Not carried, because it ends by itself or is made anew: sessions and tickets, cooldowns and their list, the counts of
limits (they come from the ledger), who polls running work.
"""
