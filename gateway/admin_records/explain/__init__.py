"""Explain why a request would be served as it is.

explainer.py    the same functions that requests go through, asked without an effect
sources.py      who grants what
explanation.py  the shapes of an explanation
wording.py      the same as sentences
"""

from gateway.admin_records.explain.explainer import Explainer
from gateway.admin_records.explain.explanation import Explanation
from gateway.admin_records.explain.wording import explanation_text

__all__ = ["Explainer", "Explanation", "explanation_text"]
