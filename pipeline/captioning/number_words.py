"""Numbers as models write them beside images: "second", "②", "第二张", as digits. Pure.

    Second image: A cat.    The 2nd image shows: A cat.    Image two: A cat.    ② A cat.    第二张图片：A cat.

All of these say `Image 2` or `2.`; digits of any script are digits already.
"""

from __future__ import annotations

import re
import unicodedata

from pipeline.patterns import lazy

#: From one on; the words of an entry mean the same.
_COUNTED = (
    "one first erste premier première primera primo prima", "two second zweite deuxième segunda seconda",
    "three third dritte troisième tercera terza", "four fourth vierte quatrième cuarta quarta",
    "five fifth fünfte cinquième quinta", "six sixth sechste sixième sexta sesta",
    "seven seventh siebte septième séptima settima", "eight eighth achte huitième octava ottava",
    "nine ninth neunte neuvième novena nona", "ten tenth zehnte dixième décima decima",
    "eleven eleventh elfte", "twelve twelfth zwölfte", "thirteen thirteenth", "fourteen fourteenth",
    "fifteen fifteenth", "sixteen sixteenth", "seventeen seventeenth", "eighteen eighteenth",
    "nineteen nineteenth", "twenty twentieth",
)  # fmt: skip
WORDS = {word: n for n, names in enumerate(_COUNTED, 1) for word in names.split()}
_WORD = "|".join(sorted(WORDS, key=len, reverse=True))
_HAN = "一二三四五六七八九十"
#: What models call an image before its number.
IMAGE_WORDS = (
    r"(?:images?|img|pictures?|pic|photo(?:graph)?s?|captions?|figure|fig|bild|abbildung|foto|imagen|immagine|imagem"
    r"|изображение|картинка|фото|图片|图像|圖片|照片|图|画像|写真|이미지|사진|صورة|الصورة|चित्र)"
)
#: Before a colon or dash, or what stands there with it.
_SET_OFF = r"(?=[\])*_]{0,3}[ \t]?[:：–—-]|[\])])"
_SPELLED = lazy(
    rf"^(?P<before>[ \t]{{0,12}}[-*•>#|(\[\"“_]{{0,6}}[ \t]?)(?:"
    rf"(?:(?:the|die|das|la|le|el|das|der) )?(?:(?P<ordinal>{_WORD})[nrs]?|(?P<digits>\d{{1,3}})(?:st|nd|rd|th))[ -]{IMAGE_WORDS}(?: (?:shows|depicts|is))?{_SET_OFF}"
    rf"|{IMAGE_WORDS} (?P<cardinal>{_WORD}){_SET_OFF}"
    rf"|第 ?(?P<han>[{_HAN}]{{1,3}}|\d{{1,3}}) ?[张張幅个枚]?(?:图片|图像|圖片|照片|图|画像|写真)?(?=[\])*_]{{0,3}}[ \t]?[:：、])"
    rf"|(?P<item>[{_HAN}]{{1,3}})(?=[、．.：:])|(?P<circled>[①-⑳⑴-⒇❶-❿])[ \t]?[.:：、)]?)",
    re.IGNORECASE | re.MULTILINE,
)


def with_digits(text: str) -> str:
    """The text with digits for the numbers that its lines begin with."""
    return _SPELLED.sub(_digits, text)


def _digits(match: re.Match[str]) -> str:
    spelled = match.groupdict()
    before = spelled["before"]
    if (circled := spelled["circled"]) is not None:
        return f"{before}{int(unicodedata.numeric(circled))}. "
    if (item := spelled["item"]) is not None:
        return f"{before}{_of_han(item)}"
    if (digits := spelled["digits"]) is not None:
        return f"{before}Image {digits}"
    word = spelled["ordinal"] or spelled["cardinal"]
    return f"{before}Image {WORDS[word.lower()] if word else _of_han(spelled['han'] or '')}"


def number_of(text: str) -> int | None:
    """The number that a text is; None for any other text."""
    text = text.strip().lower().removesuffix(".")
    if text in WORDS:
        return WORDS[text]
    plain = re.fullmatch(
        r"(?:image )?(\d{1,6})(?:\.|st|nd|rd|th)?", with_digits(f"{text}:").lower().rstrip(": ")
    )
    return int(plain[1]) if plain else None


def _of_han(text: str) -> int:
    """一 to 九十九."""
    if text.isdecimal():
        return int(text)
    tens, ten, ones = text.partition("十")
    if not ten:
        return _HAN.index(text[:1]) + 1
    return (10 * (_HAN.index(tens) + 1) if tens else 10) + (_HAN.index(ones) + 1 if ones else 0)
