"""The environment in the job file: `${NAME}` and `${NAME:-default}` in text, and the `.env` file.

Expanded once, after parsing: what comes out is never read again, neither as YAML nor for
variables. A key never comes in this way, since it would go out again in a prompt, a record or a
message: it is named by `endpoint.api_key_env` and goes nowhere but into the request's header.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.config.yaml import Document, Place, fit
from pipeline.errors import JobError
from pipeline.patterns import lazy
from pipeline.redact import looks_like_key

_VARIABLE = lazy(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}")
#: What somebody meant as a variable. `${\alpha}` and `${ 1 }` are text.
_MEANT = lazy(r"\$\{[A-Za-z_$][^}\n]{0,40}\}?")
#: Words of a variable's name that say that it holds a secret.
_SECRET_WORDS = frozenset(
    [
        "KEY",
        "APIKEY",
        "TOKEN",
        "SECRET",
        "SECRETS",
        "PASSWORD",
        "PASSWORDS",
        "PASSWD",
        "PASSPHRASE",
        "CREDENTIAL",
        "CREDENTIALS",
        "AUTH",
        "BEARER",
    ]
)
#: Settings that may hold one: they go to the host that they name and nowhere else.
_MAY_HOLD_SECRETS = {
    ("notify", "url"),
    ("endpoint", "proxy"),
    ("endpoints", "proxy"),
    ("images", "proxy"),
}
MAX_ENV = 1_000_000


def expand(document: Document, environ: Mapping[str, str]) -> dict[str, Any]:
    """The document's values with their variables filled in."""
    return {
        key: _expanded(document, entry, environ, (key,)) for key, entry in document.values.items()
    }


def _expanded(document: Document, value: Any, environ: Mapping[str, str], place: Place) -> Any:
    if isinstance(value, dict):
        return {k: _expanded(document, entry, environ, (*place, k)) for k, entry in value.items()}
    if isinstance(value, list):
        return [_expanded(document, entry, environ, (*place, n)) for n, entry in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value
    try:
        if place[-1] == "api_key_env":
            raise ValueError("write the name of a variable here, without ${…}")
        may_hold = tuple(name for name in place if isinstance(name, str)) in _MAY_HOLD_SECRETS
        return _filled(value, environ, secrets=may_hold)
    except ValueError as error:
        raise document.error(place, str(error)) from None


def is_secret(name: str) -> bool:
    """Does a variable's name say that it holds a secret? `DB_PASSWORD` and `apiKey` do, `MONKEY`
    and `MAX_TOKENS` do not."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    return not _SECRET_WORDS.isdisjoint(word.upper() for word in parts)


def _filled(text: str, environ: Mapping[str, str], *, secrets: bool) -> str:
    """One text with its variables; ValueError names the one that is missing or misplaced.

    secrets: may it hold one?
    """
    for meant in _MEANT.finditer(text):
        if not _VARIABLE.match(text, meant.start()):
            raise ValueError(f"{meant[0]} is no variable; write ${{NAME}} or ${{NAME:-default}}")

    def value(match: re.Match[str]) -> str:
        name, default = match[1], match[2]
        if is_secret(name) and not secrets:
            raise ValueError(
                f"{name} is the name of a secret, which would go out in requests, records or "
                "messages; a key is named in endpoint.api_key_env"
            )
        setting = environ.get(name)
        if not setting and default is not None:
            return str(default)
        if setting is None:
            raise ValueError(
                f"the environment has no {name}; set it, or write ${{{name}:-default}}"
            )
        if looks_like_key(setting):
            raise ValueError(
                f"{name} holds a secret, and a key goes only into the request's header; name the "
                "variable in endpoint.api_key_env"
            )
        try:
            return fit(setting)
        except ValueError as error:
            raise ValueError(f"in the value of {name}, {error}") from None

    return _VARIABLE.sub(value, text)


def environment(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The environment, with the folder's `.env` behind it."""
    return {**read_env_file(folder / ".env"), **environ}


def read_env_file(path: Path) -> dict[str, str]:
    """A `.env` file: KEY=VALUE lines, quotes, comments and `export ` seen through.

    A missing file is empty. A line that is no KEY=VALUE is passed over: the file may be there for
    another program.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_ENV).decode("utf-8-sig")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return {}
    except OSError as error:
        raise JobError(f"{path}: cannot be read ({error.strerror}); mend or remove it") from None
    except UnicodeDecodeError:
        raise JobError(f"{path}: not UTF-8 text; save it as UTF-8") from None
    return dict(pair for line in text.splitlines() if (pair := _pair(line)) is not None)


_PAIR = lazy(
    r"""\s*(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*=\s*
    (?:'(?P<plain>[^']*)'|"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>.*?))
    \s*(?:(?:(?<=\s)|(?<=['"]))\#.*)?""",
    re.VERBOSE,
)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


def _pair(line: str) -> tuple[str, str] | None:
    """One line; inside double quotes a backslash takes the next character."""
    match = _PAIR.fullmatch(line)
    if match is None:
        return None
    if match["quoted"] is not None:
        value = re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), match["quoted"])
    else:
        value = match["plain"] if match["plain"] is not None else match["bare"]
    return match["name"], value
