"""A page of a report, by the sums (§8).

page_queries  ordered and cut by the database
page_ids      which row a page begins behind
kept_pages    pages of days that have ended
kept_totals   totals of a report's groups, to which rows that come are added
new_rows      reads these rows
kept_spans    of which spans, and the thread that makes them
wishes        reports by spans that move on with the date
"""
