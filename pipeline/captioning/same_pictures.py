"""Images with equal bytes are asked once a run: dead links that all lead to a host's one "no longer
available" picture, copies of a file.

The first one is asked, the others get its result under their own keys when the run ends: until
then its answer may still be withdrawn (`doubted_answers.py`). A run that is killed before asks one
of them again. Whose URL the service fetches itself is asked by itself: its bytes are not known.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pipeline.model import DOUBTED, Image, Item, Record

#: Pictures that are remembered: the last ones, and those that have come twice.
MOST_PICTURES = 4_096
#: Images that wait for another one's result; what comes beyond that is asked.
MOST_WAITING = 10_000
#: Pictures that the end names.
NAMED = 3
#: The flag of a record that is a copy.
FLAG = "same_picture"


@dataclass(slots=True)
class _Picture:
    first: Item
    record: Record | None = None
    others: list[Item] = field(default_factory=list)


class SamePictures:
    """What a run has prepared, by its bytes and prompt."""

    def __init__(self) -> None:
        self._pictures: OrderedDict[tuple[str, str], _Picture] = OrderedDict()
        self._repeated: dict[tuple[str, str], _Picture] = {}
        self._by_key: dict[str, _Picture] = {}
        self._waiting = 0

    def waits(self, item: Item) -> bool:
        """Was an image with these bytes prepared before? Then this one waits for its result."""
        if item.asked.image_sha256 is None:
            return False
        name = item.asked.image_sha256, item.prompt
        bare = replace(item, image=Image(), source=None)
        picture = self._repeated.get(name) or self._pictures.pop(name, None)
        if picture is None:
            self._pictures[name] = self._by_key[item.asked.key] = _Picture(bare)
            if len(self._pictures) > MOST_PICTURES:
                _, oldest = self._pictures.popitem(last=False)
                self._by_key.pop(oldest.first.asked.key, None)
            return False
        self._repeated[name] = picture
        if picture.first.asked.key == item.asked.key or self._waiting >= MOST_WAITING:
            return False
        picture.others.append(bare)
        self._waiting += 1
        return True

    def landed(self, records: Sequence[Record]) -> None:
        """Results are on disk; the last one of a key counts."""
        for record in records:
            if (picture := self._by_key.get(record.key)) is not None:
                picture.record = record

    def copies(self) -> list[Record]:
        """Results of the images that waited; those whose first has none stay for the next run."""
        return [
            _copied(picture.record, item)
            for picture in self._repeated.values()
            if picture.record is not None and picture.record.error_code != DOUBTED
            for item in picture.others
        ]

    def sentences(self) -> list[str]:
        """Which images are one picture: `10 images of HOST are one picture`."""
        groups = sorted(self._repeated.values(), key=lambda group: -len(group.others))
        groups = [picture for picture in groups if picture.others]
        named = [_sentence([picture.first, *picture.others]) for picture in groups[:NAMED]]
        more = sum(len(picture.others) + 1 for picture in groups[NAMED:])
        return named + ([f"{more:,} more images are copies of each other"] if more else [])


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
