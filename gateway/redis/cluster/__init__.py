"""A link to a Cluster: each primary, and the tagged keys apart.

cluster_link.py   start here: each command to the primary that has its key; redirections
topology.py       which slots each primary has, found out anew whenever something moves
node_addresses.py  where a connection of the link leads: to one node, to a slot's primary, to any for messages

What must be counted together has one tag, `{gw}`, and so one primary, over one connection that keeps commands in
order. Other keys are spread.
"""
