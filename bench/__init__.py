"""The gateway beside other proxies, measured on one machine with one command: `python -m bench`.

__main__    the command line
tables/     what is measured, a table each: which load, on whom, in which rounds, shown in which columns
samples     the plan of a run (full, quick, smoke); a sample; a table
arena       starts upstream, gateway and peers; runs loads and reads what they cost
targets     the gateway, the upstream and Redis as processes: configured, started and named
proxies     the same for the peers, and what each does not do
peers       where peers come from: environments of their own under .peers/
processes   starting, watching, accounting and ending a process and its children
report      from samples to rows: medians, spreads, ratios within a round
goals       what the gateway is to reach, and whether the rows say that it does
pages       a report as markdown, JSON and charts; chart: bars as SVG
rows        the values that report and goals share

Processes of their own, each told its job on stdin or by arguments:
upstream    the model provider that all of them stand before
load        closed-loop load for throughput, streams and bodies
stalls      what hostile input holds others up for, in CPU time
ledger      what storing a row of usage costs
reports     how long reports take over millions of rows
affinity    where a conversation's turns go
latency     one request at a time to each target in random order
resolution  from a request's headers to caller, model and grant, with nothing else going on
uploads     one large upload, its memory and its bytes: a command of its own
drawing     how smoothly the chat draws a long answer: likewise
first_paint how soon each page is seen, and how much it loads: likewise
wire        the bytes that upstream and load agree on
"""
