"""What operators see: the log, traces, metrics, and the calls in flight.

calls          a call, from its head to its end, and the register of those in flight
ended          what a call leaves when it has ended: counts, and its line in the access log
logging        every other line, for people or machines; `line_text`: what anybody's words may bring into one
log_stream     standard error, from a thread; `chorus`: one line where every worker would say the same
tracing        `traceparent`; `otel/`: spans
metrics/       what is counted besides, and what is scraped
live_requests  the calls in flight over all workers; `loop_lag`: how late the event loop is
"""
