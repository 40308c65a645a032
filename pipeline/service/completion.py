"""The completion inside a body, in the dialects that are met. Never raises."""

from __future__ import annotations

from sys import intern
from typing import Any

from pipeline.model import Completion
from pipeline.patterns import lazy

_CAPTIONS = lazy(r'\s*\{\s*"(?:captions?|image|description)"\s*:')
#: What gateways put an answer into.
_WRAPPERS = ("provider", "data", "output", "result")


def completion_of(value: Any, depth: int = 3) -> Completion | None:
    """The completion of a chat response, None when there is none to read."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, dict):
        return None
    provider = value.get("provider")
    choice = _choice(value)
    if choice is None:
        inner = next((value[n] for n in _WRAPPERS if isinstance(value.get(n), dict)), None)
        return completion_of(inner, depth - 1) if depth else None
    message = choice.get("message")
    message = message if isinstance(message, dict) else choice.get("delta")
    message = message if isinstance(message, dict) else {"content": choice.get("text")}
    content = text_of(message.get("content")) or _called(message)
    usage = value.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Completion(
        content=content,
        finish_reason=_finish(choice),
        native_finish_reason=_word(choice.get("native_finish_reason")),
        refusal=_string(message.get("refusal")) or _refusal(message.get("content")),
        prompt_tokens=_count(usage.get("prompt_tokens", usage.get("input_tokens"))),
        completion_tokens=_count(usage.get("completion_tokens", usage.get("output_tokens"))),
        cost_usd=_cost(usage),
        served_model=_word(value.get("model")),
        provider=_word(provider),
        generation_id=_string(value.get("id")),
        reasoning=_reasoning(message),
        service_tier=_word(value.get("service_tier")),
    )


def _choice(value: dict[str, Any]) -> dict[str, Any] | None:
    """The first choice; in the form of another interface, what stands for one."""
    choices = value.get("choices")
    if isinstance(choices, list) and choices:
        return choices[0] if isinstance(choices[0], dict) else None
    if isinstance(value.get("message"), dict) and "content" in value["message"]:
        return {**value, "finish_reason": value.get("done_reason", value.get("finish_reason"))}
    for text in (value.get("response"), value.get("output_text"), value.get("generated_text")):
        if isinstance(text, str):
            return {"text": text, "finish_reason": value.get("done_reason")}
    return _candidate(value) or _output(value) or _own_content(value)


def _candidate(value: dict[str, Any]) -> dict[str, Any] | None:
    """Gemini's `candidates`."""
    candidates = value.get("candidates")
    first = candidates[0] if isinstance(candidates, list) and candidates else None
    return {**first, "message": first} if isinstance(first, dict) else None


def _output(value: dict[str, Any]) -> dict[str, Any] | None:
    """The `output` of OpenAI's Responses: the items that are messages; Replicate's: texts."""
    output = value.get("output")
    if not isinstance(output, list) or not output:
        return None
    if all(isinstance(text, str) for text in output):
        return {"text": "".join(output)}
    details = value.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    items = [item for item in output if isinstance(item, dict) and item.get("type") == "message"]
    parts = [item.get("content") for item in items]
    content = [part for inner in parts if isinstance(inner, list) for part in inner]
    return {"message": {"content": content}, "finish_reason": reason}


def _own_content(value: dict[str, Any]) -> dict[str, Any] | None:
    """Anthropic's message; llama.cpp's completion."""
    is_message = value.get("type") == "message" and isinstance(value.get("content"), list)
    if is_message or (isinstance(value.get("content"), str) and "stop" in value):
        cut = value.get("truncated") is True or value.get("stop_type") == "limit"
        return {**value, "message": value, "finish_reason": "length" if cut else None}
    return None


def _finish(choice: dict[str, Any]) -> str | None:
    """The finish word, also in an object, or under the names of other interfaces."""
    for name in ("finish_reason", "finishReason", "finish_details", "stop_reason", "stopReason"):
        reason = choice.get(name)
        if isinstance(reason, dict):
            reason = reason.get("type") or reason.get("reason")
        if reason:
            return _word(reason)
    return None


def _called(message: dict[str, Any]) -> str:
    """The arguments of the only tool that was called instead of an answer, where they are captions."""
    calls = message.get("tool_calls")
    call = calls[0] if isinstance(calls, list) and len(calls) == 1 else message
    function = call.get("function", call.get("function_call")) if isinstance(call, dict) else None
    arguments = function.get("arguments") if isinstance(function, dict) else None
    is_caption = isinstance(arguments, str) and _CAPTIONS.match(arguments)
    return str(arguments) if is_caption else ""


def _refusal(content: Any) -> str | None:
    """A refusal among the parts of an answer."""
    parts = content if isinstance(content, list) else []
    return next((_string(p.get("refusal")) for p in parts if isinstance(p, dict)), None)


def _reasoning(message: dict[str, Any]) -> int:
    """Characters of reasoning in a field of its own (vLLM and DeepSeek, OpenRouter and Ollama)."""
    texts = message.get("reasoning_content"), message.get("reasoning")
    return max([len(text) if isinstance(text, str) else 0 for text in texts])


def text_of(content: Any) -> str:
    """`content` as text: a string, or the text parts of a list; reasoning parts do not count."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        content = content.get("parts", [content])
    return "".join(map(_part, content)) if isinstance(content, list) else ""


def _part(part: Any) -> str:
    """The text of a part of an answer."""
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or part.get("thought") is True:
        return ""
    text = part.get("text") if part.get("type", "text") in ("text", "output_text") else None
    text = text.get("value") if isinstance(text, dict) else text
    return text if isinstance(text, str) else ""


def _string(value: Any) -> str | None:
    return value[:500] if isinstance(value, str) and value else None


def _word(value: Any) -> str | None:
    """A string that nearly every answer repeats: all of them share one."""
    text = _string(value)
    return None if text is None else intern(text)


def _count(value: Any) -> int | None:
    if type(value) is int and 0 <= value < 10**12:
        return value  # most are
    number = _number(value)
    return int(number) if number is not None and 0 <= number < 1e12 else None


def _cost(usage: dict[str, Any]) -> float | None:
    """OpenRouter tells what it takes itself; with a provider key of one's own (`is_byok`) the
    provider's bill comes on top."""
    cost = money(usage.get("cost"))
    if usage.get("is_byok") is not True:
        return cost
    details = usage.get("cost_details")
    bill = money(details.get("upstream_inference_cost")) if isinstance(details, dict) else None
    return cost if bill is None else (cost or 0.0) + bill


def money(value: Any) -> float | None:
    """US dollars; None for what is no price."""
    number = _number(value)
    return number if number is not None and 0 <= number < 1e6 else None


def _number(value: Any) -> float | None:
    """A number, also as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
