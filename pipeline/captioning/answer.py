"""The answer inside a model's text: without its thoughts and the marks that stand around it. Pure.

A server that has no parser for its model's marks, or the wrong one, hands them on as text. What
is taken off here is never part of a caption: thoughts before the answer, control tokens, and an
opening that only announces it. The text as it came stays in `caption_raw`.
"""

from __future__ import annotations

import json
import re

from pipeline.patterns import lazy
from pipeline.values import dataclass

#: Names of elements that hold thoughts.
_THOUGHTS = (
    r"(?:(?:[a-z]{1,12}[:_])?think(?:ing)?|(?:inner_)?thoughts?|reason(?:ing)?|reflection|scratchpad"
    r"|analysis|antthinking)"
)
_OPENING = rf"(?:<{_THOUGHTS}\s?>|<details[^>]{{0,60}}>\s{{0,9}}<summary>(?=\s?(?:thought|thinking|reason))|<\|thought\|>|\[THINK\]|◁think▷|<\|(?:START_THINKING|begin_of_thought|inner_prefix|thinking)\|>|<\|channel>|<unused94>)"
_CLOSING = rf"(?:</{_THOUGHTS}\s?>|</details>|<\|/thought\|>|\[/THINK\]|◁/think▷|<\|(?:END_THINKING|end_of_thought|inner_suffix)\|>|<\|/thinking\|>|<unused95>|<channel\|>)"
_OPENS = lazy(rf"\s*{_OPENING}", re.IGNORECASE)
#: A mark in quotes is something that is seen in a picture.
_CLOSES = lazy(rf"(?<![\"'`“‘«]){_CLOSING}|{_CLOSING}(?![\"'`”’»])", re.IGNORECASE)
#: Channels of gpt-oss: `<|channel|>analysis<|message|>`, then `final`.
_CHANNEL = lazy(r"<\|channel\|>\s*(\w++)[^<]*<\|message\|>", re.IGNORECASE)
#: The same where the control tokens were taken off.
_PLAIN_CHANNELS = lazy(r"analysis\S.*?assistant\s?final(?=[\s\W]|[A-Z])", re.DOTALL)
#: A rule between thoughts and answer.
_RULE = lazy(r"\s*[-*_]{3,}[ \t]*\n")
#: Marks around an answer, of which the inside is the answer.
_WRAPPED = lazy(
    r"\s*(?:<(?P<name>(?:final_)?answer|caption|description|output|response)>(?P<inside>.*?)(?:</(?P=name)>|\Z)"
    r"|<\|START_RESPONSE\|>(?P<response>.*?)(?:<\|END_RESPONSE\|>|\Z)"
    r"|<\|begin_of_solution\|>(?P<solution>.*?)(?:<\|end_of_solution\|>|\Z))\s*",
    re.IGNORECASE | re.DOTALL,
)
_BOX = lazy(r"<\|(?:begin|end)_of_box\|>")
#: Control tokens that stand at either end.
_CONTROL = (
    r"(?:<\|(?:im_start|im_end|endoftext|end|eot_id|eom_id|return|start|end_of_text"
    r"|END_OF_TURN_TOKEN|start_header_id|end_header_id|message|eos|assistant|user|observation"
    r"|endofassistant)\|>|\[\|endofturn\|\]"
    r"|</?s>|<eos>|<bos>|<end_of_turn>|<start_of_turn>|<end_of_utterance>|<｜end▁of▁sentence｜>"
    r"|<turn\|>|<\|turn>|\[EOS\]|\[/INST\])"
)
_LEADING = lazy(rf"(?:\s*{_CONTROL}(?:(?:assistant|model)(?=[\s<]))?)+\s*", re.IGNORECASE)
_TRAILING = lazy(rf"{_CONTROL}\Z", re.IGNORECASE)
#: No control token has more characters.
_LONGEST_CONTROL = 32
#: "Sure! Here is a caption for the image:" and what it announces.
_AGREES = r"(?:sure(?: thing)?|certainly|of course|absolutely|okay|ok|gladly|understood|got it)"
_NAMES_IT = (
    r"[^\n:]{0,80}\b(?:captions?|descriptions?|alt[ -]?text|summary|json|answer)\b[^\n:]{0,60}"
)
_ANNOUNCES = lazy(
    rf"\s*(?:{_AGREES}[!.,]*\s+)?(?:(?:here(?:'s|’s| is| are)|below is|this is)\b{_NAMES_IT}):\s+"
    rf"|\s*{_AGREES}[!.,]*\s+here(?:'s|’s| is| are)\b[^\n:]{{0,120}}:\s*\n\s*"
    rf"|\s*{_AGREES}[!.]\s*\n\s*",
    re.IGNORECASE,
)
#: Without one of these, `<` or `◁` there is nothing to take off but an opening.
_BRACKETED = lazy(r"\[/?(?:THINK|EOS|INST)\]|\[\|endofturn", re.IGNORECASE)
_OPENING_LETTERS = frozenset("scoaghbutSCOAGHBUT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a text comes to."""

    text: str
    #: It ends within the model's thoughts.
    unfinished: bool = False


def answer_of(content: str) -> Answer:
    """The answer in a model's text. Never raises."""
    # Two searches for a character take a hundredth of the time of one pattern for all.
    plain = "<" not in content and "◁" not in content and not content.startswith("analysis")
    if plain and _BRACKETED.search(content) is None:
        return Answer(text=_unannounced(content))
    if content.lstrip()[:1] in ("{", "[") and _is_json(content):
        return Answer(text=content)  # what its strings hold is for the caption to say
    text = _after_thoughts(content)
    if text is None:
        return Answer(text="", unfinished=True)
    text = _BOX.sub("", text)
    text = _LEADING.sub("", text, count=1) if _LEADING.match(text) else text
    text = _without_trailing(text)
    if (wrapped := _WRAPPED.fullmatch(text)) is not None:
        names = ("inside", "response", "solution")
        text = next(inside for name in names if (inside := wrapped[name]) is not None)
    return Answer(text=_unannounced(text))


def _after_thoughts(text: str) -> str | None:
    """What follows the thoughts; None when they do not end."""
    if channels := list(_CHANNEL.finditer(text)):
        last = channels[-1]
        if last[1].lower() != "final":
            return None
        return text[last.end() :]
    if (plain := _PLAIN_CHANNELS.match(text)) is not None:
        return text[plain.end() :]
    opened = _OPENS.match(text) is not None
    closed = list(_CLOSES.finditer(text))
    if not closed:
        return None if opened else text
    rest = text[closed[-1].end() :]
    # A further thought that was begun after the last one that ended.
    if _OPENS.match(rest):
        return None
    rule = _RULE.match(rest)
    return rest[rule.end() :] if rule else rest


def _without_trailing(text: str) -> str:
    """The text without control tokens at its end, taken off from there: a pattern that is looked
    for from the start takes the square of a run of blanks, which models are known to write."""
    end, cut = len(text), False
    while True:
        while end and text[end - 1].isspace():
            end -= 1
        last = _TRAILING.search(text, max(0, end - _LONGEST_CONTROL), end)
        if last is None:
            return text[:end] if cut else text
        end, cut = last.start(), True


def _unannounced(text: str) -> str:
    """The text without an opening that announces it, where something follows."""
    if text.lstrip()[:1] not in _OPENING_LETTERS:
        return text
    opening = _ANNOUNCES.match(text)
    return text[opening.end() :] if opening and text[opening.end() :].strip() else text


def _is_json(text: str) -> bool:
    try:
        json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return False
    return True
