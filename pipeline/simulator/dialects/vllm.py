"""vLLM 0.32: integer codes and exception names; in older versions (`flat_errors`) the fields stand
at the top, and the words are others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.simulator.dialects.base import Dialect
from pipeline.simulator.knobs import Knobs
from pipeline.simulator.models import Model
from pipeline.simulator.pictures import Trouble
from pipeline.simulator.wire import Refused

_NAMES = {
    400: "BadRequestError",
    404: "NotFoundError",
    422: "UnprocessableEntityError",
    500: "InternalServerError",
}


class VLLM(Dialect):
    def error(self, knobs: Knobs, status: int, message: str, kind: str = "", **more: Any) -> object:
        kind = kind or _NAMES.get(status, "InternalServerError")
        error = {"message": message, "type": kind, "param": more.get("param"), "code": status}
        return {"object": "error", **error} if knobs.flat_errors else {"error": error}

    def listed(self, model: Model) -> dict[str, Any]:
        more = {"root": model.id, "parent": None, "max_model_len": model.context}
        return {**super().listed(model), **more, "permission": []}

    def no_key(self, knobs: Knobs) -> Refused:
        return Refused(401, {"error": "Unauthorized"})

    def wrong_key(self, knobs: Knobs) -> Refused:
        return self.no_key(knobs)

    def pictures(self, knobs: Knobs, troubles: Sequence[Trouble]) -> Refused:
        first, status = troubles[0], 400
        if first.why in ("extract", "uri") and first.part.url.startswith("http"):
            if knobs.flat_errors:
                message = f"404, message='Not Found', url='{first.part.url[:200]}'"
            else:
                # 0.32: the host and path that it asked for stand in the message.
                asked = f"(parameter=image_url, value={first.part.url[:200]})"
                status, message = 422, f"Failed to fetch media from URL: HTTP 404 error {asked}"
        elif first.why in ("extract", "uri"):
            message = "The URL must be either a HTTP, data or file URL."
        else:
            message = "cannot identify image file <_io.BytesIO object>"
            message = message if knobs.flat_errors else f"Failed to load image: {message}"
        return self.refused(knobs, status, message)

    def many_images(self, knobs: Knobs, count: int) -> Refused:
        message = f"At most {knobs.max_images} image(s) may be provided in one prompt."
        if knobs.flat_errors:
            return self.refused(knobs, 400, message)
        return self.refused(knobs, 400, f"{message} (parameter=image)", param="image")

    def too_long(self, knobs: Knobs, model: Model, tokens: int) -> Refused:
        if knobs.flat_errors:
            return super().too_long(knobs, model, tokens)
        # The number is a lower bound: it stops counting there.
        message = (
            f"This model's maximum context length is {model.context} tokens. However, your prompt "
            f"contains at least {model.context + 1} input tokens."
        )
        return self.refused(knobs, 400, message, param="input_tokens")

    def server(self, knobs: Knobs, status: int, model: Model) -> Refused:
        if knobs.flat_errors or status != 500:
            return super().server(knobs, status, model)
        message = "EngineCore encountered an issue. See stack trace (above) for the root cause."
        return self.refused(knobs, status, message)

    def too_large(self, knobs: Knobs) -> Refused:
        return self.refused(knobs, 413, "Request Entity Too Large", "BadRequestError")
