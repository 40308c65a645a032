"""Regular expressions that are compiled when they are first used.

Those for what models and services write are large, most of them meet nothing in most runs, and
compiling them all takes a twentieth of what a short run costs.
"""

from __future__ import annotations

import re
from typing import Any, AnyStr, cast


class _Lazy:
    """Stands for a compiled pattern: its methods are taken over from that at the first use."""

    __slots__ = ("_flags", "_source", "findall", "finditer", "fullmatch", "match", "search", "sub")

    def __init__(self, source: str | bytes, flags: int) -> None:
        self._source, self._flags = source, flags

    def __getattr__(self, name: str) -> Any:
        compiled = re.compile(self._source, self._flags)
        for method in self.__slots__[2:]:
            setattr(self, method, getattr(compiled, method))
        return getattr(compiled, name)


def lazy(source: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """`re.compile`, later. A mistake in the pattern shows at its first use."""
    return cast("re.Pattern[AnyStr]", _Lazy(source, flags))
