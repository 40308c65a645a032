"""The keys of rows under one job: what image, under which recipe, asked in what words."""

from __future__ import annotations

import asyncio

from pipeline.captioning import identity
from pipeline.captioning.contents import Contents, data_uri_sha256, name_of
from pipeline.captioning.file_versions import FileVersions
from pipeline.captioning.prompt import Prompt, as_text
from pipeline.model import Asked, Row
from pipeline.values import dataclass

#: Identities of cells that hold the bytes themselves, or nothing.
_IN_HAND = ("sha256:", "bad:")
#: Identities of what is no file of this machine, most of all.
_NO_FILE = (*_IN_HAND, "url:http", "url:s3:", "url:gs:", "url:hf:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """Gives rows their names; one a run."""

    recipe: str
    prompt: Prompt
    system: str | None
    #: `images.identity` of the job.
    identity: str
    #: What is known of the pictures' bytes, with `content`.
    contents: Contents | None = None
    #: What is known of the files behind records, with `auto`.
    versions: FileVersions | None = None

    def key(self, row: Row) -> str:
        """The key of one row; under `content`, that of its place while its bytes are not known."""
        return self.raw(row).hex()

    def raw(self, row: Row) -> bytes:
        """The 16 bytes of the row's key."""
        return identity.raw_key(self.recipe, self._image(row), self.prompt.render(row.columns))

    def raw_of(self, row: Row, digest: bytes) -> bytes:
        """The key of a row whose picture has this SHA-256."""
        image = identity.content_identity(digest.hex())
        return identity.raw_key(self.recipe, image, self.prompt.render(row.columns))

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

    def asked(self, row: Row, raw: bytes) -> tuple[Asked, str]:
        """What is asked about a row, and in what words. raw: the row's key."""
        prompt = self.prompt.render(row.columns)
        asked = Asked(
            raw.hex(),
            row.id,
            identity.shown_image(row.image),
            identity.prompt_id(prompt, self.system),
        )
        return asked, prompt

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
