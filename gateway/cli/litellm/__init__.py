"""From a LiteLLM proxy's config.yaml to a gateway.yaml.

import_command.py  gateway import litellm
their_file.py      their file, each value with its line
providers.py       which of their providers speak OpenAI's protocol, and where
deployments.py     an entry of their model_list as an endpoint
conversion.py      models, pools, fallbacks, keys: the whole of it
leftovers.py       what has no counterpart, and what to do instead
yaml_text.py       the gateway.yaml, as text
"""
