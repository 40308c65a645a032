"""The service, without sockets: a request in, a response out. Seeded and on a clock.

Written from the service's public documentation and captures alone; shares nothing with the
client, so that a wrong reading on one side shows as a disagreement between the two.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import json
import random
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.clock import Clock
from pipeline.sim import lies
from pipeline.sim.describe import BadImage, Seen, see
from pipeline.sim.faults import faulty
from pipeline.sim.knobs import Knobs
from pipeline.sim.limits import Limit
from pipeline.sim.wire import Refusal, Response, error_body, json_response, parsed, parts

DAY, MINUTE = 86_400.0, 60.0


@dataclass(slots=True)
class Logged:
    """One request as it was received and answered."""

    at: float
    path: str
    status: int = 0
    model: str | None = None
    key_sha256: str | None = None
    fault: str | None = None
    prompt: str = ""
    #: For each image: sha256, dhash, mime, width, height, caption; or the URL.
    images: list[dict[str, Any]] = field(default_factory=list)


class Simulator:
    """One simulated service. `handle` is safe to call concurrently on one loop."""

    def __init__(
        self,
        knobs: Knobs,
        *,
        seed: int,
        clock: Clock,
        listen: Callable[[Logged], None] | None = None,
    ) -> None:
        self.knobs = knobs
        self.log: list[Logged] = []
        self._rng = random.Random(seed)
        self._clock = clock
        self._listen = listen
        self._started = clock.now()
        self._completions = 0
        self._seen: OrderedDict[str, Seen] = OrderedDict()
        self._limits: dict[str, list[tuple[str, Limit]]] = {}

    async def handle(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> Response:
        """Answer one request; the path is the part behind `/v1`."""
        entry = Logged(at=self._clock.now(), path=path)
        self.log.append(entry)
        key = headers.get("authorization", "").removeprefix("Bearer ").strip()
        entry.key_sha256 = hashlib.sha256(key.encode()).hexdigest() if key else None
        try:
            response = await self._route(method, path, key, body, entry)
        except Refusal as refusal:
            response = self._refused(refusal)
        entry.status = response.status
        if self._listen is not None:
            self._listen(entry)
        return response

    async def _route(
        self, method: str, path: str, key: str, body: bytes, entry: Logged
    ) -> Response:
        if method == "POST" and path == "/chat/completions":
            return await self._chat(key, body, entry)
        if method != "GET":
            raise Refusal(405, "Method Not Allowed")
        if path == "/models":
            return json_response(
                200, {"data": [self._model(*model) for model in self.knobs.models]}
            )
        if path.startswith("/models/") and path.endswith("/endpoints"):
            return self._endpoints(path[len("/models/") : -len("/endpoints")])
        if path.startswith("/model/"):
            return json_response(200, {"data": self._model(*self._find(path[len("/model/") :]))})
        if path in ("/key", "/auth/key"):
            self._check_key(key)
            return json_response(200, {"data": self._key_facts(key)})
        if path == "/credits":
            raise Refusal(403, "Only management keys can perform this operation")
        raise Refusal(404, "Not Found")

    # --- models and keys -----------------------------------------------------------------------

    def _find(self, slug: str) -> tuple[str, float]:
        for model in self.knobs.models:
            if model[0] == slug:
                return model
        raise Refusal(404, f"No endpoints found for {slug}.")

    def _model(self, slug: str, price: float) -> dict[str, Any]:
        words = "0" if price == 0 else f"{price:.12f}".rstrip("0")
        return {
            "id": slug,
            "canonical_slug": slug,
            "name": slug,
            "created": 1724803200,
            "context_length": 1_000_000,
            "architecture": {
                "modality": "text+image->text",
                "input_modalities": ["text", "image"],
                "output_modalities": ["text"],
            },
            "pricing": {"prompt": words, "completion": words, "image": "0", "request": "0"},
            "top_provider": {"context_length": 1_000_000, "max_completion_tokens": 8192},
            "supported_parameters": ["max_tokens", "temperature", "structured_outputs"],
            "expiration_date": None,
        }

    def _endpoints(self, slug: str) -> Response:
        model = self._model(*self._find(slug))
        one = {
            "name": f"Simulator | {slug}",
            "model_id": slug,
            "provider_name": "Simulator",
            "context_length": model["context_length"],
            "pricing": model["pricing"],
            "status": 0,
            "uptime_last_30m": 100,
        }
        return json_response(200, {"data": {"id": slug, "name": slug, "endpoints": [one]}})

    def _check_key(self, key: str) -> None:
        if self.knobs.keys and not key:
            raise Refusal(401, "No auth credentials found")
        revoked = self.knobs.revoked_after
        if (self.knobs.keys and key not in self.knobs.keys) or (
            revoked is not None and self._completions >= revoked
        ):
            raise Refusal(401, "User not found.")

    def _key_facts(self, key: str) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "label": "sk-or-v1-sim...sim",
            "limit": None,
            "usage": 0,
            "is_free_tier": self.knobs.free_tier,
            "rate_limit": {"requests": -1, "interval": "10s", "note": "deprecated"},
        }
        if self.knobs.rpd is not None and self.knobs.limits == "account":
            used = dict(self._limits_of(key, "")).get("day")
            count = used.used(self._clock.now()) if used is not None else 0
            facts["free_model_daily_requests"] = {
                "used": count,
                "limit": self.knobs.rpd,
                "remaining": max(0, self.knobs.rpd - count),
            }
        return facts

    # --- limits --------------------------------------------------------------------------------

    def _limits_of(self, key: str, model: str) -> list[tuple[str, Limit]]:
        whose = key if self.knobs.limits == "account" else f"{key}\0{model}"
        if whose not in self._limits:
            made: list[tuple[str, Limit]] = []
            if self.knobs.rpd is not None:
                made.append(("day", Limit(self.knobs.rpd, DAY, "fixed")))
            if self.knobs.rpm is not None:
                made.append(("minute", Limit(self.knobs.rpm, MINUTE, self.knobs.window)))
            self._limits[whose] = made
        return self._limits[whose]

    def _count(self, key: str, model: str) -> None:
        """Count this request against every limit; Refusal for the first that is full."""
        now = self._clock.now()
        limits = self._limits_of(key, model)
        full = next(((name, limit) for name, limit in limits if not limit.allows(now)), None)
        for _, limit in limits:
            if full is None or (self.knobs.count_refused and limit.window == "fixed"):
                limit.hit(now)
        if full is not None:
            raise self._too_many(*full, model, now)

    def _too_many(self, name: str, limit: Limit, model: str, now: float) -> Refusal:
        headers = {
            "X-RateLimit-Limit": str(limit.count),
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": str(int(limit.resets_at(now) * 1000)),
        }
        if self.knobs.limits == "model":
            kind = "rpd" if name == "day" else "rpm"
            message = (
                f"Rate limit exceeded: limit_{kind}/{model}/54276bca-0000-4000-8000-000000000000"
            )
            return Refusal(429, message, headers=headers, provider_name="Simulator")
        if name == "day":
            message = (
                "Rate limit exceeded: free-models-per-day. "
                "Add 10 credits to unlock 1000 free model requests per day"
            )
            source = "openrouter_free_tier_daily"
        else:
            message = "Rate limit exceeded: free-models-per-min. "
            source = "openrouter_free_tier_per_minute"
        return Refusal(429, message, headers=headers, limit_source=source, provider_name=None)

    # --- chat ----------------------------------------------------------------------------------

    async def _chat(self, key: str, body: bytes, entry: Logged) -> Response:
        self._check_key(key)
        asked = parsed(body)
        slug = asked.get("model")
        if not isinstance(slug, str):
            raise Refusal(400, "model: a string is required")
        entry.model = slug
        gone = self.knobs.gone_after
        known = slug in dict(self.knobs.models)
        if not known or (gone is not None and self._completions >= gone):
            raise Refusal(400, f"{slug} is not a valid model ID")
        self._count(key, slug)
        self._completions += 1
        broke = self.knobs.broke_after
        if broke is not None and self._completions > broke:
            raise Refusal(402, "Insufficient credits. Add more using https://openrouter.ai/credits")
        texts, urls = parts(asked.get("messages"))
        entry.prompt = "\n".join(texts)
        seen = [await self._look(url) for url in urls]
        entry.images = [asdict(one) if isinstance(one, Seen) else one for one in seen]
        delay = self._rng.uniform(*self.knobs.latency)
        since = self._clock.now() - self._started
        outage = self.knobs.outage
        if outage is not None and outage[0] <= since < outage[1]:
            entry.fault = "outage"
            return faulty("http_502", delay)
        if self._rng.random() < self.knobs.faulty:
            entry.fault = self._rng.choice(self.knobs.faults)
            return faulty(entry.fault, delay, self._answer(asked, seen, entry))
        return json_response(
            200, self._answer(asked, seen, entry), delay=delay, padding=self.knobs.padding
        )

    async def _look(self, url: str) -> Seen | dict[str, Any]:
        """What an image part holds: decoded pixels, or the URL that would be fetched."""
        if not url.startswith("data:"):
            if not url.startswith(("http://", "https://")) or not self.knobs.fetches_urls:
                raise Refusal(400, "Failed to extract 1 image(s).")
            digest = hashlib.sha256(url.encode()).hexdigest()
            caption = f"The picture at an address whose hash is {digest[:12]}."
            return {"url": url, "sha256": digest, "caption": caption}
        head, comma, text = url.partition(",")
        mime = head[5:].removesuffix(";base64")
        if not comma or not head.endswith(";base64"):
            raise Refusal(400, "Failed to extract 1 image(s).")
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise Refusal(400, "Failed to extract 1 image(s).") from None
        if mime not in ("image/png", "image/jpeg", "image/webp"):
            raise self._provider(400, f"Unsupported MIME type: {mime}")
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self._seen:
            try:
                self._seen[digest] = await asyncio.get_running_loop().run_in_executor(
                    None, see, data, mime
                )
            except BadImage:
                raise self._provider(400, "Provided image is not valid.") from None
            while len(self._seen) > 10_000:
                self._seen.popitem(last=False)
        return self._seen[digest]

    def _provider(self, status: int, message: str) -> Refusal:
        raw = json.dumps(
            {"error": {"code": status, "message": message, "status": "INVALID_ARGUMENT"}}
        )
        return Refusal(status, "Provider returned error", raw=raw, provider_name="Simulator")

    def _answer(
        self, asked: dict[str, Any], seen: list[Seen | dict[str, Any]], entry: Logged
    ) -> dict[str, Any]:
        """The completion for these images."""
        facts = [asdict(one) if isinstance(one, Seen) else one for one in seen]
        if any(int(str(one["sha256"])[:8], 16) / 2**32 < self.knobs.refused for one in facts):
            return self._completion(asked, None, facts, finish="content_filter", native="SAFETY")
        captions = [str(one["caption"]) for one in facts]
        if not captions:
            return self._completion(asked, "There is no image in this request.", facts)
        if len(captions) == 1 and '"captions"' not in entry.prompt:
            return self._completion(asked, captions[0], facts)
        listed = [{"image": n, "caption": text} for n, text in enumerate(captions, 1)]
        content = json.dumps({"captions": listed})
        if len(captions) > 1 and self._rng.random() < self.knobs.lying:
            lie = self._rng.choice(self.knobs.lies)
            entry.fault = f"lie_{lie}"
            content = lies.told(lie, listed, self._rng)
        return self._completion(asked, content, facts)

    def _completion(
        self,
        asked: dict[str, Any],
        content: str | None,
        facts: list[dict[str, Any]],
        finish: str = "stop",
        native: str = "STOP",
    ) -> dict[str, Any]:
        slug = str(asked["model"])
        rerouted = self.knobs.rerouted_after
        price = dict(self.knobs.models).get(slug, 0.0)
        if rerouted is not None and self._completions > rerouted:
            slug, price = "simulator/paid", 1e-6
        inwards = 8 + sum(self._tokens(one) for one in facts)
        outwards = len((content or "").split()) * 4 // 3
        limit = asked.get("max_tokens")
        if content and isinstance(limit, int) and outwards > limit:
            words = content.split(" ")
            content, outwards = " ".join(words[: max(0, limit * 3 // 4)]), limit
            finish, native = "length", "MAX_TOKENS"
        return {
            "id": f"gen-{int(self._clock.now())}-{self._rng.getrandbits(80):020x}",
            "provider": "Simulator",
            "model": slug,
            "object": "chat.completion",
            "created": int(self._clock.now()),
            "choices": [
                {
                    "index": 0,
                    "finish_reason": finish,
                    "native_finish_reason": native,
                    "message": {"role": "assistant", "content": content, "refusal": None},
                }
            ],
            "usage": {
                "prompt_tokens": inwards,
                "completion_tokens": outwards,
                "total_tokens": inwards + outwards,
                "cost": (inwards + outwards) * price,
            },
        }

    def _tokens(self, facts: dict[str, Any]) -> int:
        """258 an image (2024), or 258 a tile (2025)."""
        if self.knobs.tokens == "flat" or "width" not in facts:
            return 258
        width, height = int(facts["width"]), int(facts["height"])
        if max(width, height) <= 384:
            return 258
        unit = min(768, max(256, int(min(width, height) / 1.5)))
        return -(-width // unit) * -(-height // unit) * 258

    # --- refusals

    def _refused(self, refusal: Refusal) -> Response:
        metadata = dict(refusal.metadata)
        headers: dict[str, str] = {}
        rate = metadata.get("headers")
        if rate is not None:
            if self.knobs.rate_headers in ("http", "both"):
                headers.update(rate)
            if self.knobs.rate_headers in ("http", "none"):
                del metadata["headers"]
            if self.knobs.retry_after:
                wait = int(rate["X-RateLimit-Reset"]) / 1000 - self._clock.now()
                headers["Retry-After"] = str(max(1, int(wait) + 1))
        return json_response(
            refusal.status, error_body(refusal.status, refusal.message, metadata), headers
        )
