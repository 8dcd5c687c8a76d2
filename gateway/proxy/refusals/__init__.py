"""Classify upstreams' refusals and failures: for clients, pools and the log."""
