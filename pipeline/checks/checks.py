"""What is wrong with a caption: one pure function a check, and a table of them.

Each looks at the words that real models write. Cheap tests come first, since this runs for every
caption; none needs more than the caption, how its answer ended, and what was asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import pairwise

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
_ENDS = lazy(
    r"[.!?…。！？｡।॥؟۔:;)\]}»”\"'’」』*_~`>]\s*\Z|[\U0001F300-\U0001FAFF\u2600-\u27BF\uFE0F]\s*\Z"
)
#: A caption without the end of a sentence that ends so was cut.
_HANGING = lazy(
    r"(?:[,\-–—(\[{\"“«，、]"
    # "switched on" and its kind are ends
    r"|(?<!turned )(?<!switched )(?<!plugged )(?<!logged )(?<!lights )(?<!come )(?<!came )\b(?:on|in)"
    r"|\b(?:a|an|the|and|or|but|of|at|to|with|for|from|by|as|that|which|who"
    r"|is|are|was|were|its|his|her|their|into|over|under|near|behind|between|while|there|this"
    r"|und|oder|der|die|das|ein|eine|einen|einem|einer|dem|den|des|im|zum|zur|am|mit|auf|von|sowie|zwischen"
    r"|et|le|la|les|un|une|avec|dans|de|des|du|del|y|el|con|los|las|una|por|para|que|su|sus|al"
    r"|и|в|во|на|с|со|у|к|по|из|под|над|от|для|или|но|который|которая"
    r"|في|من|على|إلى|مع|أو|عن|بين|أمام|خلف|بجانب)|\s(?:और|के|की|का|एक|ने|को|या)"
    r"|[拿抱穿戴提举握牵带骑]着|(?<![柔温])和|以及|一[只个名位条张座辆]|[をがはへのとに]"
    r"|[을를]|에서|[하타들있앉입놓]고)\s*\Z",
    re.IGNORECASE,
)

_CANNOT = (
    r"(?:can(?:no|['’])?t|can not|could(?: not|n['’]t)|am(?: not|) (?:un)?able to|[' ’]?m (?:not able|unable) to"
    r"|will not|won['’]t|do(?: not|n['’]t) (?:have|feel)|must (?:decline|refuse)|would(?: not|n['’]t)"
    r"|prefer not|decline|refuse|am not (?:comfortable|allowed|permitted|going)"
    r"|['’]?m not (?:comfortable|allowed|permitted|going)|have to (?:decline|refuse))"
)
_REFUSAL = lazy(
    r"\W*(?:"
    r"(?:(?:i['’]?m|i am)\s+(?:very |so |really )?(?:sorry|afraid)|(?:my )?apologies|i apologi[sz]e|sorry|unfortunately|regrettably)"
    r"\b[^.\n]{0,80}?\b(?:i|we)\b[^.\n]{0,30}?"
    + _CANNOT
    + r"|(?:i['’]?m|i am) (?:very |so |really )?sorry,? (?:but )?(?:this|that|the|no)\b[^.\n]{0,60}\b(?:policy|policies|guidelines|violates?|not (?:visible|available|load)|cannot|can['’]t)"
    r"|i(?:['’]?m| am) not (?:comfortable|allowed|permitted|going|able)\b"
    r"|(?:i|we)\s?"
    + _CANNOT
    + r"\b[^.\n]{0,40}?\b(?:help|assist|describe|identify|see|view|provide|generate|create|comply|fulfill?|do that|process|analy[sz]e|discuss|engage|continue|access|caption|comment|answer|respond|write|information|details|image|comfortable)"
    r"|as an? (?:ai|artificial|large|language|vision|text|responsible)[\w -]{0,40},? (?:i|my)\b[^.\n]{0,60}?(?:"
    + _CANNOT
    + r"|not able|unable|programmed)"
    r"|(?:this|the|your) (?:image|request|content|picture|photo|prompt)\b[^.\n]{0,40}?\b(?:violates?|goes against|is against|(?:has been |was )?(?:flagged|blocked)|can(?:not|['’]t) be (?:described|processed|shown))"
    r"|(?:no|there is no|i (?:do not|don['’]t) see (?:an|any)) image\b[^.\n]{0,30}?(?:attached|provided|uploaded|in (?:this|your)|was|here|to (?:describe|caption)|\.|\Z)"
    r"|(?:please )?(?:provide|upload|share|attach) (?:the|an|your) image"
    r"|(?:it (?:seems|looks|appears)|there)\b[^.\n]{0,40}?\bno image\b"
    r"|es tut mir leid[^.\n]{0,60}(?:nicht|kein)|ich kann (?:dieses|das|die|ihnen)[^.\n]{0,60}nicht"
    r"|(?:lo siento|je suis désolé|je ne peux pas|désolé|no puedo (?:ayudar|describir)|mi dispiace|desculpe)\b"
    r"|抱歉|对不起|對不起|很抱歉|我无法|我無法|申し訳|ご希望に|죄송"
    r")",
    re.IGNORECASE,
)
_THING = r"(?:image|picture|photo(?:graph)?|pic|scene|illustration|screenshot|painting|drawing|artwork|snapshot|frame|view|shot|visual|composition|black[- ]and[- ]white (?:photo(?:graph)?|image))"
_SHOWS = (
    r"(?:shows?|showing|depicts?|depicting|features?|featuring|displays?|displaying|captures?|capturing|presents?|presenting|portrays?|portraying"
    r"|illustrates?|contains?|showcases?|is (?:of|showing)|appears to (?:be|show|depict)|seems to|you(?:['’]ve| have)|provided|consists? of|represents?|reveals?|includes?|offers?|conveys?)"
)
#: A word before what an opening names; with another article it is somebody's picture in the picture.
_QUALIFIER = r"(?!(?:an?|the|his|her|their|its|my)\b)[\w-]+ "
_BOILERPLATE = lazy(
    r"[\W_]*(?:(?:in )?(?:the|this|your|an?)\s+(?:"
    + _QUALIFIER
    + "){0,4}?"
    + _THING
    + r"s?(?: (?:you (?:provided|sent|shared|uploaded)|provided|above|here))?,?\s+(?:\w+ly )?"
    + _SHOWS
    + r"|in (?:the|this) (?:[\w-]+ ){0,2}?"
    + _THING
    + r",?\s+(?:we|there|you|i|one|a|an|the|two|three|several)\b"
    + r"|(?:we|you|i) (?:can )?(?:see|observe|notice)\b|here(?: (?:we (?:see|have)|is|are)|['’]s)\b|"
    + _THING
    + r" (?:of|showing|shows|depicts|description|caption)\b"
    + r"|(?:this|here|it) is (?:an?|the) (?:[\w-]+ ){0,3}?"
    + _THING
    + r"\b"
    + r"|(?:caption|description|alt[- ]text|answer|output|response|summary)\s*[:*]"
    + r"|(?:an?|the) (?:"
    + _QUALIFIER
    + r"){0,3}?"
    + _THING
    + r" (?:of|showing|depicting|featuring|with|that shows|shows)\b"
    + r"|(?:sure|certainly|of course|absolutely|okay|ok)\b[,!.]"
    + r"|(?:what (?:we|you) see|depicted|shown|pictured|featured|visible) (?:here|in)\b|das (?:bild|foto) zeigt|auf (?:dem|diesem) (?:bild|foto)|(?:cette|l['’]) ?(?:image|photo) (?:montre|représente)|la (?:imagen|foto) muestra|en (?:la|esta) imagen"
    + r"|(?:这张|该|這張|此)?(?:图片|图像|照片|圖片)(?:展示|显示|中|顯示|里|描绘)|この(?:画像|写真)(?:は|には|に|で))",
    re.IGNORECASE,
)
_INSTRUCTIONS = lazy(
    r"https?://|\bwww\.\w|\b[\w.-]+\.(?:com|net|org|io|ru|cn|xyz|shop|info)(?:/\w|\b(?![\w@]))"
    r"|\b[\w.+-]+@[\w-]+\.\w{2,}"
    r"|\b(?:ignore|disregard|forget|override)\b[^.\n]{0,30}\b(?:instructions?|prompts?|rules|everything|above|previous|prior|guidelines)"
    r"|\b(?:system prompt|developer mode|jailbreak|as instructed|per your (?:request|instructions)|your instructions)\b"
    r"|\b(?:let me know|feel free to|would you like|do you want|please (?:let me|provide|note that i|specify|tell me)|if you(?:['’]d| would) like(?: me)?|i(?:['’]d| would) be happy to|is there anything else|hope this helps|how can i help|can i help)\b"
    r"|\b(?:click (?:here|the link|on the)|visit (?:our|the|my) (?:site|website|page|store|shop)|subscribe (?:to|now)|follow (?:us|me) (?:on|at|for)|call now|buy now|sign up (?:now|today|at))\b"
    r"|\byou (?:are|must|should) (?:now|always|an ai|a helpful|respond|answer|reply|output)\b|\brespond (?:only )?with\b|\boutput (?:only|the following)\b"
    r"|\b(?:lass(?:en sie)? (?:es )?mich wissen|möchten sie|wenn sie (?:weitere|mehr)|noch fragen|ignorieren? (?:sie )?alle|besuchen sie (?:uns|bitte))"
    r"|\b(?:av[ií]same si|h[aá]zmelo saber|(?:le|te) gustar[ií]a|quieres que|no dudes? en|ignora (?:todas )?las|visita nuestr|si (?:necesitas?|deseas?) m[aá]s)"
    r"|\b(?:n['’]h[ée]sitez pas|souhaitez-vous|voulez-vous que|faites-le-moi savoir|ignore[rz]? (?:toutes )?les|visitez notre)"
    r"|дайте (?:мне )?знать|сообщите,? если|если (?:вам )?нужн|хотите,? чтобы|игнорируй|обращайтесь|посетите наш"
    r"|告诉我|请随时|如果您?(?:需要|想要|有任何)|忽略[^。\n]{0,12}(?:指令|提示)|希望这[^。\n]{0,10}帮助|访问我们"
    r"|お知らせください|お申し付けください|お気軽に|ご質問|指示を[^。\n]{0,6}無視|말씀해 ?주세요|알려 ?주세요|궁금한 점|지시를?[^.\n]{0,6}무시"
    r"|أخبرني|لا تتردد|هل تريد|تجاهل[^.\n]{0,20}التعليمات|मुझे बताएं|बेझिझक|क्या आप चाह|निर्देशों? को (?:अनदेखा|नज़रअंदाज़)",
    re.IGNORECASE,
)
#: One of these words, or an address, stands in whatever the pattern finds.
_INSTRUCTION_WORDS = frozenset(
    [
        "ignore",
        "disregard",
        "forget",
        "override",
        "system",
        "developer",
        "jailbreak",
        "instructed",
        "your",
        "let",
        "feel",
        "you",
        "please",
        "happy",
        "anything",
        "hope",
        "help",
        "click",
        "visit",
        "subscribe",
        "follow",
        "call",
        "buy",
        "sign",
        "respond",
        "output",
        *("wissen", "sie", "fragen", "avisame", "hazmelo", "gustaria", "quieres", "dude", "dudes"),
        *("ignora", "visita", "necesita", "necesitas", "desea", "deseas", "hesitez", "souhaitez"),
        *("voulez", "faites", "ignorez", "ignorer", "visitez"),
    ]
)
#: So does an address: a stop, a colon or an at sign within a word.
_ADDRESS = re.compile(r"[.:@][\w/-]")
#: A refusal in English begins with one of these words.
_REFUSAL_WORDS = frozenset(
    [
        "i",
        "im",
        "my",
        "apologies",
        "sorry",
        "unfortunately",
        "regrettably",
        "we",
        "as",
        "this",
        "the",
        "your",
        "no",
        "there",
        "please",
        "provide",
        "upload",
        "share",
        "attach",
        "it",
        "es",
        "ich",
        "lo",
        "je",
        "no",
        "mi",
        "desculpe",
    ]
)
#: An opening is within so many words; one of these is among them.
_OPENING_LENGTH = 16
_OPENING_NAMES = _WORD.findall(
    "image picture photo photograph pic scene illustration screenshot painting drawing artwork snapshot"
    " frame view shot visual composition see observe notice here caption description alt answer output"
    " response summary sure certainly course absolutely okay ok depicted shown pictured featured visible"
    " bild foto imagen"
)
_OPENING_WORDS = frozenset([*_OPENING_NAMES, *(f"{name}s" for name in _OPENING_NAMES)])
_MARKDOWN = lazy(
    r"^\s{0,3}#{1,6}\s+\S|^\s{0,3}(?:[-*+•]|\d{1,2}[.)])\s+\S.*\n(?:\s*\n)?\s{0,3}(?:[-*+•]|\d{1,2}[.)])\s+\S"
    r"|\*\*[^*\n]{1,200}\*\*|__[^_\n]{1,200}__|```|^\s*\|.*\|.*\|\s*$|!?\[[^\]\n]{1,200}\]\([^)\n]{1,300}\)|^\s{0,3}>\s+\S"
    r"|^\s{0,3}(?:-{3,}|\*{3,}|_{3,})\s*$|(?<![\w*])\*[^*\s][^*\n]{0,200}[^*\s]\*(?![\w*])|`[^`\n]{1,200}`|</?(?:p|br|b|i|ul|li|h[1-6]|div|strong|em)\s*/?>"
    r"|\A\s{0,3}[-*+•]\s+\S",
    re.MULTILINE | re.IGNORECASE,
)
#: The end of a sentence before another one.
_SENTENCE = lazy(r"[.!?।؟۔]\s|[。！？]")
_MARKS = re.compile(r"[#*_`|\[<>•\n]")
#: ASCII punctuation as blanks.
_BLANKS = {code: " " for code in range(128) if not (chr(code).isalnum() or code == ord("_"))}


class Subject:
    """A caption as checks see it."""

    __slots__ = ("_length", "_tokens", "caption", "cut", "pieces")

    def __init__(self, caption: str, *, cut: bool = False) -> None:
        """cut: at the model's limit."""
        self.caption, self.cut = caption, cut
        #: In lower case, without ASCII punctuation, joined words apart: enough to tell that most
        #: captions pass, in a quarter of the time that `tokens` takes.
        self.pieces = caption.lower().translate(_BLANKS).split()
        self._tokens: list[str] | None = None
        self._length: float | None = None

    def lacks(self, marking: frozenset[str]) -> bool:
        """Is none of these in it, for certain? Unknown where it has other than ASCII letters."""
        return self.caption.isascii() and marking.isdisjoint(self.pieces)

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
            dense = 0 if self.caption.isascii() else len(_HALF_WORDS.findall(self.caption))
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
    if _ENDS.search(text, max(0, len(text) - 8)):
        return text.rstrip().endswith(("...", "…")) and len(subject.tokens) > 8
    if _HANGING.search(text, max(0, len(text) - 16)):
        return True
    # Short labels have no full stop; after a whole sentence a last one without it was cut.
    return _SENTENCE.search(text) is not None and subject.length > (12 if text.isascii() else 8)


def refusal(subject: Subject) -> bool:
    """The model says that it cannot or will not, in place of a caption."""
    if subject.caption.isascii() and _REFUSAL_WORDS.isdisjoint(subject.pieces[:1]):
        return False  # most captions
    return _REFUSAL.match(subject.caption) is not None


def boilerplate(subject: Subject) -> bool:
    """An opening that says that there is a picture, not what is in it."""
    if subject.caption.isascii() and _OPENING_WORDS.isdisjoint(subject.pieces[:_OPENING_LENGTH]):
        return False  # most captions
    return _BOILERPLATE.match(subject.caption) is not None


def repetition(subject: Subject, share: float) -> bool:
    """A phrase follows on itself over and over, or a text has hardly a new word or sentence."""
    pieces = subject.pieces
    count = len(pieces) - subject.caption.count("-") - subject.caption.count("'")  # of its tokens
    if len(pieces) - len(set(pieces)) < share / 2 * count and len(pieces) < 60:
        return False  # most captions
    if count > 6 and subject.caption.isascii():
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
    if subject.lacks(_INSTRUCTION_WORDS) and _ADDRESS.search(subject.caption) is None:
        return False  # most captions
    return _INSTRUCTIONS.search(subject.caption) is not None


def markdown(subject: Subject) -> bool:
    """Marks of a formatted text."""
    text = subject.caption
    if _MARKS.search(text) is None and not text.lstrip().startswith(("-", "+")):
        return False  # most captions
    return _MARKDOWN.search(text) is not None


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
        if not languages:
            del table["language"]
        self.actions = {
            name: action for name in table if (action := getattr(settings, name).action) is not None
        }
        self.table = {name: check for name, check in table.items() if name in self.actions}

    def of(self, caption: str, *, cut: bool = False) -> tuple[str, ...]:
        """The names of the checks that a caption does not pass. Of a very long one its beginning and
        its end are looked at."""
        if len(caption) > 2 * LOOKED_AT:
            caption = f"{caption[:LOOKED_AT]} {caption[-LOOKED_AT:]}"
        subject = Subject(caption, cut=cut)
        return tuple([name for name, check in self.table.items() if check(subject)])
