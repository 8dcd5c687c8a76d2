"""What the official Python library can ask for: its resources' methods, each with the request that it makes."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import openai
from conformance.published import body_schema, merged, sample
from openai._resource import SyncAPIResource

_VERBS = {"_get": "GET", "_post": "POST", "_delete": "DELETE", "_get_api_list": "GET"}
MODEL = "demo"


class Method(NamedTuple):
    """`name` as it is written: `chat.completions.create`."""

    name: str
    verb: str
    path: str  # below the base URL, parameters as `{}`
    segments: tuple[str, ...]  # the names of these
    parameters: dict[str, inspect.Parameter]

    @property
    def streams(self) -> bool:
        return "stream" in self.parameters

    def arguments(self) -> dict[str, Any]:
        """What must be given, as small as the specification allows it; and a model where there may be one."""
        schema = body_schema(self.verb, self.path)
        properties = schema.get("properties") or _of_first_choice(schema)
        return {
            name: _argument(name, properties)
            for name, parameter in self.parameters.items()
            if (parameter.default is inspect.Parameter.empty and name != "self") or name == "model"
        }

    def of(self, client: openai.OpenAI) -> Callable[..., Any]:
        """The method of this client, which gives its answer as it came."""
        *resources, name = self.name.split(".")
        found: Any = client
        for each in resources:
            found = getattr(found, each)
        return getattr(found.with_raw_response, name)  # type: ignore[no-any-return]


def _of_first_choice(schema: dict[str, Any]) -> dict[str, Any]:
    choices = schema.get("oneOf") or schema.get("anyOf") or [{}]
    return dict(merged(choices[0]).get("properties", {}))


def _argument(name: str, properties: dict[str, Any]) -> Any:
    if name == "model":
        return MODEL
    return sample(properties[name]) if name in properties else "id-1"


def methods() -> list[Method]:
    """Every method that makes one request."""
    return sorted(_methods(openai.OpenAI(api_key="none"), ""))


def _methods(owner: object, prefix: str) -> Iterator[Method]:
    for name in sorted(vars(type(owner)) if prefix else dir(type(owner))):
        if name.startswith(("_", "with_")):
            continue
        found = inspect.getattr_static(owner, name)
        if inspect.isfunction(found) and isinstance(owner, SyncAPIResource):
            request = _request_of(found)
            if request is not None:
                yield Method(prefix + name, *request, dict(inspect.signature(found).parameters))
        elif not inspect.isfunction(found):
            resource = getattr(owner, name, None)
            if isinstance(resource, SyncAPIResource):
                yield from _methods(resource, f"{prefix}{name}.")


def _request_of(function: Callable[..., Any]) -> tuple[str, str, tuple[str, ...]] | None:
    """Verb, path and names of its parameters, of the request that a method makes."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _VERBS:
            path = node.args[0] if node.args else None
            if isinstance(path, ast.Call) and path.args:  # path_template("/files/{file_id}", file_id=file_id)
                path = path.args[0]
            if isinstance(path, ast.Constant) and isinstance(path.value, str):
                verb = next((word.value for word in node.keywords if word.arg == "method"), None)
                named = str(verb.value).upper() if isinstance(verb, ast.Constant) else _VERBS[node.func.attr]
                plain = path.value.partition("?")[0]
                return named, re.sub(r"\{\w+\}", "{}", plain), tuple(re.findall(r"\{(\w+)\}", plain))
    return None
