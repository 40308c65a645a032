"""The keys of rows under one job: what image, under which recipe, asked in what words."""

from __future__ import annotations

from pipeline.captioning import identity
from pipeline.captioning.prompt import Prompt, as_text
from pipeline.model import Asked, Row
from pipeline.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """Gives rows their names; one a run."""

    recipe: str
    prompt: Prompt
    system: str | None
    #: `images.identity` of the job.
    identity: str

    def key(self, row: Row) -> str:
        """The key of one row. Pure."""
        return self.raw(row).hex()

    def raw(self, row: Row) -> bytes:
        """The 16 bytes of the row's key."""
        return identity.raw_key(self.recipe, self._image(row), self.prompt.render(row.columns))

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
            return identity.image_identity(row.image)
        return f"id:{as_text(row.columns.get(self.identity.removeprefix('column:')))}"
