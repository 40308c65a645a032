"""One request to its end: permit, send, durable reply, settle the good, decide about the rest.

Nothing is decided here that `retry.decide` (or the pool, for packs) has not decided; nothing is
counted as done before `checkpoint.reply` or `checkpoint.settle` has returned, which is when it
is on disk. `Stopped` from the gate leaves the request's images unsettled: the next run asks.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.aio import set_within
from pipeline.captioning.attribution import Attribution
from pipeline.captioning.body import body_of
from pipeline.captioning.doubted_answers import Attempt, Doubts
from pipeline.captioning.fields import Fields
from pipeline.captioning.finalize import unanswered
from pipeline.captioning.interpret import ReplyOutcome, date_of, failure, no_caption, stop_reason
from pipeline.captioning.pack import ALONE_AFTER
from pipeline.captioning.parse_reply import caption_of
from pipeline.captioning.request_result import RequestResult, with_next_attempt, without_record
from pipeline.captioning.retry import Action, RetryDecision, decide
from pipeline.captioning.second import SecondQuestions
from pipeline.clock import Clock, micros
from pipeline.errors import (
    Exit,
    ImageError,
    NoReply,
    SourceUnavailable,
    Stopped,
    StopReason,
)
from pipeline.model import Item, Record, Request, Sent
from pipeline.ratelimit.rules.base import LIMITED
from pipeline.service.models import Model
from pipeline.service.preflight import estimate, unasked_price
from pipeline.service.retry_after import limits_told
from pipeline.values import dataclass
from pipeline.verdict import OPEN, Kind, Scope, Verdict

if TYPE_CHECKING:
    from pipeline.captioning.pack_sizes import Packing
    from pipeline.captioning.progress import Progress
    from pipeline.captioning.request_shape import RequestShape
    from pipeline.captioning.sources import Sources
    from pipeline.images.load import Images
    from pipeline.ratelimit.protocol import RequestGate
    from pipeline.ratelimit.rules.base import Permit
    from pipeline.service.client import Client
    from pipeline.service.endpoint import Endpoint
    from pipeline.service.wire import Wire
    from pipeline.store.store import Checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Captioner:
    """What a request needs on its way; opened by the caller, one a run."""

    client: Client
    gate: RequestGate
    checkpoint: Checkpoint
    images: Images
    clock: Clock
    rng: random.Random
    wire: Wire
    endpoint: Endpoint
    model: Model
    run_id: str
    #: `retry.attempts`
    attempts: int
    packing: Packing
    progress: Progress
    sources: Sources
    doubts: Doubts
    shape: RequestShape
    attribution: Attribution
    fields: Fields
    second: SecondQuestions
    #: The job's name of the model, where the endpoint has another one; and the endpoint's name, where
    #: there are several: then what is to be asked again goes back to whoever chooses among them.
    job_model: str | None = None
    endpoint_name: str = ""

    async def settle(
        self, request: Request, permit: Permit | None = None, attempt: int = 0
    ) -> RequestResult:
        """Take one request to its end. Images stay unsettled when the run is ending, as the gate's
        reason tells. permit: for its first attempt, if there is one; attempt: how many there were."""
        if request.form in ("audit", "again", "second"):
            return await self._follow_up(request, permit)
        ready = request
        if self.images.any_inline:
            ready = replace(request, items=await self._as_bytes(request.items))
            if not ready.items:
                if permit is not None:
                    self.gate.give_back(permit)
                return RequestResult(request=request)
        return await self._attempts(request, ready, permit, attempt)

    async def _attempts(
        self, first: Request, request: Request, permit: Permit | None, attempt: int
    ) -> RequestResult:
        """Ask, and ask again what is left of it, as `retry` decides. first: the request as it came."""
        body = self.body(request)
        audits: tuple[Item, ...] = ()
        since = began = self.clock.monotonic()
        errors: set[str] = set()
        while True:
            attempt += 1
            since, began = began, self.clock.monotonic()
            items = request.items
            try:
                sent, outcome = await self.ask(request, body, attempt, permit)
            except Stopped:
                return RequestResult(request=first, undone=items, audits=audits)
            permit = None
            audits += self.packing.record_result(request, sent, outcome)
            self.second.consider(items, outcome.records)
            rest = without_record(items, outcome.records)
            verdict = outcome.verdict
            if self.shape.drops_schema(request, verdict):
                body = self.body(request)
                continue
            errors.add(f"{outcome.row.status} {verdict.message}")
            if verdict.kind is Kind.OK:
                self.images.fetched(item.image.url for item in items)
                await self.attribution.answered(self, sent, items[0])
            elif self.gate.circuit.suspicious and not verdict.busy:
                await self.attribution.suspect(self)
            if not rest:
                return RequestResult(request=first, verdict=verdict, audits=audits)
            attempts = attempt if verdict.busy else min(item.asked.attempts for item in rest)
            decision = self._decide(verdict, request, rest, attempts, since)
            if decision.action is Action.STOP:
                if await self.attribution.may_recover(self, verdict, sent):
                    continue
                self.gate.stop(stop_reason(verdict))
                return RequestResult(request=first, undone=rest, audits=audits)
            if decision.action in _GIVES_UP:
                ended = await self._give_up(request, rest, decision, sent, outcome, since, errors)
                if ended is not None:
                    return replace(ended, request=first, audits=audits)
            if decision.spends:
                rest = await self._spend(rest, sent, outcome)
            if decision.action is Action.RELOAD:
                rest = await self._reload(rest)
            elif len(items) > 1 and (
                decision.action is Action.SPLIT or verdict.kind not in _ASKED_WHOLE
            ):
                return RequestResult(
                    request=first, left=rest, decision=decision, verdict=verdict, audits=audits
                )
            ends = not rest or await set_within(self.gate.stopped, decision.delay)
            if ends or self.endpoint_name:
                return RequestResult(request=first, verdict=verdict, audits=audits, undone=rest)
            request = replace(request, items=rest)
            body = self.body(request)

    async def _give_up(
        self,
        request: Request,
        rest: tuple[Item, ...],
        decision: RetryDecision,
        sent: Sent,
        outcome: ReplyOutcome,
        since: float,
        errors: Collection[str],
    ) -> RequestResult | None:
        """No attempt is left: whose fault it is, the images' or the service's. None: a pack is to be
        searched. since: when the attempt before this one began; errors: those of all attempts."""
        verdict = outcome.verdict
        if await self.attribution.blames_service(self, verdict, request, since):
            decision = replace(decision, action=Action.FAIL)
            return RequestResult(request=request, left=rest, decision=decision, verdict=verdict)
        if decision.action is not Action.FAIL:
            return None
        if verdict.kind in OPEN and len(request.items) == 1:
            record = no_caption(self, request.items[0], sent, outcome)
            await self.attribution.refused(self, request.items[0], record, verdict)
        else:
            await self._fail(rest, sent, outcome)
            if outcome.row.status == _EACH_TIME and len(errors) == 1:
                self.attribution.lasting(self, len(rest), since)
        return RequestResult(request=request, verdict=verdict)

    async def _follow_up(self, request: Request, permit: Permit | None) -> RequestResult:
        """Ask about images that have their captions: to compare an answer with them, or for typed
        fields. Without an answer they stay as they are."""
        body, attempt = self.body(request), 0
        while attempt < self.attempts:
            attempt += 1
            try:
                _, outcome = await self.ask(request, body, attempt, permit)
            except Stopped:
                break
            permit = None
            verdict = outcome.verdict
            if self.shape.drops_schema(request, verdict):
                body = self.body(request)
                continue
            if request.form != "audit" and outcome.records:
                return RequestResult(request=request, verdict=verdict)
            if request.form == "audit" and verdict.kind is Kind.OK and outcome.completion:
                item = request.items[0]
                again = self.packing.audited(item, caption_of(outcome.completion.content))
                return RequestResult(
                    request=request, verdict=verdict, audits=(item,) if again else ()
                )
            decision = self._decide(verdict, request, (), attempt, before=0.0)
            if decision.action is Action.STOP:
                self.gate.stop(stop_reason(verdict))
            if decision.action is not Action.RETRY:
                break
            if await set_within(self.gate.stopped, decision.delay):
                break
        ended = self.gate.reason or self.gate_of(request).reason
        self.second.reason = ended or self.second.reason
        return RequestResult(request=request, undone=request.items if ended else ())

    def _decide(
        self, verdict: Verdict, request: Request, rest: Sequence[Item], attempts: int, before: float
    ) -> RetryDecision:
        """`retry.decide` for the images without a record. A pack that fails while others are answered
        holds an image that breaks the reply: it is searched before its attempts are used up."""
        packed = len(request.items) > 1
        searched = packed and self.gate.circuit.answered_since(before)
        return decide(
            verdict,
            attempts=attempts,
            allowed=min(self.attempts, ALONE_AFTER) if searched else self.attempts,
            packed=packed,
            by_url=any(item.image.url is not None for item in rest),
            rng=self.rng,
        )

    def body(self, request: Request) -> bytes:
        """The request as the wire wants it."""
        wire = self.wire
        if (form := self.second.form_of(request)) is not None:
            wire, request = form.wire, form.request(request, fields=bool(self.fields))
        return body_of(request, wire, self.fields, schema=self.shape.sends_schema)

    def gate_of(self, request: Request) -> RequestGate:
        """Whose limits the request counts in: another model's may be its own."""
        form = self.second.form_of(request)
        return (form and form.gate) or self.gate

    def cost_of(self, request: Request) -> float:
        """Dollars that it may cost, at the prices of the model it goes to."""
        form = self.second.form_of(request)
        if not (model := (form and form.model) or self.model).prices:
            return 0.0
        tokens_in, tokens_out, images = request.tokens_in, request.tokens_out, len(request.items)
        return estimate(model, tokens_in=tokens_in, tokens_out=tokens_out, images=images)

    async def keep(self, items: Sequence[Item], records: Sequence[Record]) -> None:
        """Store records that come from no reply, one an item."""
        await self.checkpoint.settle(records)

    async def _permit(self, request: Request) -> Permit:
        """Leave to send it. Raises Stopped."""
        if (full := self.checkpoint.full()) is not None:
            self.gate.stop(StopReason(exit=full.exit_code, message=str(full), resume_after=None))
        if self.checkpoint.crowded:
            await self.checkpoint.room()
        tokens, cost = request.tokens_in + request.tokens_out, self.cost_of(request)
        return await self.gate_of(request).permit(tokens=tokens, cost_usd=cost)

    async def ask(
        self, request: Request, body: bytes, attempt: int, permit: Permit | None = None
    ) -> tuple[Sent, ReplyOutcome]:
        """One HTTP attempt; returns when its outcome is on disk. Raises Stopped."""
        asked, gate = self.clock.monotonic(), self.gate_of(request)
        permit = permit or await self._permit(request)
        sent = self._sent(request, attempt, waited=self.clock.monotonic() - asked)
        keys = [item.asked.key for item in request.items]
        try:
            try:
                attempt_sent = Attempt(gate, permit, request.items, sent)
                reply = await self.client.send(body, attempt_sent)
            except NoReply as lost:
                return sent, await self._lost(gate, permit, sent, lost, keys)
            except BaseException:
                # Cancelled in flight: the reservation stays spent, the slot comes back.
                gate.report(permit, None, tokens=None, cost_usd=None, images=keys)
                raise
            if (date := date_of(reply)) is not None:
                gate.heard_date(date, permit)
            if self.endpoint.profile.windows:
                gate.heard_limits(limits_told(reply.headers, self.endpoint.profile.windows))
            outcome, _ = await self.checkpoint.reply(sent, reply)
        finally:
            await self.client.release()
        assert isinstance(outcome, ReplyOutcome)
        if outcome.verdict.forbidden and self.gate.circuit.answered:
            # With the same key others were answered: it is about this image, or it passes.
            passing = replace(
                outcome.verdict, kind=Kind.TRANSIENT, scope=Scope.ITEM, code="refused"
            )
            outcome = replace(outcome, verdict=passing)
        self.doubts.answered(keys)
        completion = outcome.completion
        used = paid = None
        if completion is not None:
            paid = completion.cost_usd
            if completion.prompt_tokens is not None:
                used = completion.prompt_tokens + (completion.completion_tokens or 0)
            if price := unasked_price(self.endpoint, completion):
                self.gate.stop(StopReason(exit=Exit.KEY, message=price, resume_after=None))
        gate.report(permit, outcome.verdict, tokens=used, cost_usd=paid, images=keys)
        return sent, outcome

    def _sent(self, request: Request, attempt: int, *, waited: float) -> Sent:
        """The attempt, as it is written down. waited: seconds for its permit."""
        form = self.second.form_of(request)
        return Sent(
            request_id=f"{self.rng.getrandbits(128):032x}",
            run_id=self.run_id,
            recipe=request.items[0].recipe,
            profile=self.endpoint.profile.name,
            model=form.wire.model if form else self.job_model or self.wire.model,
            form=request.form,
            attempt=attempt,
            at=micros(self.clock.now()),
            wait_ms=int(waited * 1000),
            items=tuple([item.asked for item in request.items]),
            endpoint=self.endpoint_name,
        )

    async def _lost(
        self, gate: RequestGate, permit: Permit, sent: Sent, lost: NoReply, keys: list[str]
    ) -> ReplyOutcome:
        """An attempt without an answer, written down."""
        verdict = Verdict(
            kind=Kind.TRANSIENT, scope=Scope.ITEM, code=lost.code, message=lost.message
        )
        row = unanswered(sent)
        await self.checkpoint.no_reply(sent, row)
        if not lost.sent:
            gate.give_back(permit, verdict, images=keys)
        else:
            # No reply: the reservation stays `unknown` in the ledger, and spent.
            gate.report(permit, None, tokens=None, cost_usd=None, images=keys)
        return ReplyOutcome(records=(), row=row, verdict=verdict, completion=None)

    async def _fail(self, items: Sequence[Item], sent: Sent, outcome: ReplyOutcome) -> None:
        """Settle images without a caption, durably."""
        await self.keep(items, [no_caption(self, item, sent, outcome) for item in items])

    async def _spend(
        self, items: Sequence[Item], sent: Sent, outcome: ReplyOutcome
    ) -> tuple[Item, ...]:
        """Count an attempt for each image; those that have none left fail. Returns the others."""
        over = [item for item in items if item.asked.attempts >= self.attempts]
        if over:
            await self._fail(over, sent, outcome)
        return tuple(
            with_next_attempt(item) for item in items if item.asked.attempts < self.attempts
        )

    async def _reload(self, items: Sequence[Item]) -> tuple[Item, ...]:
        """Load images that the service cannot fetch, to send their bytes instead."""
        loaded: list[Item] = []
        for item in items:
            url = item.image.url
            if url is not None and (host := self.images.not_fetched(url)) is not None:
                self.progress.event(f"the service cannot fetch from {host}: its images go as bytes")
            try:
                image = await self.images.load(item.source, inline=True)
            except ImageError as error:
                if isinstance(error, SourceUnavailable) and self.sources.leaves(
                    error, bytes.fromhex(item.asked.key)
                ):
                    continue
                record = failure(self, item, code=error.code, message=error.message)
                await self.keep([item], [record])
                continue
            loaded.append(item.with_image(image))
        return tuple(loaded)

    async def _as_bytes(self, items: Sequence[Item]) -> tuple[Item, ...]:
        """Load images whose host went inline while they waited; the others stay as they are."""
        items_ready: list[Item] = []
        for item in items:
            stale = self.images.turned_inline(item.image.url)
            items_ready += await self._reload([item]) if stale else [item]
        return tuple(items_ready)


#: A status that one image may cause each time; a busy or absent service has others.
_EACH_TIME = 500
#: The attempts are used up.
_GIVES_UP = frozenset({Action.FAIL, Action.SPLIT})
#: Nothing is known about the pack's images: the same pack may simply go again.
_ASKED_WHOLE = LIMITED | {Kind.TRANSIENT}
