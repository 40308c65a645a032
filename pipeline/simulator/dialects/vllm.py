"""vLLM: integer codes and exception names; in older versions the fields stand at the top."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.simulator.dialects.base import Dialect
from pipeline.simulator.knobs import Knobs
from pipeline.simulator.models import Model
from pipeline.simulator.pictures import Trouble
from pipeline.simulator.wire import Refused

_NAMES = {400: "BadRequestError", 404: "NotFoundError", 500: "InternalServerError"}


class VLLM(Dialect):
    def error(self, knobs: Knobs, status: int, message: str, kind: str = "", **more: Any) -> object:
        kind = kind or _NAMES.get(status, "InternalServerError")
        error = {"message": message, "type": kind, "param": None, "code": status}
        return {"object": "error", **error} if knobs.flat_errors else {"error": error}

    def listed(self, model: Model) -> dict[str, Any]:
        more = {"root": model.id, "parent": None, "max_model_len": model.context}
        return {**super().listed(model), **more, "permission": []}

    def no_key(self, knobs: Knobs) -> Refused:
        return Refused(401, {"error": "Unauthorized"})

    def wrong_key(self, knobs: Knobs) -> Refused:
        return self.no_key(knobs)

    def pictures(self, knobs: Knobs, troubles: Sequence[Trouble]) -> Refused:
        first = troubles[0]
        if first.why in ("extract", "uri"):
            message = "The URL must be either a HTTP, data or file URL."
            if first.part.url.startswith("http"):
                message = f"404, message='Not Found', url='{first.part.url[:200]}'"
        else:
            message = "cannot identify image file <_io.BytesIO object at 0x7f0000000000>"
        return self.refused(knobs, 400, message)

    def many_images(self, knobs: Knobs, count: int) -> Refused:
        return self.refused(
            knobs, 400, f"At most {knobs.max_images} image(s) may be provided in one prompt."
        )

    def too_large(self, knobs: Knobs) -> Refused:
        return self.refused(knobs, 413, "Request Entity Too Large", "BadRequestError")
