"""The words that checks look for: how models open, decline, address a reader, and how cut texts end.

Each pattern comes with the words of which one must be there, since most captions have none of them.
"""

from __future__ import annotations

import re

from pipeline.patterns import lazy

ENDS = lazy(
    r"[.!?…。！？｡।॥؟۔:;)\]}»”\"'’」』*_~`>]\s*\Z|[\U0001F300-\U0001FAFF\u2600-\u27BF\uFE0F]\s*\Z"
)
#: A caption without the end of a sentence that ends so was cut.
HANGING = lazy(
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

#: Who speaks of themselves and says no before they say what they see describes no picture.
_DECLINES = (
    r"(?:(?:i|we)(?:\s?['’]\s?\w+)?|im|my (?:guidelines|polic\w+|programming|safety|instructions|training|apologies))\b"
    r"(?:(?!\b(?:see|observe|notice|think|believe|looking|shows?)\b)[^.\n]){0,120}?"
    r"\b(?:not|cannot|can['’]?t|\w+n['’]t|unable|declin\w+|refus\w+)\b"
)
_NOT_THERE = r"\b(?:did(?: not|n['’]t)|has(?: not|n['’]t)|failed to|was(?: not|n['’]t)|never) (?:been )?(?:load|come through|upload|attach|arrive|display|render|includ|provid)"
REFUSAL = lazy(
    r"\W*(?:"
    + _DECLINES
    + r"|(?:(?:my )?apologies|sorry|unfortunately|regrettably)\b[^.\n]{0,80}?\b"
    + _DECLINES
    + r"|(?:i['’]?m|i am) (?:very |so |really )?sorry,? (?:but )?(?:this|that|the|no)\b[^.\n]{0,60}\b(?:policy|policies|guidelines|violates?)"
    r"|(?:it (?:seems|looks|appears)|sorry|unfortunately|i['’]?m (?:sorry|afraid))\b[^.\n]{0,40}?"
    + _NOT_THERE
    + r"|(?:the|your) (?:image|picture|photo|file|upload|attachment)(?: (?:that )?you \w+)?\s"
    + _NOT_THERE
    + r"|as an? (?:ai|artificial|large|language|vision|text|responsible)[\w -]{0,40},? "
    + _DECLINES
    + r"|(?:this|the|your) (?:image|request|content|picture|photo|prompt)\b[^.\n]{0,40}?\b(?:violates?|goes against|is against|(?:has been |was )?(?:flagged|blocked)|can(?:not|['’]t) be (?:described|processed|shown))"
    r"|(?:no|there is no|i (?:do not|don['’]t) see (?:an|any)) image\b[^.\n]{0,30}?(?:attached|provided|uploaded|in (?:this|your)|was|here|to (?:describe|caption)|\.|\Z)"
    r"|(?:please )?(?:provide|upload|share|attach) (?:the|an|your) image"
    r"|(?:it (?:seems|looks|appears)|there)\b[^.\n]{0,40}?\bno image\b"
    r"|(?:es tut mir (?:sehr )?leid|entschuldigung|leider)[^.\n]{0,60}(?:nicht|kein)|ich kann (?:dieses|das|die|ihnen|dir|bei)[^.\n]{0,60}nicht"
    r"|(?:lo siento|lamento|je suis désolée?|je ne (?:peux|suis) pas|désolée?|no puedo (?:ayudar|describir|ver|identificar|procesar)|mi dispiace|non posso|desculpe|sinto muito|não posso|não consigo)\b"
    r"|(?:к сожалению|извините|простите)[^.\n]{0,40}\bне\b|я не (?:могу|вижу|в состоянии)\b"
    r"|(?:het spijt me|sorry)[^.\n]{0,40}\bniet\b|ik kan (?:deze|dit|je|u|geen|niet)\b|(?:przykro mi|przepraszam|niestety)[^.\n]{0,40}\bnie\b|nie mogę\b"
    r"|üzgünüm|xin lỗi|rất tiếc|maaf,|عذر[اًا]|آسف|أعتذر|لا (?:أستطيع|يمكنني)|क्षमा|माफ़|मुझे खेद"
    r"|抱歉|对不起|對不起|很抱歉|非常抱歉|很遗憾|我无法|我無法|我不能|申し訳|ご希望に|すみません|恐れ入りますが|죄송|유감"
    r")",
    re.IGNORECASE,
)
_THING = r"(?:image|picture|photo(?:graph)?|pic|scene|illustration|screenshot|painting|drawing|artwork|snapshot|frame|view|shot|visual|composition|black[- ]and[- ]white (?:photo(?:graph)?|image))"
_SHOWS = (
    r"(?:shows?|showing|depicts?|depicting|features?|featuring|displays?|displaying|captures?|capturing|presents?|presenting|portrays?|portraying"
    r"|illustrates?|contains?|showcases?|is (?:of|showing)|(?:is|was) (?:taken|captured|an? (?:[\w-]+ ){0,3}?"
    + _THING
    + r")\b|(?<=image )(?:is|was) an?\b|(?<=photo )(?:is|was) an?\b|appears to (?:be|show|depict)|seems to|you(?:['’]ve| have)|provided|consists? of|represents?|reveals?|includes?|offers?|conveys?)"
)
#: A word before what an opening names; with another article it is somebody's picture in the picture.
_QUALIFIER = r"(?!(?:an?|the|his|her|their|its|my)\b)[\w-]+ "
BOILERPLATE = lazy(
    r"[\W_]*(?:(?:in )?(?:the|this|your|an?)\s+(?:"
    + _QUALIFIER
    + "){0,4}?"
    + _THING
    + r"s?(?: (?:you (?:provided|sent|shared|uploaded)|provided|above|here))?,?\s+(?:\w+ly )?"
    + _SHOWS
    + r"|in (?:the|this) (?:[\w-]+ ){0,2}?"
    + _THING
    + r",?\s+(?:we|there|you|i|one|a|an|the|two|three|several)\b"
    + r"|this (?:[\w-]+ ){0,2}?"
    + _THING
    + r", [^,.\n]{1,60}, (?:\w+ly )?"
    + _SHOWS
    + r"\b|(?:based on|from|judging (?:by|from)|looking at|according to) (?:the|this|your) (?:[\w-]+ ){0,2}?(?:image|picture|photo(?:graph)?|screenshot)s?(?: provided)?(?:,|:|\s+(?:i|we|you|it)\b)"
    + r"|the (?:[\w-]+ ){0,2}?(?:subject|focus|focal point|theme|cent(?:er|re)piece|setting) of (?:the|this) (?:[\w-]+ ){0,2}?"
    + _THING
    + r"\b|(?:we|you|i) (?:can )?(?:see|observe|notice)\b|here(?: (?:we (?:see|have)|is|are)|['’]s)\b|"
    + _THING
    + r" (?:of|showing|shows|depicts|description|caption)\b"
    + r"|(?:this|here|it) (?:is|appears to be|seems to be|looks (?:like|to be)) (?:an?|the) (?:[\w-]+ ){0,3}?"
    + _THING
    + r"\b"
    + r"|(?:caption|description|alt[- ]text|answer|output|response|summary)\s*[:*]"
    + r"|(?:an?|the) (?:"
    + _QUALIFIER
    + r"){0,3}?(?!frame of)"
    + _THING
    + r" (?:of|showing|depicting|featuring|with|that shows|shows)\b"
    + r"|(?:sure(?: thing)?|got it|here you go|certainly|of course|absolutely|okay|ok)\b[,!.]"
    + r"|(?:what (?:we|you) see|depicted|shown|pictured|featured|visible) (?:here|in)\b|das (?:bild|foto) zeigt|auf (?:dem|diesem) (?:bild|foto)|(?:cette|l['’]) ?(?:image|photo) (?:montre|représente)|la (?:imagen|foto) muestra|en (?:la|esta) imagen"
    + r"|(?:这张|该|這張|此)?(?:图片|图像|照片|圖片)(?:展示|显示|中|顯示|里|描绘)|この(?:画像|写真)(?:は|には|に|で))",
    re.IGNORECASE,
)
INSTRUCTIONS = lazy(
    r"https?://|\bwww\.\w|\b[\w.-]+\.(?:com|net|org|io|ru|cn|xyz|shop|info|biz|app|dev|ai|edu|gov|de|fr|uk|nl|eu|jp|ch|pl)(?:/\w|\b(?![\w@-]))"
    r"|\b[\w.+-]+@[\w-]+\.\w{2,}"
    r"|\b(?:ignore|disregard|forget|override)\b[^.\n]{0,30}\b(?:instructions?|prompts?|rules|everything|above|previous|prior|guidelines)"
    r"|\b(?:system prompt|developer mode|jailbreak|as instructed|per your (?:request|instructions)|your instructions)\b"
    r"|\b(?:let me know|feel free to|would you like|do you want|please (?:let me|provide|note that i|specify)|tell me (?:if|what|which|how|more)|(?:happy|glad|pleased) to (?:help|add|provide|describe|elaborate|assist|share|answer|write)|if you(?:['’]d| would)? (?:like|want|prefer|need|wish)|is there anything else|hope (?:this|that|it)(?:['’]s| \w+){0,2} (?:helps|helpful|useful)|(?:can|may) i (?:help|assist)|i can (?:also|help|provide|write|make|add|give|offer))\b"
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
INSTRUCTION_WORDS = frozenset(
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
        *("tell", "glad", "pleased", "assist", "i"),
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
ADDRESS = re.compile(r"[.:@][\w/-]")
#: A refusal in English begins with one of these words.
REFUSAL_WORDS = frozenset(
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
        *(
            "looks",
            "leider",
            "entschuldigung",
            "lamento",
            "non",
            "sinto",
            "het",
            "ik",
            "przepraszam",
        ),
        *("niestety", "przykro", "nie", "maaf"),
    ]
)
#: An opening is within so many words; one of these is among them.
OPENING_LENGTH = 16
_OPENING_NAMES = [
    "image",
    "picture",
    "photo",
    "photograph",
    "pic",
    "scene",
    "illustration",
    "screenshot",
    "painting",
    "drawing",
    "artwork",
    "snapshot",
    "frame",
    "view",
    "shot",
    "visual",
    "composition",
    "see",
    "observe",
    "notice",
    "here",
    "caption",
    "description",
    "alt",
    "answer",
    "output",
    "response",
    "summary",
    "sure",
    "certainly",
    "course",
    "absolutely",
    "okay",
    "ok",
    "depicted",
    "shown",
    "pictured",
    "featured",
    "visible",
    "bild",
    "foto",
    "imagen",
]
OPENING_WORDS = frozenset([*_OPENING_NAMES, *(f"{name}s" for name in _OPENING_NAMES)])
MARKDOWN = lazy(
    r"^\s{0,3}#{1,6}\s+\S|^\s{0,3}(?:[-*+•]|\d{1,2}[.)])\s+\S.*\n(?:\s*\n)?\s{0,3}(?:[-*+•]|\d{1,2}[.)])\s+\S"
    r"|\*\*[^*\n]{1,200}\*\*|__[^_\n]{1,200}__|```|^\s*\|.*\|.*\|\s*$|!?\[[^\]\n]{1,200}\]\([^)\n]{1,300}\)|^\s{0,3}>\s+\S"
    r"|^\s{0,3}(?:-{3,}|\*{3,}|_{3,})\s*$|(?<![\w*])\*[^*\s][^*\n]{0,200}[^*\s]\*(?![\w*])|`[^`\n]{1,200}`|</?(?:p|br|b|i|ul|li|h[1-6]|div|strong|em)\s*/?>"
    r"|\A\s{0,3}[-*+•]\s+\S",
    re.MULTILINE | re.IGNORECASE,
)
#: The end of a sentence before another one.
SENTENCE = lazy(r"[.!?।؟۔]\s|[。！？]")
MARKS = re.compile(r"[#*_`|\[<>•\n]")
