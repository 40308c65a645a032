"""The keys of rows under one job: what image, under which recipe, asked in what words.

A job with several prompts asks each with a recipe of its own: that of a job which has only this
prompt. So a prompt that is added, or left out, changes no other one's keys.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.captioning import identity
from pipeline.captioning.contents import Contents, data_uri_sha256, name_of
from pipeline.captioning.file_versions import FileVersions
from pipeline.captioning.prompt import Prompt, as_text
from pipeline.model import Asked, Row
from pipeline.values import dataclass

if TYPE_CHECKING:
    from pipeline.manifest.cells import BatchRows

#: Identities of cells that hold the bytes themselves, or nothing.
_IN_HAND = ("sha256:", "bad:")
#: Identities of what is no file of this machine, most of all.
_NO_FILE = (*_IN_HAND, "url:http", "url:s3:", "url:gs:", "url:hf:")


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedPrompt:
    """One of the prompts of a job."""

    #: None: the only one.
    name: str | None = None
    #: Digest of model, system prompt, template and params (`identity.py`).
    recipe: str
    template: Prompt
    #: Its share of the images under `sample`, beside the others' weights.
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """Gives rows their keys; one a run."""

    prompts: tuple[NamedPrompt, ...]
    #: `prompt.mode`: each image with each prompt, or with one of them.
    mode: Literal["each", "sample"] = "each"
    system: str | None
    #: `images.identity` of the job.
    identity: str
    #: What is known of the pictures' bytes, with `content`.
    contents: Contents | None = None
    #: What is known of the files behind records, with `auto`.
    versions: FileVersions | None = None

    @property
    def recipe(self) -> str:
        """The prompts' recipes as one text, under `sample` with their weights."""
        if len(self.prompts) == 1:
            return self.prompts[0].recipe
        sampled = self.mode == "sample"
        return "+".join(
            f"{prompt.recipe}*{prompt.weight:g}" if sampled else prompt.recipe
            for prompt in self.prompts
        )

    @property
    def recipes(self) -> dict[str, NamedPrompt]:
        """The prompts by their recipes."""
        return {prompt.recipe: prompt for prompt in self.prompts}

    @property
    def prompts_per_row(self) -> int:
        """How often a row is asked: with how many prompts."""
        return len(self.prompts) if self.mode == "each" else 1

    def only(self, name: str) -> Naming:
        """The naming of a job that has the prompt of this name alone; KeyError."""
        return replace(self, prompts=({prompt.name: prompt for prompt in self.prompts}[name],))

    def rows(self, row: Row) -> list[Row]:
        """The row once for each prompt that it is asked with."""
        if len(self.prompts) == 1:
            return [row]
        if self.mode == "sample":
            return [self._sampled(row, self._image(row))]
        return [row, *(replace(row, prompt=number) for number in range(1, len(self.prompts)))]

    def _sampled(self, row: Row, image: str) -> Row:
        """The row with the prompt that its image is asked with: by weighted rendezvous hashing, so
        that another weight, or one more prompt, moves as few images as can be."""

        def distance(number: int) -> float:
            prompt = self.prompts[number]
            text = f"{prompt.name}\n{image}".encode("utf-8", "surrogatepass")
            chance = int.from_bytes(hashlib.sha256(text).digest()[:8]) + 1
            return -math.log(chance / 2**64) / prompt.weight

        return replace(row, prompt=min(range(len(self.prompts)), key=distance))

    def key(self, row: Row) -> str:
        """The key of one row; under `content`, that of its place while its bytes are not known."""
        return self.key_bytes(row).hex()

    def key_bytes(self, row: Row) -> bytes:
        """The 16 bytes of the row's key."""
        return self._key(row, self._image(row))

    def keys_of_all(self, rows: BatchRows) -> bytes:
        """The keys of a batch of rows, one after the other; `prompts_per_row` of each."""
        plain = type(self) is Naming and self.identity == "auto"
        plain = plain and not any(prompt.template.places for prompt in self.prompts)
        if (
            plain
            and self.prompts_per_row == len(self.prompts)
            and (images := rows.plain_images()) is not None
        ):
            prompts = ((prompt.recipe, prompt.template.render({})) for prompt in self.prompts)
            of_each = [plain_keys(recipe, images, text) for recipe, text in prompts]
            if None not in of_each:
                return _interleaved([keys for keys in of_each if keys is not None])
        return b"".join([self.key_bytes(asked) for row in rows for asked in self.rows(row)])

    def named(self, row: Row, digest: bytes) -> tuple[Row, bytes]:
        """A row whose picture has this SHA-256, with the prompt that it is asked with, and its key."""
        return self._named(row, identity.content_identity(digest.hex()))

    def place_key(self, row: Row) -> bytes:
        """The key of a row under `content` before its bytes were known."""
        return self._named(row, identity.image_identity(row.image))[1]

    def _named(self, row: Row, image: str) -> tuple[Row, bytes]:
        if self.mode == "sample" and len(self.prompts) > 1:
            row = self._sampled(row, image)
        return row, self._key(row, image)

    def _key(self, row: Row, image: str) -> bytes:
        prompt = self.prompts[row.prompt]
        return identity.raw_key(prompt.recipe, image, prompt.template.render(row.columns))

    async def stamp(self, row: Row) -> str | None:
        """The stamp of a row's place, to be kept with what is read after it; None: not kept."""
        image = identity.image_identity(row.image)
        known = self.contents or self.versions
        if known is None or image.startswith(_IN_HAND):
            return None
        return await asyncio.to_thread(known.stamp, image)

    def changed(self, row: Row, raw: bytes) -> bool:
        """Is the row's file another version than the record of its key is about? Then it is
        remembered as chosen for that."""
        if self.versions is None or row.bad is not None or not self.versions.any:
            return False
        image = identity.image_identity(row.image)
        if image.startswith(_NO_FILE) or not self.versions.changed(image, raw):
            return False
        self.versions.choose(raw)
        return True

    def keep(self, row: Row, stamp: str | None, digest: bytes) -> None:
        """Remember what a row's place held. stamp: from before the read."""
        if self.contents is not None and stamp is not None:
            self.contents.put(name_of(identity.image_identity(row.image)), stamp, digest)

    def asked(self, row: Row, raw: bytes) -> tuple[Asked, str, str]:
        """What is asked about a row, in what words, and under which recipe. raw: the row's key."""
        prompt = self.prompts[row.prompt]
        text = prompt.template.render(row.columns)
        asked = Asked(
            raw.hex(),
            row.id,
            identity.shown_image(row.image),
            prompt.name or identity.prompt_id(text, self.system),
        )
        return asked, prompt.template.sent(row.columns), prompt.recipe

    def _image(self, row: Row) -> str:
        if row.bad is not None:
            return identity.bad_identity(row.image)
        if not self.identity.startswith("column:"):
            image = identity.image_identity(row.image)
            return image if self.contents is None else self._content(row, image, self.contents)
        return f"id:{as_text(row.columns.get(self.identity.removeprefix('column:')))}"

    def _content(self, row: Row, image: str, contents: Contents) -> str:
        if isinstance(row.image, str) and row.image[:5].lower() == "data:":
            sha256 = data_uri_sha256(row.image)
        else:
            sha256 = None if image.startswith(_IN_HAND) else contents.sha256(image)
        return image if sha256 is None else identity.content_identity(sha256)


def _interleaved(columns: Sequence[bytes]) -> bytes:
    """Keys of each prompt, 16 bytes each -> the keys of each row after one another."""
    if len(columns) == 1:
        return columns[0]
    starts = range(0, len(columns[0]), 16)
    return b"".join([keys[at : at + 16] for at in starts for keys in columns])


def plain_keys(recipe: str, images: pa.Array, prompt: str) -> bytes | None:
    """16 bytes for each image, one after the other; None where an image is none of the plain ones.

    Most manifests hold URLs without a query, or paths, and one prompt for all: naming their rows at
    once, without `identity.py`'s look at each, takes half the time.
    """
    if images.null_count or not len(images):
        return None if images.null_count else b""
    kind = _kind(images)
    if kind is None:
        return None
    head, tail = f"v1\n{recipe}\n{kind}", f"\n{prompt}"
    asked = pc.binary_join_element_wise(head, images, tail, "").cast(pa.binary())
    return b"".join([hashlib.sha256(text).digest()[:16] for text in asked.to_pylist()])


def _kind(images: pa.Array) -> str | None:
    """What all of them are: `url:` without a query, or `path:`."""
    web = pc.or_(pc.starts_with(images, "https://"), pc.starts_with(images, "http://"))
    if web.true_count == len(images):
        return None if pc.any(pc.match_substring(images, "?")).as_py() else "url:"
    # A scheme and a data URI have a colon, a URL without its scheme two slashes; so may a path,
    # which then takes the slow way.
    odd = pc.any(pc.match_substring_regex(images, ":|//")).as_py()
    empty = pc.any(pc.equal(pc.binary_length(images), 0)).as_py()
    return None if odd or empty else "path:"
