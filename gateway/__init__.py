"""ecli-gateway: an OpenAI-compatible reverse-proxy gateway."""

__version__ = "0.1.0"
