"""Images with equal bytes are asked once a run: dead links that all lead to a host's one "no longer
available" picture, copies of a file.

The first one is asked, the others get its result under their own keys when the run ends: until
then its answer may still be withdrawn (`doubted_answers.py`). A run that is killed before asks one
of them again. Whose URL the service fetches itself is asked by itself: its bytes are not known.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from sys import getsizeof

from pipeline.model import DOUBTED, Image, Item, Record
from pipeline.plural import counted

#: Pictures that are remembered: the last ones, and those that others wait for.
MOST_PICTURES = 4_096
#: Bytes of them and of their results, about: a caption may have megabytes. Above that the oldest
#: are forgotten, and what comes is asked.
MOST_BYTES = 64 * 2**20
#: Images that wait for another one's result; what comes beyond that is asked.
MOST_WAITING = 10_000
#: Records that are handed on at once, and bytes of them.
TOGETHER, TOGETHER_BYTES = 500, 8 * 2**20
#: Pictures that the end names.
NAMED = 3
#: The flag of a record that is a copy.
FLAG = "same_picture"


@dataclass(slots=True)
class _Picture:
    first: Item
    record: Record | None = None
    others: list[Item] = field(default_factory=list)
    #: Bytes that it takes, about, without the others.
    size: int = 0


class SamePictures:
    """What a run has prepared, by its bytes and prompt."""

    def __init__(self) -> None:
        #: The last ones, in the order in which they came.
        self._pictures: OrderedDict[tuple[str, ...], _Picture] = OrderedDict()
        #: Those that others wait for.
        self._repeated: dict[tuple[str, ...], _Picture] = {}
        self._by_key: dict[str, _Picture] = {}
        self._waiting = 0
        #: Of all pictures, about.
        self.size = 0

    def waits(self, item: Item) -> bool:
        """Was an image with these bytes prepared before? Then this one waits for its result."""
        if item.asked.image_sha256 is None:
            return False
        name = item.asked.image_sha256, item.recipe, item.prompt
        bare = replace(item, image=Image(), source=None)
        picture = self._repeated.get(name) or self._pictures.pop(name, None)
        if picture is None:
            picture = self._by_key[item.asked.key] = _Picture(bare)
            self._grow(picture, _bytes_of(item.prompt, item.asked.image, item.asked.key))
        elif (
            picture.first.asked.key != item.asked.key
            and self._waiting < MOST_WAITING
            and self.size < MOST_BYTES
        ):
            self._repeated[name] = picture
            picture.others.append(bare)
            self._waiting += 1
            return True
        if name not in self._repeated:
            self._pictures[name] = picture
            self._forget()
        return False

    def landed(self, records: Sequence[Record]) -> None:
        """Results are on disk; the last one of a key counts."""
        for record in records:
            if (picture := self._by_key.get(record.key)) is not None:
                before = 0 if picture.record is None else _bytes_of(*picture.record)
                picture.record = record
                self._grow(picture, _bytes_of(*record) - before)
        self._forget()

    def _grow(self, picture: _Picture, size: int) -> None:
        picture.size += size
        self.size += size

    def _forget(self) -> None:
        """Let the oldest go that nobody waits for."""
        while self._pictures and (len(self._pictures) > MOST_PICTURES or self.size > MOST_BYTES):
            _, oldest = self._pictures.popitem(last=False)
            self._grow(oldest, -oldest.size)
            self._by_key.pop(oldest.first.asked.key, None)

    def copies(self) -> Iterator[list[Record]]:
        """Results of the images that waited, some at a time; those whose first has none stay for
        the next run."""
        group: list[Record] = []
        size = 0
        for picture in self._repeated.values():
            if picture.record is None or picture.record.error_code == DOUBTED:
                continue
            for item in picture.others:
                group.append(_copied(picture.record, item))
                size += picture.size
                if len(group) >= TOGETHER or size >= TOGETHER_BYTES:
                    yield group
                    group, size = [], 0
        if group:
            yield group

    def sentences(self) -> list[str]:
        """Which images are one picture: `10 images of HOST are one picture`."""
        groups = sorted(self._repeated.values(), key=lambda group: -len(group.others))
        groups = [picture for picture in groups if picture.others]
        named = [_sentence([picture.first, *picture.others]) for picture in groups[:NAMED]]
        rest = groups[NAMED:]
        if rest:
            images = sum(len(picture.others) + 1 for picture in rest)
            pictures = counted(len(rest), "picture")
            named.append(f"{images:,} more images are {pictures}, asked once each")
        return named


def _bytes_of(*values: object) -> int:
    return sum(getsizeof(value) for value in values)


def _copied(record: Record, item: Item) -> Record:
    """The result of one image as another's. What it cost stands with the first."""
    asked = item.asked
    return record._replace(
        key=asked.key,
        id=asked.id,
        image=asked.image,
        flags=(*record.flags, FLAG),
        prompt_id=asked.prompt_id,
        prompt_tokens=None,
        completion_tokens=None,
        cost_usd=None,
        attempts=0,
    )


def _sentence(items: list[Item]) -> str:
    hosts = Counter(_host(item.asked.image) for item in items)
    host, count = hosts.most_common(1)[0]
    of = f" of {host}" if host and count == len(items) else ""
    return f"{len(items):,} images{of} are one picture and were asked once ({items[0].asked.image})"


def _host(image: str) -> str:
    scheme, slashes, rest = image.partition("://")
    return rest.partition("/")[0] if slashes and scheme.lower() in ("http", "https") else ""
