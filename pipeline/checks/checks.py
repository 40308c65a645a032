"""What is wrong with a caption: one pure function a check, and a table of them.

Each looks at the words that real models write. Cheap tests come first, since this runs for every
caption; none needs more than the caption, how its answer ended, and what was asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

from pipeline.checks import phrases
from pipeline.checks.language import wrong_language
from pipeline.checks.settings import ChecksSettings
from pipeline.patterns import lazy

#: Characters at either end of a caption that are looked at: checks take some 2 µs a character.
LOOKED_AT = 10_000
#: Words of the prompt in a row that are no accident.
LEAK_WORDS = 6
#: Longest phrase, in words, that is looked for over and over.
_PHRASE = 8

_WORD = lazy(r"\w+(?:['’-]\w+)*")
_HALF_WORDS = lazy(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003ffff]")
#: ASCII punctuation as blanks.
_BLANKS = {code: " " for code in range(128) if not (chr(code).isalnum() or code == ord("_"))}
#: ASCII in lower case, punctuation as blanks: of bytes in a third of the time that text takes.
_PIECES = bytes(ord(_BLANKS.get(code, chr(code).lower())) for code in range(128)) + bytes(128)


class Subject:
    """A caption as checks see it."""

    __slots__ = ("_length", "_tokens", "ascii", "caption", "cut", "pieces")

    def __init__(self, caption: str, *, cut: bool = False) -> None:
        """cut: at the model's limit."""
        self.caption, self.cut, self.ascii = caption, cut, caption.isascii()
        #: In lower case, without ASCII punctuation, joined words apart: enough to tell that most
        #: captions pass, in a quarter of the time that `tokens` takes.
        self.pieces = (
            caption.encode().translate(_PIECES).decode().split()
            if self.ascii
            else caption.lower().translate(_BLANKS).split()
        )
        self._tokens: list[str] | None = None
        self._length: float | None = None

    def lacks(self, marking: frozenset[str]) -> bool:
        """Is none of these in it, for certain? Unknown where it has other than ASCII letters."""
        return self.ascii and marking.isdisjoint(self.pieces)

    @property
    def tokens(self) -> list[str]:
        """Its words in lower case."""
        if self._tokens is None:
            self._tokens = _WORD.findall(self.caption.lower())
        return self._tokens

    @property
    def length(self) -> float:
        """Its length in words; in scripts without blanks two characters are one."""
        if self._length is None:
            dense = 0 if self.ascii else len(_HALF_WORDS.findall(self.caption))
            plain = _WORD.findall(_HALF_WORDS.sub(" ", self.caption)) if dense else ()
            self._length = dense / 2 + len(plain) if dense else len(self.caption.split())
        return self._length


def truncated(subject: Subject) -> bool:
    """Cut at the limit; or, of a text with sentences, the last one has no end."""
    if subject.cut:
        return True
    text = subject.caption
    if text[-1:] in ".!?" and text[-2:] != "..":
        return False  # most captions
    if phrases.ENDS.search(text, max(0, len(text) - 8)):
        return text.rstrip().endswith(("...", "…")) and len(subject.tokens) > 8
    if phrases.HANGING.search(text, max(0, len(text) - 16)):
        return True
    # Short labels have no full stop; after a whole sentence a last one without it was cut.
    return phrases.SENTENCE.search(text) is not None and subject.length > (
        12 if subject.ascii else 8
    )


def refusal(subject: Subject) -> bool:
    """The model says that it cannot or will not, in place of a caption."""
    if subject.ascii and phrases.REFUSAL_WORDS.isdisjoint(subject.pieces[:1]):
        return False  # most captions
    return phrases.REFUSAL.match(subject.caption) is not None


def boilerplate(subject: Subject) -> bool:
    """An opening that says that there is a picture, not what is in it."""
    if subject.ascii and phrases.OPENING_WORDS.isdisjoint(subject.pieces[: phrases.OPENING_LENGTH]):
        return False  # most captions
    return phrases.BOILERPLATE.match(subject.caption) is not None


def repetition(subject: Subject, share: float) -> bool:
    """A phrase follows on itself over and over, or a text has hardly a new word or sentence."""
    pieces = subject.pieces
    count = len(pieces) - subject.caption.count("-") - subject.caption.count("'")  # of its tokens
    if len(pieces) - len(set(pieces)) < share / 2 * count and len(pieces) < 60:
        return False  # most captions
    if count > 6 and subject.ascii:
        # What follows finds at least so many pairs of pieces that come again.
        least = min(max(3, share * count / 2) - 1, share * (count - 3))
        if len(pieces) - 1 - len(set(pairwise(pieces))) < least:
            return False
    texts = subject.tokens
    if len(texts) < 6:
        return len(texts) > 2 and len(set(texts)) == 1
    repeated = 0
    for size in range(1, _PHRASE + 1):
        same = [
            texts[at : at + size] == texts[at + size : at + 2 * size]
            for at in range(len(texts) - 2 * size + 1)
        ]
        repeated = max(repeated, _longest(same))
    if repeated >= max(3, share * len(texts) / 2) and repeated > 2:
        return True
    phrases = list(zip(*(texts[at:] for at in range(4)), strict=False))
    return 1 - len(set(phrases)) / max(1, len(phrases)) >= share


def _longest(flags: list[bool]) -> int:
    longest = run = 0
    for flag in flags:
        run = run + 1 if flag else 0
        longest = max(longest, run)
    return longest


def leaked_prompt(
    subject: Subject, grams: frozenset[tuple[str, ...]], marking: frozenset[str]
) -> bool:
    """So many words of the prompt in a row. marking: see `_marking`."""
    if subject.lacks(marking):
        return False  # most captions
    return not grams.isdisjoint(_grams(subject.tokens))


def _grams(texts: list[str]) -> Iterable[tuple[str, ...]]:
    return zip(*(texts[at:] for at in range(LEAK_WORDS)), strict=False)


def _marking(grams: Iterable[tuple[str, ...]]) -> frozenset[str]:
    """Words of which one is in each of these: the longest, which is rare in captions."""
    parts = [
        [part for token in gram for part in token.translate(_BLANKS).split()] for gram in grams
    ]
    return frozenset(max(gram, key=lambda part: (part != "image", len(part))) for gram in parts)


def instructions(subject: Subject) -> bool:
    """An address, or words to a model or a reader instead of about the picture."""
    if subject.lacks(phrases.INSTRUCTION_WORDS) and phrases.ADDRESS.search(subject.caption) is None:
        return False  # most captions
    return phrases.INSTRUCTIONS.search(subject.caption) is not None


def markdown(subject: Subject) -> bool:
    """Marks of a formatted text."""
    text = subject.caption
    if phrases.MARKS.search(text) is None and not text.lstrip().startswith(("-", "+")):
        return False  # most captions
    return phrases.MARKDOWN.search(text) is not None


class Checks:
    """The checks of a job, compiled. Immutable."""

    def __init__(self, settings: ChecksSettings, prompts: Iterable[str]) -> None:
        """prompts: what answers must not repeat: prompt template, system, the pack's instruction."""
        grams = frozenset(gram for text in prompts for gram in _grams(_WORD.findall(text.lower())))
        marking = _marking(grams)
        share, short, long = (
            settings.repetition.share,
            settings.too_short.min_words,
            settings.too_long.max_words,
        )
        languages = frozenset(settings.language.languages)
        #: Name -> does it hold of a caption?
        table: dict[str, Callable[[Subject], bool]] = {
            "truncated": truncated,
            "refusal": refusal,
            "boilerplate": boilerplate,
            "repetition": lambda subject: repetition(subject, share),
            "too_short": lambda subject: subject.length < short,
            "too_long": lambda subject: subject.length > long,
            "language": lambda subject: wrong_language(subject.caption, languages),
            "leaked_prompt": lambda subject: leaked_prompt(subject, grams, marking),
            "instructions": instructions,
            "markdown": markdown,
        }
        self.actions = settings.actions
        #: Without `same_caption`, which `commands/recheck.py` looks for over all captions.
        self.table = {name: check for name, check in table.items() if name in self.actions}

    def of(self, caption: str, *, cut: bool = False) -> tuple[str, ...]:
        """The names of the checks that a caption does not pass. Of a very long one its beginning and
        its end are looked at."""
        if len(caption) > 2 * LOOKED_AT:
            caption = f"{caption[:LOOKED_AT]} {caption[-LOOKED_AT:]}"
        subject = Subject(caption, cut=cut)
        return tuple([name for name, check in self.table.items() if check(subject)])
