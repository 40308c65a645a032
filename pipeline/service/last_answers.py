"""Answers that come for a second request, told by the names that services give them (`chatcmpl-…`,
`gen-…`): a gateway that is an answer behind, or that keeps answers without looking at the picture.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable

#: An answer's own name (`chatcmpl-…`, `gen-…`), of letters enough to be no other one's, and the first
#: bytes in which it stands; answers that are remembered by it.
_NAME, NAME_WITHIN = re.compile(rb'"id"\s*:\s*"([^"]{16,200})"'), 4096
REMEMBERED = 1_024
#: Answers of which one that repeats another is doubted before it is seen that names differ.
FIRST = 4
#: Bytes of a request that are compared: all of it, or the middle of one that holds a picture's bytes,
#: where it differs from that of another picture.
COMPARED = 16_384


def nothing() -> None:
    """Nobody wants to know when a request leaves; its answer is nobody's to doubt."""


class LastAnswers:
    """The last answers of a transport, by their names.

    Only where these differ from answer to answer; the same question may have the same answer.
    """

    def __init__(self) -> None:
        self._named: OrderedDict[bytes, tuple[int, int, Callable[[], None]]] = OrderedDict()
        #: Answers with names, and those whose name was new.
        self._came = self._fresh = 0

    def repeats(
        self, body: bytes | None, data: bytes, written: Callable[[], None]
    ) -> Callable[[], None] | None:
        """What was `written` with the other request that had this very answer; None: none had."""
        if body is None or written is nothing:
            return None
        if (named := _NAME.search(data, 0, NAME_WITHIN)) is None:
            return None
        start = max(0, len(body) - COMPARED) // 2
        request, answer = hash(body[start : start + COMPARED]), hash(data)
        self._came += 1
        before = self._named.get(named[1])
        if before is None:
            self._fresh += 1
            self._named[named[1]] = answer, request, written
            if len(self._named) > REMEMBERED:
                self._named.popitem(last=False)
            return None
        vary = self._came <= FIRST or (self._fresh > 1 and 8 * self._fresh >= self._came)
        return before[2] if vary and before[0] == answer and before[1] != request else None
