"""The gateway beside other proxies, measured on one machine with one command: `python -m bench`.

__main__    the command line
measure     which load runs against whom, when; CPU time read around it
report      tables and JSON from what was measured
targets     the gateway and its peers: how each is configured, started and named
peers       installs the peers that are not on the machine, each in an environment of its own
processes   starting, watching, accounting and ending a process and its children
upstream    the model provider that all of them stand before (a process of its own)
load        closed-loop load for throughput and streams (a process of its own)
latency     one request at a time to each target in random order (a process of its own)
wire        the bytes that upstream and load agree on
"""
