"""Are packed captions as good as single ones? A share of packed images is asked again alone.

Which ones is decided by a hash of the key, so that every run and every machine audits the same
images. Two captions are compared by their words and their lengths; no model judges. A model
rarely says the same twice, so packed-against-single means little without single-against-single:
`compare` sets one beside the other. Captions that changed places show in another way
(`misplaced`): the single caption is more like a neighbour's packed caption than like its own.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: A neighbour's caption must agree better by so much before an image's own is called misplaced.
CLEARLY = 0.15
#: Packed is called worse if its mean agreement is lower by more than this and by two standard
#: errors, so that chance alone rarely says so.
WORSE_BY = 0.05
_STEPS = 1 << 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How alike two captions of one image are."""

    #: F1 of shared words, 0 … 1.
    overlap: float
    #: Words of the first for each word of the second.
    length: float


def chosen(key: str, share: float) -> bool:
    """Is the image with this key (32 hex) audited? About `share` of all keys are."""
    # The last digits: the first ones order the parts and shards elsewhere.
    return int(key[-8:], 16) < share * _STEPS


def words_of(caption: str) -> list[str]:
    """The words of a caption, alike in case and form; each character of scripts that write no
    spaces counts as one."""
    tokens: list[str] = []
    word = ""
    for char in unicodedata.normalize("NFKC", caption).casefold():
        if _stands_alone(char):
            tokens += [word, char]
            word = ""
        elif char.isalnum() or unicodedata.category(char).startswith("M"):
            word += char
        else:
            tokens.append(word)
            word = ""
    return [token for token in (*tokens, word) if token]


def _stands_alone(char: str) -> bool:
    """Chinese and Japanese characters, Thai, Lao, Khmer and Burmese letters."""
    code = ord(char)
    if code < 0x0E00:
        return False
    return (
        0x3040 <= code <= 0x30FF
        or 0x3400 <= code <= 0x9FFF
        or 0x20000 <= code <= 0x323AF
        or (0x0E00 <= code <= 0x0EFF or 0x1000 <= code <= 0x109F or 0x1780 <= code <= 0x17FF)
    )


def agreement(caption: str, other: str) -> Agreement:
    """Compare two captions of one image."""
    first, second = words_of(caption), words_of(other)
    if not first or not second:
        alike = not first and not second
        return Agreement(overlap=float(alike), length=1.0 if alike else 0.0)
    return Agreement(
        overlap=_overlap(Counter(first), Counter(second)), length=len(first) / len(second)
    )


def misplaced(single: str, own: str, others: Iterable[str]) -> bool:
    """Does the packed caption of a neighbour fit this image clearly better than its own?

    single: the caption when asked alone; own: its packed caption; others: of the same pack.
    Words that most captions of the pack share (`a photo of a`) tell no image from another and do
    not count.
    """
    packed = [words_of(text) for text in (own, *others)]
    seen = Counter(word for tokens in packed for word in set(tokens))
    telling = {word for word, count in seen.items() if 2 * count <= len(packed)}
    alone = _only(telling, words_of(single))
    fits, *rest = (_overlap(alone, _only(telling, tokens)) for tokens in packed)
    return any(fit > fits + CLEARLY for fit in rest)


def _only(telling: set[str], tokens: Iterable[str]) -> Counter[str]:
    return Counter(word for word in tokens if word in telling)


def _overlap(counts: Counter[str], other: Counter[str]) -> float:
    """F1 of shared words; nothing in common with nothing is 0."""
    every = counts.total() + other.total()
    return 2 * (counts & other).total() / every if every else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Many agreements in a few numbers."""

    pairs: int = 0
    #: Mean overlap, and its standard error.
    mean: float = 0.0
    error: float = 0.0
    #: Median length ratio.
    length: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Packed against single, beside single against single."""

    packed: Summary
    single: Summary
    #: Audited captions that fit a neighbour's image better.
    misplaced: int
    #: Packed agrees with single clearly less than single with single, or captions are misplaced.
    worse: bool

    def message(self) -> str:
        """One line for the terminal."""
        packed, single = self.packed, self.single
        line = (
            f"{packed.pairs} packed captions asked again alone: agreement {packed.mean:.2f}, "
            f"length {packed.length:.2f}"
        )
        if single.pairs:
            line += f" (single against single: {single.mean:.2f}, {single.length:.2f})"
        if self.misplaced:
            line += f"; {self.misplaced} of them fit another image of their pack better"
        if self.worse:
            line += "; packed is worse than single: use smaller packs"
        return line


def compare(
    packed: Sequence[Agreement], single: Sequence[Agreement] = (), *, misplaced: int = 0
) -> Compared:
    """Sum up an audit. single: of images asked alone twice; may be empty."""
    first, second = summed(packed), summed(single)
    gap = second.mean - first.mean
    doubt = 2 * math.hypot(first.error, second.error)
    lower = first.pairs > 1 and second.pairs > 1 and gap > max(WORSE_BY, doubt)
    return Compared(packed=first, single=second, misplaced=misplaced, worse=lower or misplaced > 0)


def summed(pairs: Sequence[Agreement]) -> Summary:
    """The few numbers of many agreements."""
    count = len(pairs)
    if not count:
        return Summary()
    mean = math.fsum(pair.overlap for pair in pairs) / count
    spread = math.fsum((pair.overlap - mean) ** 2 for pair in pairs)
    error = math.sqrt(spread / (count - 1) / count) if count > 1 else 0.0
    length = sorted(pair.length for pair in pairs)[count // 2]
    return Summary(pairs=count, mean=mean, error=error, length=length)
