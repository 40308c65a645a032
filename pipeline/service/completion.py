"""The completion inside a body, in the dialects that are met. Never raises."""

from __future__ import annotations

from sys import intern
from typing import Any

from pipeline.model import Completion

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
    message = next(
        (choice[n] for n in ("message", "delta") if isinstance(choice.get(n), dict)), None
    )
    message = {"content": choice.get("text")} if message is None else message
    usage = value.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Completion(
        content=_text(message.get("content")),
        finish_reason=_word(choice.get("finish_reason")),
        native_finish_reason=_word(choice.get("native_finish_reason")),
        refusal=_string(message.get("refusal")),
        prompt_tokens=_count(usage.get("prompt_tokens", usage.get("input_tokens"))),
        completion_tokens=_count(usage.get("completion_tokens", usage.get("output_tokens"))),
        cost_usd=_cost(usage),
        served_model=_word(value.get("model")),
        provider=_word(provider),
        generation_id=_string(value.get("id")),
        reasoning=_reasoning(message),
    )


def _choice(value: dict[str, Any]) -> dict[str, Any] | None:
    """The first choice; of Ollama's and Cloudflare's own forms, what stands for one."""
    choices = value.get("choices")
    if isinstance(choices, list) and choices:
        return choices[0] if isinstance(choices[0], dict) else None
    if isinstance(value.get("message"), dict) and "content" in value["message"]:
        return {"message": value["message"], "finish_reason": value.get("done_reason")}
    if isinstance(value.get("response"), str):
        return {"text": value["response"], "finish_reason": value.get("done_reason")}
    return None


def _reasoning(message: dict[str, Any]) -> int:
    """Characters of reasoning in a field of its own (vLLM and DeepSeek, OpenRouter and Ollama)."""
    texts = (message.get(name) for name in ("reasoning_content", "reasoning"))
    return max((len(text) for text in texts if isinstance(text, str)), default=0)


def _text(content: Any) -> str:
    """`content` as text: a string, or the text parts of a list; reasoning parts do not count."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        content = [content]
    if isinstance(content, list):
        return "".join(
            part if isinstance(part, str) else part["text"]
            for part in content
            if isinstance(part, str)
            or (
                isinstance(part, dict)
                and part.get("type", "text") in ("text", "output_text")
                and isinstance(part.get("text"), str)
            )
        )
    return ""


def _string(value: Any) -> str | None:
    return value[:500] if isinstance(value, str) and value else None


def _word(value: Any) -> str | None:
    """A string that nearly every answer repeats: all of them share one."""
    text = _string(value)
    return None if text is None else intern(text)


def _count(value: Any) -> int | None:
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
