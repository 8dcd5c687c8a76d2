"""What surrounds every route: request id, feature flag, admission, caller, errors made answers, one access line."""

from __future__ import annotations

import asyncio
from time import perf_counter

from aiohttp import web

from gateway import openai
from gateway.calls import CLIENT_GONE, Call
from gateway.errors import FeatureDisabled, GatewayError, InternalError, ShuttingDown
from gateway.routes.table import Hit, Router, error_shape, is_ai_path
from gateway.server import Answer, connection_of
from gateway.state import State

_LONGEST_CLIENT_ID = 128
_CLOSE = ("connection", "close")


class Dispatcher:
    """The server's one handler. The order of refusals is the contract's, §3."""

    def __init__(self, state: State, router: Router) -> None:
        self._state = state
        self._router = router

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        connection_of(request).request_begins()
        call = begin_call(request)
        try:
            response = await self._answer(request, call)
        except GatewayError as fault:
            response = rendered(fault, call)
        except asyncio.CancelledError:
            if not call.was_interrupted():
                call.outcome, call.status = "cancelled", CLIENT_GONE
                raise
            response = rendered(ShuttingDown(), call)
        except ConnectionResetError:
            call.outcome, call.status = "cancelled", CLIENT_GONE
            raise
        except Exception:
            self._state.log.exception("a mistake of the gateway", request_id=call.request_id)
            response = rendered(InternalError(f"The gateway made a mistake (request {call.request_id})."), call)
        finally:
            self._state.calls.leave(call)
            self._log(call)
        if self._state.calls.draining:
            response.force_close()
        return response

    async def _answer(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        state = self._state
        if is_ai_path(call.path) and not await state.store.feature("ai"):
            raise FeatureDisabled("The AI feature is switched off.")
        route, params = self._router.match(call.method, call.path)
        if route.scope is not None:
            state.calls.enter(call)
            call.caller = await state.authenticator.caller(request.headers, route.scope)
        response = await route.handler(Hit(state, request, call, params))
        if isinstance(response, Answer) and call.attempts == 0:
            response.fields = (*response.fields, ("x-request-id", call.request_id))
        call.status = call.status or response.status
        return response

    def _log(self, call: Call) -> None:
        """The access line: who asked for what, who served it, how it ended."""
        line: dict[str, object] = {
            "request_id": call.request_id,
            "client": call.peer,
            "method": call.method,
            "path": call.path,
            "status": call.status,
            "ms": round((perf_counter() - call.began) * 1000, 2),
        }
        if call.client_request_id is not None:
            line["client_request_id"] = call.client_request_id
        if call.caller is not None:
            line["user"], line["key"] = call.caller.user.id, call.caller.key.id
        if call.outcome is not None:
            line["outcome"], line["attempts"], line["streamed"] = call.outcome, call.attempts, call.streamed
            line["model"] = call.served.name if call.served is not None else None
            line["endpoint"] = call.endpoint.id if call.endpoint is not None else None
        if call.first_byte is not None:
            line["first_byte_ms"] = round((call.first_byte - call.began) * 1000, 2)
        self._state.log.info("request", **line)


def begin_call(request: web.BaseRequest) -> Call:
    path = request.raw_path
    if not path.startswith("/"):  # absolute-form, as proxies are asked
        path = request.rel_url.raw_path
    headers = request.headers
    peer = request.protocol.peername
    return Call(
        request.method,
        path.partition("?")[0],
        str(peer[0]) if isinstance(peer, tuple) else "",
        client_request_id(headers.get("x-request-id") or headers.get("x-client-request-id")),
    )


def client_request_id(text: str | None) -> str | None:
    """A client's own request id, if it is of 1 to 128 printable ASCII characters; anything else is as good as none."""
    if text is None or not 0 < len(text) <= _LONGEST_CLIENT_ID or not (text.isascii() and text.isprintable()):
        return None
    return text


def rendered(fault: GatewayError, call: Call | None = None) -> Answer:
    """The answer that tells of a fault, in the shape that belongs to the path."""
    flat = call is not None and error_shape(call.path) == "flat" and not isinstance(fault, FeatureDisabled)
    body = openai.flat_error_body(fault.code, fault.message) if flat else openai.error_body(fault)
    headers = [("content-type", "application/json"), *(field for field in fault.headers if field != _CLOSE)]
    if call is not None:
        call.status = fault.status
        if not any(name == "x-request-id" for name, _ in headers):
            headers.append(("x-request-id", call.request_id))
    answer = Answer(fault.status, headers, body)
    if _CLOSE in fault.headers:
        answer.force_close()
    return answer
