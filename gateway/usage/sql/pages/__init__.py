"""A page of a report, by the sums (§8).

page_queries  ordered and cut by the database
page_ids      which row a page begins behind
kept_pages    pages of days that have ended
kept_totals   totals of these days' groups, to which those of other days are added
other_days    reads what is added to them
kept_spans    of which spans, and the thread that makes them
"""
