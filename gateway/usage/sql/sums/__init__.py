"""Keep daily and hourly sums beside the rows (§8).

Reports and limits read them.

sum_tables    what is kept, and which rows are in it
day_blocks    days that have ended: which there are, which make up a span; rolling: makes them
ranks         who used the most of each of them
additions     what some rows add to it
adding        that, into the database, in the transaction of the rows
recounting    cached tokens, which older sums have not
keeping       rows that nobody has added yet; sums that are old, or made anew
sum_queries   which question the sums can answer, and how; `pages`: a page of the answer
"""
