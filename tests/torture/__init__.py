"""A gateway under every fault at once, for as long as one likes, and books that must agree at the end.

    PYTHONPATH=.:tests python -m torture --seconds 600 --seed 7 --modes embedded,redis

options    what a run is given             house      upstreams, gateways and their stores, which go and come back
gateways   started, killed, started again  databases  PostgreSQL and MariaDB of a fleet
clients    the load                        troubles   what fate and operators do meanwhile
book       the independent count           gauges     memory, descriptors, tasks, what is in flight
run        one mode, and what must hold    report     progress lines and the table
"""
