"""The test kit: real sockets and real processes, scripted byte by byte.

upstream   FakeUpstream: a server whose every answer a test writes, and which remembers what it was asked
answers    behaviours for it: plain answers, streams, exact bytes, stalls, cuts, OpenAI-shaped replies
gateway    GatewayProcess: a real `python -m gateway serve`, its log and its end; `config()` writes its YAML
forked     the same process and every other command, forked from one that has imported it: `kit.nursery`
messages   Anthropic's protocol: behaviours, events, models that speak it
stage      Stage: a gateway in front of a fake upstream, with fresh models for each test
wire       Wire: a client that sends raw bytes, reads event by event, leaves by FIN or RST
nginx      a real nginx in front

An upstream that breaks HTTP in every way that has a name is the product's own: `gateway.demo.faulty`.
"""

from kit.answers import CLOSE, DONE, RESET, answer, as_openai, event, events, raw
from kit.gateway import KEYS, GatewayProcess, config
from kit.stage import FreshModel, Stage, ask
from kit.upstream import Behaviour, FakeEndpoint, FakeUpstream, Received, refusing_port, unanswering_port
from kit.wire import DEADLINE_SECONDS, UPSTREAM_WORDS, Reply, Wire, assert_error, request_bytes

__all__ = [
    "CLOSE",
    "DEADLINE_SECONDS",
    "DONE",
    "KEYS",
    "RESET",
    "UPSTREAM_WORDS",
    "Behaviour",
    "FakeEndpoint",
    "FakeUpstream",
    "FreshModel",
    "GatewayProcess",
    "Received",
    "Reply",
    "Stage",
    "Wire",
    "answer",
    "as_openai",
    "ask",
    "assert_error",
    "config",
    "event",
    "events",
    "raw",
    "refusing_port",
    "request_bytes",
    "unanswering_port",
]
