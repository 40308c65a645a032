"""The answer inside a model's text: without its thoughts and the marks that stand around it. Pure.

A server that has no parser for its model's marks, or the wrong one, hands them on as text. What
is taken off here is never part of a caption: thoughts before the answer, control tokens, and an
opening that only announces it. The text as it came stays in `caption_raw`.
"""

from __future__ import annotations

import html
import json
import re
from functools import lru_cache

from pipeline.patterns import lazy
from pipeline.values import dataclass

#: Names of elements that hold thoughts, with what stands before and after the word.
_THOUGHTS = (
    r"(?:[a-z]{1,12}[:_-])?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflect(?:ion)?|scratchpad"
    r"|analysis|antthinking|cot|chain[_ -]of[_ -]thoughts?|ponder(?:ing)?|plan(?:ning)?|deliberation"
    r"|monologue|rationale|brainstorm(?:ing)?|critique|draft)(?:[:_-][a-z_]{1,30})?"
)
_OPENING = rf"(?:<{_THOUGHTS}(?:\s[^<>]{{0,80}})?>|<details[^>]{{0,60}}>\s{{0,9}}<summary>(?=\s?(?:thought|thinking|reason))|<\|thought\|>|\[THINK\]|◁think▷|<\|(?:START_THINKING|begin_of_thought|inner_prefix|thinking)\|>|<\|channel>|<unused94>)"
_CLOSING = rf"(?:</{_THOUGHTS}\s?>|</details>|<\|/thought\|>|\[/THINK\]|◁/think▷|<\|(?:END_THINKING|end_of_thought|inner_suffix)\|>|<\|/thinking\|>|<unused95>|<channel\|>)"
_OPENS = lazy(rf"\s*{_OPENING}", re.IGNORECASE)
#: A mark in quotes is something that is seen in a picture.
_CLOSES = lazy(rf"(?<![\"'`“‘«]){_CLOSING}|{_CLOSING}(?![\"'`”’»])", re.IGNORECASE)
#: What follows thoughts that nothing opened, and not a mark that the answer itself is about.
_FOLLOWS = lazy(r"\s*\n|\s*[^\w\s]{0,3}[^\W\da-zß-öø-ÿ]|\w|\s*[<{\[]")
#: Thoughts under headings or labels of their own, before the answer under another.
_LABELLED = lazy(
    r"\s*[*#]{0,4}\s?(?:reasoning|thinking|thoughts?|thought process|(?:visual )?analysis|observations?|(?:key |visual )?(?:details|elements)|approach|step 1)\s?\*{0,2}\s?(?::|\n)"
    r".{0,20000}?\n[*#]{0,4}\s?(?:final |image )?(?:caption|answer|description)\s?\*{0,2}\s?(?::|\n)\**"
    r"|\s*Thinking\.\.\.\n.{0,20000}?\n\.\.\.done thinking\.",
    re.IGNORECASE | re.DOTALL,
)
#: Channels of gpt-oss: `<|channel|>analysis<|message|>`, then `final`.
_CHANNEL = lazy(
    r"<\|channel\|>\s*(\w++)[^<]{0,80}(?:<\|constrain\|>[^<]{0,80})?<\|message\|>", re.IGNORECASE
)
#: The same where the control tokens were taken off.
_PLAIN_CHANNELS = lazy(r"analysis\S.*?assistant\s?final(?=[\s\W]|[A-Z])", re.DOTALL)
#: A rule between thoughts and answer.
_RULE = lazy(r"\s*[-*_]{3,}[ \t]*\n")
#: Marks around an answer, of which the inside is the answer; what is said behind it is not.
_WRAPPED = lazy(
    r"\s*(?:<(?P<name>(?:final_?|image_)?(?:answer|caption|description|output|response|conclusion|result)"
    r")>(?P<inside>.*?)(?:</(?P=name)>\s*(?:\Z|\n.*)|\Z)"
    r"|<(?P<tag>final|summary|text|assistant|ai|o|p|alt(?:_text)?|content)>(?P<element>.*?)</(?P=tag)>\s*(?:\Z|\n.*)"
    r"|<\|START_RESPONSE\|>(?P<response>.*?)(?:<\|END_RESPONSE\|>|\Z)"
    r"|<\|begin_of_solution\|>(?P<solution>.*?)(?:<\|end_of_solution\|>|\Z))\s*",
    re.IGNORECASE | re.DOTALL,
)
_BOX = lazy(r"<\|(?:begin|end)_of_box\|>")
#: Control tokens that stand at either end.
_CONTROL = (
    r"(?:<[|｜]/?[\w▁ .:-]{1,30}[|｜]>|<\|\w{1,30}>|<\w{1,30}\|>|\[\|endofturn\|\]|</?s>|<(?:eos|bos|pad|unk|end|eot)>"
    r"|<(?:end_of_turn|start_of_turn|end_of_utterance)>|<0x[0-9A-F]{2}>|\[/?INST\]|\[(?:BOS|EOS|PAD)\])"
)
_LEADING = lazy(
    rf"(?:\s*(?:{_CONTROL}|<image>)(?:(?:assistant|model)(?=[\s<]))?)+\s*|\s*/(?:no_)?think\s",
    re.IGNORECASE,
)
_TRAILING = lazy(rf"{_CONTROL}\Z", re.IGNORECASE)
#: The end of the model's turn, when it went on and wrote the next one.
_NEXT_TURN = lazy(
    r"(?:<\|(?:im_end|eot_id|end|endoftext|return|end_of_text)\|>|</s>|<end_of_turn>|<turn\|>"
    r"|<｜end▁of▁sentence｜>)\s*(?=\n|<)",
    re.IGNORECASE,
)
#: No control token has more characters.
_LONGEST_CONTROL = 36
#: "Sure! Here is a caption for the image:" and what it announces.
_AGREES = r"(?:sure(?: thing)?|certainly|of course|absolutely|okay|ok|gladly|understood|got it|¡?claro|bien sûr|natürlich|gerne)"
_NAMES = r"(?:captions?|descriptions?|alt[ -]?text|summary|json|answer)"
_NAMES_IT = rf"[^\n:]{{0,80}}\b{_NAMES}\b[^\n:]{{0,60}}"
_KIND = r"(?:suitable|possible|good|short|brief|concise|detailed|simple|fitting|great|suggested|appropriate|descriptive|factual|one-sentence|final|image|photo)"
_BEGINS = r"(?=[\"“*_]{0,3}(?-i:[^\W\da-zß-öø-ÿ]))"
_ANNOUNCES = lazy(
    rf"\s*(?:{_AGREES}[!.,]*\s+)?(?:[^\n:.!?]{{0,60}}, )?(?:(?:here(?:'s|’s| is| are)|below is|this is|the following is)\b{_NAMES_IT}):\s++(?!1[.)]\s)"
    rf"|\s*{_AGREES}[!.,]*\s+here(?:'s|’s| is| are| you go)\b[^\n:]{{0,120}}:\s*\n\s*+(?!1[.)]\s)"
    rf"|\s*{_AGREES}[!.]\s*\n\s*|\s*{_AGREES}[!.]\s+(?!here\b){_BEGINS}|\s*here you go[^\n:]{{0,40}}:\s*"
    rf"|\s*(?:[^\n:.!?]{{0,60}}, )?(?:an?|the|one|my)(?: {_KIND})* {_NAMES}(?: (?:for|of) (?:this|the|your) (?:image|photo|picture|photograph|scene))?"
    r"(?: (?:is|(?:could|would|might|may|can) be|reads))?:\s+"
    r"|\s*(?:this|the) (?:image|photo|picture) (?:can|could|may|might) be (?:captioned|described)(?: as)?:?\s+(?=[\"“])"
    rf"|\s*(?:this|the) (?:image|photo|picture) (?:can be (?:captioned|described) as(?: follows)?|shows the following):\s+{_BEGINS}"
    rf"|\s*i(?:['’]d|['’]ll| would| will| can)? (?:caption|describe|title|call|suggest)\b[^\n:.!?]{{0,60}}:\s+{_BEGINS}|\s*i (?:can )?see:\s+{_BEGINS}"
    rf"|\s*(?:let me (?:look|see|take|describe|analy[sz]e)\b|thank(?:s| you) for\b)[^\n.!:]{{0,60}}[.!:]\s+{_BEGINS}"
    rf"|\s*(?:(?:great|nice|lovely|beautiful|wonderful)|what an? \w+) (?:photo|image|picture|shot)!\s+{_BEGINS}"
    rf"|\s*(?:{_AGREES}[!.,]*\s+)?(?:voici|hier (?:ist|sind|kommt)|aqu[ií]|ecco|вот|以下|下面|这是|次は|다음은)[^\n:：]{{0,80}}[:：]\s*",
    re.IGNORECASE,
)
#: Without one of these, `<` or `◁` there is nothing to take off but an opening. Two patterns: one that
#: begins with one character is looked for in a tenth of the time of one that may begin with several.
_BRACKETED = lazy(r"\[(?:/?(?:THINK|EOS|BOS|PAD|INST)\]|\|endofturn)", re.IGNORECASE)
_BEGUN = lazy(
    r"\s*[*#/]{0,4} ?(?:no_)?(?:reasoning|think|thought|analysis\S)",
    re.IGNORECASE,
)
_OPENING_STOPS = lazy(r"[:：!\n]")
#: The same without a stop of these; and labels of thoughts in no brackets. In small letters.
_OPENING_WORDS = (
    "sure.",
    "certainly.",
    "of course.",
    "absolutely.",
    "okay.",
    "ok.",
    "gladly.",
    "understood.",
    "got it.",
    "let me ",
    "thank",
)
_THOUGHT_WORDS = (
    "visual analysis",
    "analysis",
    "observation",
    "key details",
    "key elements",
    "visual details",
    "visual elements",
    "details",
    "elements",
    "approach",
    "step 1",
)
_OPENING_LETTERS = frozenset("scoaghbutmnveilwSCOAGHBUTMNVEILW¡в以下这次다")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a text comes to."""

    text: str
    #: It ends within the model's thoughts.
    unfinished: bool = False


@lru_cache(maxsize=1)  # asked for twice in a row: whether it is finished, and what it is
def answer_of(content: str) -> Answer:
    """The answer in a model's text. Never raises."""
    if content.startswith(("&lt;", "&quot;", "&#34;", "&#39;", "&ldquo;", "&apos;")):
        content = html.unescape(content)
    # Two searches for a character take a hundredth of the time of one pattern for all.
    plain = "<" not in content and "◁" not in content and _BRACKETED.search(content) is None
    begun = content[:30].lstrip(" *#\n").lower()
    if plain and not begun.startswith(_THOUGHT_WORDS) and _BEGUN.match(content) is None:
        return Answer(text=_unannounced(content))
    if content.lstrip()[:1] in ("{", "[") and _is_json(content):
        return Answer(text=content)  # what its strings hold is for the caption to say
    text = _after_thoughts(content)
    if text is None:
        return Answer(text="", unfinished=True)
    text = _BOX.sub("", text)
    text = _LEADING.sub("", text, count=1) if _LEADING.match(text) else text
    if (turn := _NEXT_TURN.search(text)) is not None and text[: turn.start()].strip():
        text = text[: turn.start()]
    text = _without_trailing(text)
    if (wrapped := _WRAPPED.fullmatch(text)) is not None:
        names = ("inside", "element", "response", "solution")
        text = next(inside for name in names if (inside := wrapped[name]) is not None).strip()
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
    if (labelled := _LABELLED.match(text)) is not None and text[labelled.end() :].strip():
        return text[labelled.end() :]
    opened = _OPENS.match(text) is not None
    closed = [mark for mark in _CLOSES.finditer(text) if opened or _FOLLOWS.match(text, mark.end())]
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
    begun = text[:16].lstrip().lower().startswith(_OPENING_WORDS)
    if not begun and not _OPENING_STOPS.search(text, 0, 300):
        return text
    opening = _ANNOUNCES.match(text)
    return text[opening.end() :] if opening and text[opening.end() :].strip() else text


def _is_json(text: str) -> bool:
    try:
        json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return False
    return True
