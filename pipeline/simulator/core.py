"""The service, without sockets: a request in, a response out. Seeded and on a clock.

Written from the service's public documentation and captures alone; shares nothing with the
client, so that a wrong reading on one side shows as a disagreement between the two. The order of
checks is the service's: edge, key, shape of the body, model, credit, limits, provider, images,
safety; what comes after the limits counts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from email.utils import formatdate

from pipeline.clock import Clock
from pipeline.simulator.accounts import Accounts, cost
from pipeline.simulator.answers import Said, generation_id, prompt_tokens, say
from pipeline.simulator.calls import Call, received
from pipeline.simulator.describe import Seen
from pipeline.simulator.dialects.base import Generation
from pipeline.simulator.dialects.table import DIALECTS
from pipeline.simulator.faults import Journey, deliver, is_free, moves_on
from pipeline.simulator.knobs import Knobs
from pipeline.simulator.limits import Meters, Seats
from pipeline.simulator.log import Logged
from pipeline.simulator.lookups import look_up
from pipeline.simulator.models import Model
from pipeline.simulator.parse_options import changed
from pipeline.simulator.parse_request import Asked, Bad, read
from pipeline.simulator.pictures import Fetched, ImageDecoder, Look, Trouble
from pipeline.simulator.rng import Bursts, Draw, Luck, latency, one_of
from pipeline.simulator.wire import Refused, SimResponse


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
        self.clock = clock
        #: What was received, oldest first; at most `knobs.log_kept`.
        self.log: deque[Logged] = deque(maxlen=knobs.log_kept)
        self._listen = listen
        self._started = clock.now()
        self._luck = Luck(seed)
        self._bursts = Bursts(seed, self._started)
        self._meters = Meters()
        self._accounts = Accounts()
        self._eyes = ImageDecoder()
        self._seats = Seats()
        #: Models that answered so far: the ones that `gone_after` takes away.
        self._served: set[str] = set()

    def turn(self, **changes: object) -> None:
        """Turn knobs in mid-run; ValueError says what is wrong."""
        self.knobs = changed(self.knobs, changes)

    @property
    def base(self) -> str:
        """The path below which this service is found."""
        return DIALECTS[self.knobs.service].base

    @property
    def counted(self) -> int:
        """Chat completions that passed all limits."""
        return self._accounts.counted

    async def handle(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> SimResponse:
        """Answer one request. `path` may begin with a base and hold a query; `body` is None when
        it was longer than `max_body`.
        """
        now = self.clock.now() + self.knobs.skew
        call = received(method, path, headers, body, knobs=self.knobs, now=now)
        self.log.append(call.entry)
        try:
            try:
                response = await self._route(call)
            except Refused as refusal:
                call.entry.error = refusal.note or None
                response = refusal.response()
            call.entry.status = response.status
        finally:
            # Also when the caller hung up meanwhile: it was received all the same.
            if self._listen is not None:
                self._listen(call.entry)
        date = formatdate(call.now, usegmt=True)
        return replace(response, headers={"Date": date, **response.headers})

    async def _route(self, call: Call) -> SimResponse:
        knobs = call.knobs
        if call.path == "/chat/completions":
            if call.method != "POST":
                raise call.dialect.not_allowed(knobs)
            return await self._chat(call)
        if knobs.outage_all and self._out(call):
            call.entry.fault = "outage"
            return self._fail(call, self._luck.draw(b""))
        return look_up(call, self._living(knobs), self._accounts, self._meters)

    def _living(self, knobs: Knobs) -> tuple[Model, ...]:
        """The models, less those that are gone."""
        if knobs.gone_after is None or self.counted < knobs.gone_after:
            return knobs.models
        gone = self._served or {model.id for model in knobs.models[:1]}
        return tuple(model for model in knobs.models if model.id not in gone)

    # --- chat

    async def _chat(self, call: Call) -> SimResponse:
        knobs, dialect, entry = call.knobs, call.dialect, call.entry
        draw = self._luck.draw(call.body or b"")
        asked, refused = self._read(call)
        looks: list[Look] | None = None
        models: list[Model] = []
        if asked is not None and (knobs.tpm is not None or knobs.endpoint_tpm is not None):
            looks = await self._see(asked, call)  # tokens are known only after looking
        out = self._out(call)
        try:
            if not out:
                models = self._admit(call, asked, refused, looks, draw)
        except Refused as refusal:
            refused = refusal
        if asked is not None and looks is None:
            looks = await self._see(asked, call)
        if out:
            entry.fault = "outage"
            return self._fail(call, draw)
        if refused is not None or asked is None or looks is None:
            raise refused or dialect.bad(knobs, "Bad Request")
        response = self._answer(call, asked, models, looks, draw)
        standing = self._meters.standing(knobs, call.account.account, models[0].id, call.now)
        quota = dialect.quota(knobs, standing, call.now)
        return replace(response, headers={**response.headers, **quota}) if quota else response

    def _read(self, call: Call) -> tuple[Asked | None, Refused | None]:
        """The request, or why it cannot be read; told only after the key was looked at."""
        knobs, entry = call.knobs, call.entry
        if call.body is None or len(call.body) > knobs.max_body:
            return None, call.dialect.too_large(knobs)
        try:
            asked = read(call.body)
        except Bad as bad:
            return None, call.dialect.bad(knobs, str(bad))
        entry.model, entry.prompt = asked.model, asked.prompt
        entry.stream, entry.count = asked.stream, len(asked.images)
        return asked, None

    async def _see(self, asked: Asked, call: Call) -> list[Look]:
        looks = [await self._eyes.look(part, call.knobs) for part in asked.images]
        call.entry.images = [look.facts() for look in looks]
        return looks

    def _admit(
        self,
        call: Call,
        asked: Asked | None,
        refused: Refused | None,
        looks: list[Look] | None,
        draw: Draw,
    ) -> list[Model]:
        """The model that will answer, and those after it; Refused when there is none. Counts the
        request.
        """
        knobs, dialect = call.knobs, call.dialect
        self._accounts.authorize(call.account, knobs, dialect)
        if asked is None:
            raise refused or dialect.bad(knobs, "Bad Request")
        good = [picture for picture in looks or () if not isinstance(picture, Trouble)]
        tokens = prompt_tokens(asked, good, knobs)
        candidates = self._candidates(call, asked)
        for at, model in enumerate(candidates):
            try:
                self._pass(call, asked, model, tokens, draw)
            except Refused as refusal:
                if refusal.moves_on and model is not candidates[-1]:
                    continue
                raise
            self._accounts.counted += 1
            self._served.add(model.id)
            return candidates[at:]
        raise dialect.unknown_model(knobs, asked.model)

    def _candidates(self, call: Call, asked: Asked) -> list[Model]:
        """The model and its fallbacks; one that is dead fails the whole request."""
        knobs, dialect = call.knobs, call.dialect
        known = {model.id: model for model in knobs.models}
        living = {model.id for model in self._living(knobs)}
        fallbacks = asked.fallbacks if dialect.accounts else ()
        wanted = dict.fromkeys(dialect.slug(slug) for slug in (asked.model, *fallbacks))
        for slug in wanted:
            if slug not in known:
                raise dialect.unknown_model(knobs, slug)
            if slug not in living:
                raise dialect.gone(knobs, slug)
        return [known[slug] for slug in wanted]

    def _pass(self, call: Call, asked: Asked, model: Model, tokens: int, draw: Draw) -> None:
        """One model's checks: routing, credit, our limits, the provider's."""
        knobs, dialect, account, now = call.knobs, call.dialect, call.account.account, call.now
        dialect.check(asked, model, knobs)
        if knobs.max_images is not None and len(asked.images) > knobs.max_images:
            raise dialect.many_images(knobs, len(asked.images))
        self._accounts.afford(call.account, asked, model, knobs, dialect, now)
        full = self._meters.full(knobs, account, model.id, now, tokens)
        if full is not None:
            if knobs.count_refused:
                self._meters.count(knobs, account, model.id, now, tokens, over=True)
            raise dialect.too_many(knobs, full, model, now)
        overrun = self._bursts.on(knobs, now) and draw.upstream < knobs.upstream_share
        if not overrun or knobs.count_refused:
            self._meters.count(knobs, account, model.id, now, tokens, over=False)
        if overrun:
            call.entry.fault = "upstream"
            form = one_of(knobs.upstream_forms, draw.upstream / knobs.upstream_share)
            raise dialect.upstream(knobs, form, model, self._bursts.ends_at(now) - now)

    def _answer(
        self, call: Call, asked: Asked, models: list[Model], looks: list[Look], draw: Draw
    ) -> SimResponse:
        knobs, dialect, entry, model = call.knobs, call.dialect, call.entry, models[0]
        good: list[Seen | Fetched] = []
        troubles: list[Trouble] = []
        for look in looks:
            if isinstance(look, Trouble):
                troubles.append(look)
            else:
                good.append(look)
        if troubles:
            raise dialect.pictures(knobs, troubles)
        said = say(asked, good, model, knobs, draw)
        if said.prompt_tokens > model.context:
            raise dialect.too_long(knobs, model, said.prompt_tokens)
        if said.block:
            raise dialect.blocked(knobs, said.block, asked, model)
        if asked.tier == "flex" and model.flex and self._within(call, knobs.flex_full):
            raise dialect.flex_full(knobs)
        delay = latency(knobs, draw.latency, len(good))
        if knobs.slots is not None:
            wait = self._seats.take(call.now, delay, knobs.slots, knobs.queue)
            if wait is None:
                raise dialect.busy(knobs)
            delay += wait
        fault = one_of(knobs.faults, draw.fault_kind) if draw.fault < knobs.faulty else None
        if moves_on(fault) and len(models) > 1:
            model, fault = models[1], None
        entry.fault = fault or (f"lie_{said.lie}" if said.lie else None)
        got = self._generation(call, asked, model, said, delay, draw)
        if is_free(fault):
            got = replace(got, cost=0.0)
        self._accounts.record(call.account, got, knobs)
        entry.generation, entry.served, entry.cost = got.id, got.slug, got.cost
        entry.prompt_tokens, entry.completion_tokens = said.prompt_tokens, said.completion_tokens
        return deliver(got, _journey(call, draw, delay), fault)

    def _generation(
        self, call: Call, asked: Asked, model: Model, said: Said, delay: float, draw: Draw
    ) -> Generation:
        """The answer, priced; by another model where the knobs reroute."""
        knobs = call.knobs
        if knobs.rerouted_after is not None and self.counted > knobs.rerouted_after:
            fallback = Model(id=knobs.rerouted_to, prompt=1e-6, completion=1e-6)
            model = next((m for m in knobs.models if m.id == knobs.rerouted_to), fallback)
        free = said.completion_tokens == 0 and said.finish != "stop"
        price = cost(model, said.prompt_tokens, said.completion_tokens, len(asked.images))
        flex = asked.tier == "flex" and model.flex
        price = price / 2 if flex else price
        return Generation(
            id=generation_id(call.now, draw.rest),
            created=int(call.now),
            model=model,
            slug=(model.permaslug or model.id) if knobs.permaslugs else model.id,
            said=said,
            cost=0.0 if free else price,
            usage=asked.usage,
            streamed=asked.stream,
            latency=delay,
            tier="flex" if flex else "default" if asked.tier else "",
        )

    # --- outages

    def _out(self, call: Call) -> bool:
        """Is the whole service down?"""
        return self._within(call, call.knobs.outage)

    def _within(self, call: Call, span: tuple[float, float] | None) -> bool:
        """Is it between these seconds since the start?"""
        since = call.now - call.knobs.skew - self._started
        return span is not None and span[0] <= since < span[1]

    def _fail(self, call: Call, draw: Draw) -> SimResponse:
        """What the edge answers while everything behind it is down."""
        model = Model(id=call.entry.model or "", provider="Simulator")
        nothing = Generation(
            id="", created=int(call.now), model=model, slug=model.id, said=Said(content="")
        )
        return deliver(nothing, _journey(call, draw, 0.0), call.knobs.outage_as)


def _journey(call: Call, draw: Draw, delay: float) -> Journey:
    return Journey(dialect=call.dialect, knobs=call.knobs, draw=draw, delay=delay)
