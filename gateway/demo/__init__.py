"""`gateway demo`: a gateway and a loopback upstream on one machine.

running    configuration, upstreams, gateway; what to paste
sign_in    the link to the pages
upstream/  answers the whole OpenAI surface, word by word
gallery/   every state of every page, with made-up answers (`--pages`)
faulty     an upstream that breaks HTTP (`--faults`): faults, the plans that it follows; answers, what it breaks
"""

from gateway.demo.running import run_demo

__all__ = ["run_demo"]
