"""Words from outside made fit to be shown: on a terminal, in a log, in an error.

A value of the job file, a path or a caption may hold terminal commands, line breaks or a key
that strayed there. Nothing that is shown may act on the terminal, break the one line that an
error is, or tell a secret.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote

#: C1 controls, what turns the direction of writing, what is not seen (but the joiners, which
#: scripts and emoji need), breaks that are no line feed, halves of characters.
_UNSEEN = (
    "\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U0001d173-\U0001d17a\U000e0000-\U000e007f\ud800-\udfff"
)
#: These, and C0 controls but tab and line feed.
_CONTROL = re.compile(f"[\x00-\x08\x0b-\x1f{_UNSEEN}]")
#: What no stream of this program lets through: of C0, carriage returns and colours are the
#: progress line's and the help's.
_NEVER = re.compile(f"[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f{_UNSEEN}]|\x1b(?!\\[[0-9;]*[mAK])")
#: What keys of the known services look like. `sk-` counts where a word begins, so that a path
#: like `data/sk-photos.csv` may be written.
_KEY = re.compile(
    r"(?<![\w/.-])sk-[A-Za-z0-9_-]{8,}"
    r"|sk-(?:or|ant|proj|svcacct|admin)-[A-Za-z0-9_-]{8,}"
    r"|\bAIza[0-9A-Za-z_-]{20,}"
    r"|\b(?:hf_|gsk_|xai-|r8_|gh[pousr]_|github_pat_)[A-Za-z0-9_-]{16,}"
    r"|\bBearer\s+[A-Za-z0-9._~+/-]{8,}"
)
HIDDEN = "***"
#: A secret of fewer characters may be a word, or part of one.
SHORT_SECRET = 8
_URL_SAFE = str.maketrans("+/", "-_")


def looks_like_key(text: str) -> bool:
    """Does this hold something that looks like a key of a known service?"""
    return _KEY.search(text) is not None


def without_controls(text: str) -> str:
    r"""Control characters as `\x1b`; tabs and line feeds stay."""
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def fit_to_print(text: str) -> str:
    r"""What may go to the terminal: control characters as `\u202e`, but colours and `\r`."""
    return _NEVER.sub(lambda match: ascii(match[0])[1:-1], text)


def spellings(secrets: Iterable[str]) -> list[str]:
    """Each secret as it is, URL-encoded, and as it looks inside of any base64 text.

    Of a short one, as local servers are given (`none`, `1234`), only itself; of one letter none.
    """
    spelled: list[str] = []
    for secret in secrets:
        if len(secret) >= SHORT_SECRET:
            spelled += [secret, quote(secret, safe=""), *_in_base64(secret.encode())]
        elif len(secret) > 1:
            spelled.append(secret)
    return list(dict.fromkeys(spelled))


def _in_base64(secret: bytes) -> Iterator[str]:
    """What of base64 text does not depend on what stands before and after the secret: three
    bytes are four characters, so that it depends on where in its three bytes it begins."""
    for before in range(3):
        text = base64.b64encode(b"\0" * before + secret).decode()
        inner = text[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6]
        yield inner
        yield inner.translate(_URL_SAFE)


def hidden(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without these spellings of secrets and without anything that looks like a key.

    A short secret is hidden where it stands as a word of its own.
    """
    for secret in secrets:
        if len(secret) >= SHORT_SECRET:
            text = text.replace(secret, HIDDEN)
        else:
            text = re.sub(rf"(?<![\w./-]){re.escape(secret)}(?![\w/-]|\.\w)", HIDDEN, text)
    return _KEY.sub(HIDDEN, text)


def one_line(text: str, longest: int = 2000) -> str:
    """One line without control characters and keys; a very long one is cut in the middle."""
    line = " ".join(without_controls(hidden(text)).split())
    half = longest // 2
    return line if len(line) <= longest else f"{line[:half]} … {line[-half:]}"
