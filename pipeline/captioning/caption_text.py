"""A model's text as a caption: safe to store, without fences, quotes and blanks around it. Pure."""

from __future__ import annotations

import ast
import html
import json
import re
import string
from contextlib import suppress
from functools import partial

from pipeline.captioning.answer import answer_of
from pipeline.patterns import lazy

_FENCE = "```"
#: After an opening fence: its language, and the rest of its line where that is blank.
_LANGUAGE = lazy(r"[\w-]*[^\S\n]*\n?")
#: C0 and C1 controls but tab, newline and carriage return; and lone surrogates, which neither
#: UTF-8, SQLite nor Arrow can hold.
_UNSAFE = lazy("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
#: Of these, those that stand for a space.
_SPACES = str.maketrans(dict.fromkeys("\x0b\x0c\x1c\x1d\x1e\x1f\x85", " "))
_INVISIBLE = "\u00ad\u115f\u1160\u180e\u2800\u3164\ufeff\uffa0" + "".join(
    map(chr, [*range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070)])
)
#: What `str.isspace` says of any character.
_BLANK = string.whitespace + "\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000"
_BLANK += "".join(map(chr, range(0x2000, 0x200B)))
#: What is not seen at either end of a caption.
_EDGES = _BLANK + _INVISIBLE
_QUOTES = {'"': '"', "“": "”", "«": "»", "'": "'", "„": "“", "‘": "’", "「": "」"}
_QUOTES |= {"『": "』", "《": "》", "【": "】"}
#: Letters, digits and stops that a caption may end with as it is.
_END = frozenset(string.ascii_letters + string.digits + ".!?")
#: A letter that is none of the small ones: what a caption begins with, and the words of a label
#: or a mark of a picture mostly do not.
_CAPITAL = r"(?-i:[^\W\da-zß-öø-ÿ])"

#: Brackets around all of it.
_BRACKETS = lazy(rf"\({_CAPITAL}[^()]*\)|\[{_CAPITAL}[^\[\]]*\]|``[^`']+''")
#: What may stand before a caption that begins.
_OPENING = rf"(?=[\"“'*_]{{0,3}}{_CAPITAL})"
#: What the one thing is called that was asked for.
_NAME = (
    r"(?:(?:image|photo|picture|visual|scene|final|short|brief|concise|detailed|simple|suggested|generated|possible"
    r"|proposed|suitable|one[- ]sentence|alternative|english|main|revised)[ -]){0,3}"
    r"(?:(?:caption|description)(?: #?\d{1,3}| [A-D])?|alt[ -]text|answer)(?: (?:of|for) (?:the|this) (?:image|photo|picture))?"
)
_NAME_ELSEWHERE = (
    r"(?:bild)?beschreibung|bildunterschrift|l[ée]gende|description de l'image|descripci[oó]n|leyenda|descri[çc][aã]o|legenda"
    r"|didascalia|descrizione|bijschrift|beschrijving|beskrivelse|beskrivning|kuvaus|opis|popis|descriere|leírás|açıklama"
    r"|deskripsi|keterangan|mô tả|περιγραφή|описание|подпись|опис|الوصف|وصف|תיאור|विवरण|คำบรรยาย"
    r"|(?:图片|图像|圖片)?(?:描述|说明|說明|标题|標題)|キャプション|説明文?|タイトル|说明文|설명|캡션"
)
#: What models write before the only thing that was asked for, and what shows that there is more.
_LABEL = lazy(
    rf"(?:[^\w\s\"'“({{\[<]{{1,4}} )?(?:[*_]{{1,3}}|#{{1,6}} )?(?:{_NAME}|{_NAME_ELSEWHERE})"
    r"(?: ?[(\[][^()\[\]\n]{1,30}[)\]])?(?:[*_]{1,3})?"
    r"(?:[ \t]*[:：][ \t]*(?:[*_]{1,3})?[ \t]*(?:[|>][-+]?[ \t]*(?=\n))?\n{0,3}|(?<=[*_])[ \t]*\n\s*"
    rf"|[ \t]+[-–—][ \t]+{_OPENING}|[ \t]?=[ \t]?(?=[\"'“]))(?=[ \t]*\S)"
    # A heading of its own line.
    r"|#{1,6} [*_]{0,3}(?:image |photo |final )?(?:caption|description|answer)[*_]{0,3}[ \t]*\n\s*(?=\S)"
    # A role, a language, a kind: only before what begins like a caption.
    r"|(?:[*_#]{1,4} ?)?(?:assistant|(?:image|picture|photo)(?: #?\d{1,3})?|(?:output|response|result)|english|en"
    r"|(?:image |photo |short |suggested )?title|summary|scene|alt|option #?1(?!(?s:.)*?option #?2)|t[ií]tulo|titel|titre|titolo)"
    rf"(?:[*_]{{1,3}})?(?:[ \t]?[:：](?:[*_]{{1,3}})?\s{{1,3}}|[ \t]?=[ \t]?(?=[\"“])){_OPENING}"
    rf"|(?:[*_]{{1,3}})?(?:title|(?:image|picture|photo) #?\d{{1,3}})(?:[*_]{{1,3}})?[ \t][-–—][ \t]{_OPENING}"
    rf"|assistant\n+{_OPENING}|[\[(](?:english|en|(?:image|picture|photo) ?#?\d{{1,3}})[\])]:?\s{{1,3}}{_OPENING}"
    # The number or the bullet of the only entry.
    rf"|(?:[(\[]\d{{1,3}}[)\]]:?|\d{{1,3}}\)|#\d{{1,3}}[:.)]|\d{{1,2}}:|\d\.(?=\s\*))\s{{1,3}}{_OPENING}(?=[^\n]*\Z)"
    r"|(?:[-–—*•>→➤▪◦‣·»]|[=-]>)\s{1,3}(?=[\"“*_]{0,3}[^\W\d_][^\n]*\Z)",
    re.IGNORECASE,
)
_LABELLED = lazy(
    r"^[ \t]{0,8}(?:\*\*|[-*#]+ )?(?!note:|option )\w[\w ]{0,30}(?:\*\*)?:",
    re.MULTILINE | re.IGNORECASE,
)
_BOXED = lazy(
    r"(?:[^\n\\]{0,40}answer(?: is)?:?\s*)?(?:\$+|\\[\[(])?\s*\\(?:boxed|text|textbf|emph|caption)\{(?:\\text\{)?([^{}]+)\}{1,2}\s*(?:\$+|\\[\])])?\.?",
    re.IGNORECASE,
)
#: A picture in Markdown or HTML, of which the text is the caption.
_PICTURE = lazy(
    r"!\[(?P<markdown>[^\[\]]{2,2000})\]\([^()\s]{0,300}\)"
    r"|(?:<[^<>]{1,200}>\s*)*<img\b[^<>]*?\balt\s?=\s?(?P<quote>[\"'])(?P<alt>(?:(?!(?P=quote)).)+)(?P=quote)[^<>]*>(?:\s*</[^<>]{1,40}>)*",
    re.IGNORECASE | re.DOTALL,
)
#: Elements around all of the text; one of them alone; a call that has it as its argument; a table of it.
_AROUND = lazy(
    r"(?:<[a-z][\w:=-]{0,40}(?:\s[^<>]{0,300})?/?>\s*)+(?P<element>[^<>]+)(?:</[a-z][\w:-]{0,40}\s?>\s*)+"
    rf"|<(?:[a-z]+_)*(?:caption|grounding|description|answer|output)>\s*{_OPENING}(?P<opened>[^<>]+)"
    r"|(?P<closed>[^<>]+)</[a-z_]{2,30}>"
    r"|(?:return\s|[a-z_.]{1,30}\(\s*)\"(?P<argument>[^\"]+)\"\s*\)?;?"
    r"|\|[^|\n]{1,40}\|[ \t]*\n\|[ :-]{3,}\|[ \t]*\n\|(?P<cell>[^|\n]+)\|",
    re.IGNORECASE,
)
#: Rules before and behind a text, and fences of another kind.
_RULES = lazy(r"\A[-*_=~]{3,}[ \t]*\n|\n[ \t]*[-*_=~]{3,}[ \t]*\Z")
#: All of the text is emphasized.
_EMPHASIS = lazy(r"(\*{1,3}|_{1,3}|`|\"{3}|'{2,3})(?=\S)(.+)(?<=\S)\1", re.DOTALL)
#: The one fenced block of a text that says something around it.
_FENCED = lazy(r"(?:\A|\n)```[\w-]*[^\S\n]*\n(.*?)\n[^\S\n]*```", re.DOTALL)
#: Several captions to choose from: the first one is taken.
_OPTIONS = lazy(
    r"(?:[-*•] )?(?:[*#]{1,4} ?)?(?:option|version|caption) #?(?:1|one|a)\b[^:\n]{0,40}:(?:\*\*)?\s*(?P<first>.+?)"
    r"\n\s{0,20}(?:[-*•] )?(?:[*#]{1,4} ?)?(?:option|version|caption) #?(?:2|two|b)\b.*"
    r"|(?:[\w ]{1,20}[!,.] ?)?(?:here|below|these)\b[^\n:]{0,80}\b(?:options|captions|versions|suggestions|alternatives|descriptions)\b[^\n:]{0,60}:\s*\n\s*"
    r"1[.)] +(?P<one>.+?)\n\s{0,20}2[.)] .*",
    re.IGNORECASE | re.DOTALL,
)
#: What is said to the reader behind a caption: at its end, and looked for in so many characters.
_OFFERS = lazy(
    r"(?:\n\s*|(?<=[.!?\"”)]) )(?:(?:please )?let me know (?:if|whether|what)\b|(?:would|do) you (?:like|want)\b|feel free to\b"
    r"|i hope (?:this|that|it)\b|hope (?:this|that) helps|is there anything\b|if you(?:'d| would| need| have| want)\b)"
    r"[^\n.!?]{0,200}[.!?]?[^\w\n]{0,6}\Z"
    r"|\n\s*(?:[-*_]{3,}\s*\n\s*)?[(*_\[]{0,3}(?:note:|disclaimer:(?=[^\n]*\b(?:ai|generated|model)\b))[^\n]{0,300}\Z"
    r"|(?:\n\s*|(?<=[.!?\"”)]) )[(\[*_]{0,3}(?:word count:? ?\d{1,4}|\d{1,4} words)[)\]*_.]{0,4}\Z",
    re.IGNORECASE,
)
#: Marks of the end, and what a model goes on with that takes the reader's turn too.
_ENDED = lazy(
    r"(?<=[.!?\"”)])\s{0,4}(?:\[(?i:end|done|stop)(?i: of (?:caption|description|answer))?\]|#{2,6}|\n-{0,3} ?END\.?|\n(?i:user|human):)\Z"
    r"|(?<=[.!?\"”)])\n\s{0,9}(?:#{2,4} ?(?i:user|human|instruction)|USER|HUMAN|Human):(?s:.*)\Z"
)
_OFFER_CHARS = 320
#: The key of an object that holds nothing but the caption.
_CAPTION_KEYS = frozenset(
    {"caption", "description", "text", "answer", "response", "alt_text", "image_description"}
    | {
        "captions",
        "image_caption",
        "output",
        "result",
        "title",
        "alt",
        "final_answer",
        "final_caption",
    }
)
#: The key of an entry of which there is but one, and of a call what it is given.
_ENTRY = lazy(r"(?:image|img|picture|photo)?[ _-]?\d{1,3}", re.IGNORECASE)
_GIVEN = ("arguments", "parameters", "input")
#: JSON of a caption that was cut, or lacks its last brace.
_CUT = lazy(r'\{\s*"(?:caption|description)"\s*:\s*"((?:[^"\\]|\\.)*+)"?\s*', re.DOTALL)


def safe_text(text: str) -> str:
    """Text that every store can hold: no control characters, no lone surrogates."""
    if text.isprintable() or _UNSAFE.search(text) is None:
        return text
    return _UNSAFE.sub("", text.translate(_SPACES))


def clean_caption(content: str) -> str:
    """A model's text as a caption: no fence, no label, no quotes around all of it, nothing said to
    the reader behind it, nothing unseen around."""
    if (
        content.isascii()
        and content.isprintable()
        and content[:1].isalnum()
        and content[-1] in _END
        and not (_may_be_labelled(content) and _LABEL.match(content))
        and not _offers(content)
    ):
        return content  # most are: nothing here would change it
    text = safe_text(content).strip(_EDGES)
    for _ in range(_WRAPPERS):
        before, text = text, _unwrapped(text)
        if text == before:
            break
    return text


#: No label is longer.
_LABEL_CHARS = 60
#: So many wrappers may stand around each other.
_WRAPPERS = 4


def _may_be_labelled(content: str) -> bool:
    """May a text of ASCII that begins with a letter or a digit begin with a label?"""
    head = content[:_LABEL_CHARS]
    return ":" in head or " - " in head or head[:1].isdigit()


def _offers(text: str) -> re.Match[str] | None:
    """What is said to the reader at the end of a text."""
    tail = text[-_OFFER_CHARS:].lower()
    addressed = "you" in tail or "hope" in tail or "anything" in tail or "feel free" in tail
    if not (addressed or "note:" in tail or "disclaimer:" in tail or "word" in tail):
        return None
    return _OFFERS.search(text, max(1, len(text) - _OFFER_CHARS))


def _unwrapped(text: str) -> str:
    """The text without the outermost of what stands around it."""
    if (offer := _offers(text)) is not None:
        text = text[: offer.start()].strip(_EDGES)
    text = _RULES.sub("", text).strip(_EDGES)
    if (ended := _ENDED.search(text)) is not None:
        text = text[: ended.start()].strip(_EDGES) or text
    if text.startswith(_FENCE) and text.endswith(_FENCE) and len(text) >= 2 * len(_FENCE):
        inside = text[len(_FENCE) : -len(_FENCE)]
        language = _LANGUAGE.match(inside)
        text = inside[language.end() if language else 0 :].strip(_EDGES)
    elif _FENCE in text:
        text = _fenced(text) or text
    if text.startswith(("{", "[")) and (inside_json := _only_text(text)) is not None:
        text = safe_text(inside_json).strip(_EDGES)
    elif (boxed := _BOXED.fullmatch(text)) is not None:
        text = boxed[1].strip(_EDGES)
    elif (around := _PICTURE.fullmatch(text) or _AROUND.fullmatch(text)) is not None:
        named = around.groupdict()
        named.pop("quote", None)
        text = html.unescape(next(filter(None, named.values()), "")).strip(_EDGES)
    elif (options := _OPTIONS.fullmatch(text)) is not None:
        text = str(options["first"] or options["one"]).strip(_EDGES)
    elif (label := _LABEL.match(text)) is not None and not _LABELLED.search(text, label.end()):
        text = text[label.end() :].strip(_EDGES)
    text = text[:-1] if text[:1] == '"' and text.endswith('",') else text
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[0] not in text[1:-1]:
        text = text[1:-1].strip(_EDGES)
    elif _BRACKETS.fullmatch(text):
        text = text.strip("()[]`'" + _EDGES)
    elif (all_of_it := _EMPHASIS.fullmatch(text)) and all_of_it[1] not in all_of_it[2]:
        text = all_of_it[2].strip(_EDGES)
    return text


def _fenced(text: str) -> str | None:
    """The caption in the only fenced block of a text, where it is JSON; None for any other."""
    blocks = _FENCED.findall(text)
    return _only_text(blocks[0].strip(_EDGES)) if len(blocks) == 1 else None


def value_of(text: str) -> object:
    """JSON, or the same as Python writes it, which some models take for it; None for neither."""
    for read in (partial(json.loads, strict=False), ast.literal_eval):
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            return read(text)
    return None


def _only_text(text: str) -> str | None:
    """The text of JSON that holds one caption and nothing else, whatever is said behind it; None
    for any other."""
    value = value_of(text)
    if value is None and (cut := _CUT.fullmatch(text)) is not None:
        value = value_of(f'"{cut[1]}"')
    elif value is None:
        value = _first_value(text)
    while not isinstance(value, str):
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        elif isinstance(value, dict) and "name" in value and (given := value.keys() & _GIVEN):
            value = value[given.pop()] if len(value) == 2 else None
        elif isinstance(value, dict):
            texts = {name: inner for name, inner in value.items() if name.lower() != "image"}
            name = next(iter(texts), "").lower()
            if len(texts) != 1 or not (name in _CAPTION_KEYS or _ENTRY.fullmatch(name)):
                return None
            value = next(iter(texts.values()))
        else:
            return None
    return value if value.strip() else None


def _first_value(text: str) -> object:
    """The JSON that a text begins with, where nothing but words follow it; None for any other."""
    with suppress(ValueError, RecursionError):
        value, end = json.JSONDecoder(strict=False).raw_decode(text)
        return None if set("{}[]") & set(text[end:]) else value
    return None


def caption_of(content: str) -> str:
    """The caption in a model's whole text, without thoughts and wrappers."""
    caption = clean_caption(answer_of(content).text)
    if caption == content:
        return caption
    # A wrapper may have held another one.
    return clean_caption(answer_of(caption).text)
