"""What a service under stress answers: seen bodies, one fault each."""

from __future__ import annotations

import json
from typing import Any

from pipeline.sim.wire import Response, error_body, json_response


def faulty(fault: str, delay: float, answer: dict[str, Any] | None = None) -> Response:
    """The response that a fault makes of an answer; ValueError for an unknown fault."""
    whole = json.dumps(answer or {}).encode()
    match fault:
        case "http_500":
            return json_response(500, error_body(500, "Internal Server Error"), delay=delay)
        case "http_502":
            return json_response(
                502, error_body(502, "Upstream error from Simulator: down"), delay=delay
            )
        case "http_503":
            return json_response(503, error_body(503, "No instances available"), delay=delay)
        case "html_524":
            page = b"<!DOCTYPE html><title>524: A timeout occurred</title><h1>Error 524</h1>"
            return Response(524, page, {"Content-Type": "text/html"}, delay)
        case "error_in_200":
            return json_response(
                200, error_body(502, "Service temporarily overloaded"), delay=delay
            )
        case "choice_error":
            error = {"code": 502, "message": "Provider disconnected mid-stream"}
            message = {"role": "assistant", "content": "A red bi"}
            choice = {"finish_reason": "error", "message": message, "error": error}
            return json_response(200, {"id": "gen-0", "choices": [choice]}, delay=delay)
        case "null_choices":
            return json_response(200, {**(answer or {}), "choices": None}, delay=delay)
        case "nested_choices":
            return json_response(
                200, {"id": None, "choices": None, "provider": answer}, delay=delay
            )
        case "empty":
            empty = json.loads(whole)
            empty["choices"][0]["message"]["content"] = ""
            empty["usage"]["completion_tokens"] = 0
            return json_response(200, empty, delay=delay)
        case "cut_body":
            head = {"Content-Type": "application/json"}
            return Response(200, whole, head, delay, cut=len(whole) // 2)
        case "blank":
            return Response(200, b"\n" * 50, {"Content-Type": "application/json"}, delay)
        case "reset":
            return Response(200, b"", {}, delay, cut=0)
        case "upstream_429":
            metadata = {
                "raw": "the model is temporarily rate-limited upstream. Please retry shortly",
                "provider_name": "Simulator",
                "limit_source": "upstream_provider_shared_pool",
            }
            return json_response(429, error_body(429, "Provider returned error", metadata))
    raise ValueError(fault)
