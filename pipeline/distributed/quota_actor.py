"""The one rate limiter of a job on several machines: today's gate and ledger behind messages.

No rule is another here: the gate asks the rules, reserves in the ledger of this machine, and gives a
permit that may be used for `LEASE` seconds elsewhere. Each permit is known by its worker, so that those
of a dead one are freed (`forget`), and a worker that was given up gets no more. Whoever begins anew after
a crash has another epoch: what is reported to an earlier one is dropped, and stays spent.
Knows nothing of Ray: it is made an actor by whoever starts it.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from pipeline.clock import Clock, SystemClock
from pipeline.distributed.calls import (
    LEASE,
    LONGEST_WAIT,
    Call,
    Dated,
    Ended,
    Event,
    LimitsHeard,
    Opening,
    Reply,
    Reported,
    Returned,
    Setting,
    State,
    Tripped,
    Written,
)
from pipeline.errors import Exit, Stopped, StopReason
from pipeline.ratelimit.gate import Gate, open_gate
from pipeline.ratelimit.rules.base import Ask, Permit
from pipeline.store.snapshot import spent

#: A permit that nobody has reported for so much longer than a request may take is taken for lost.
LOST = 120.0
#: Seconds between two looks for those, and for how long the facts of a reply hold.
SWEEP, FACTS = 10.0, 1.0


class _Model:
    """One model's gate, and who has its permits."""

    def __init__(self, gate: Gate, timeout: float) -> None:
        self.gate, self.timeout = gate, timeout
        #: Number -> worker, when it was given, permit.
        self.given: dict[int, tuple[str, float, Permit]] = {}
        self._facts_at = 0.0

    def facts(self, now: float) -> dict[str, object] | None:
        """The gate's snapshot, not more often than it is looked at."""
        if now - self._facts_at < FACTS:
            return None
        self._facts_at = now
        return self.gate.snapshot()


class QuotaActor:
    """All methods run in one event loop."""

    def __init__(
        self, setting: Setting, clock: Clock | None = None, rng: random.Random | None = None
    ) -> None:
        """clock, rng: of the machine that it is started on, where they are left out."""
        self._setting = setting
        self._clock, self._rng = clock or SystemClock(), rng or random.Random()
        self._epoch = secrets.token_hex(8)
        self._models: dict[str, _Model] = {}
        self._opening = asyncio.Lock()
        self._stack = AsyncExitStack()
        self._given_up: set[str] = set()
        self._heard: dict[str, float] = {}
        self._swept = 0.0
        #: Known before the first gate is.
        self._reason: StopReason | None = None

    async def open(self, opening: Opening) -> Reply:
        """See `Quota`."""
        async with self._opening:
            model = self._models.get(opening.model) or await self._open(opening)
        if self._reason is not None:
            model.gate.stop(self._reason)
        now = self._clock.monotonic()
        permits = []
        for permit in opening.flying if opening.worker not in self._given_up else ():
            permits.append(model.gate.attach(permit))
            model.given[permits[-1].number] = (opening.worker, now, permits[-1])
        return Reply(self._state(opening.worker, model), tuple(permits))

    async def _open(self, opening: Opening) -> _Model:
        first = next(iter(self._models.values()), None) if opening.beside else None
        gate = await self._stack.enter_async_context(
            open_gate(
                self._setting.quota,
                opening.limits,
                account=opening.account,
                model=opening.model,
                output=self._setting.output,
                patience=opening.patience,
                clock=self._clock,
                rng=self._rng,
                state=Path(self._setting.state),
                # Of all shards, so far: an actor that is begun anew knows of this run's too.
                spent_usd=await asyncio.to_thread(spent, Path(self._setting.output)),
                beside=first.gate if first else None,
                lease=LEASE,
            )
        )
        self._models[opening.model] = model = _Model(gate, opening.timeout)
        return model

    async def call(self, call: Call) -> Reply:
        """See `Quota`."""
        began = self._clock.monotonic()
        self._heard[call.worker] = began
        model = self._models.get(call.model)
        if model is None:
            # Begun anew, or a worker that needs no permit and only says that it lives.
            gone = self._gone() if call.worker in self._given_up else self._reason
            return Reply(State(self._epoch, gone))
        if call.epoch != self._epoch:
            return Reply(self._state(call.worker, model))
        for event in call.events:
            self._take_in(model, event)
        self._sweep(began)
        permits: list[Permit] = []
        if call.asks and call.worker not in self._given_up:
            permits = await self._permits(model, call)
        return Reply(
            self._state(call.worker, model), tuple(permits), waited=self._clock.monotonic() - began
        )

    async def _permits(self, model: _Model, call: Call) -> list[Permit]:
        asks = [Ask(*ask) for ask in call.asks]
        try:
            async with asyncio.timeout(LONGEST_WAIT):
                permits = await model.gate.permits(asks)
        except (TimeoutError, Stopped):
            return []
        if call.worker in self._given_up:  # meanwhile
            for permit in permits:
                model.gate.give_back(permit)
            return []
        now = self._clock.monotonic()
        model.given.update({permit.number: (call.worker, now, permit) for permit in permits})
        return permits

    def _take_in(self, model: _Model, event: Event) -> None:
        gate = model.gate
        match event:
            case LimitsHeard(limits):
                gate.heard_limits(limits)
            case Tripped(message, wait):
                gate.trip(message, wait)
            case Ended(reason):
                gate.stop(reason)
            case Written() | Dated() | Reported() | Returned():
                if event.number not in model.given:
                    return  # told twice, or swept: it has been counted
                permit = model.given[event.number][2]
                if isinstance(event, Written):
                    gate.written(permit, event.delay)
                elif isinstance(event, Dated):
                    gate.heard_date(event.date, permit)
                else:
                    del model.given[event.number]
                    self._settle(gate, permit, event)

    @staticmethod
    def _settle(gate: Gate, permit: Permit, event: Reported | Returned) -> None:
        if isinstance(event, Returned):
            gate.give_back(permit, event.verdict, images=event.images)
        else:
            gate.report(
                permit,
                event.verdict,
                tokens=event.tokens,
                cost_usd=event.cost_usd,
                images=event.images,
            )

    def _sweep(self, now: float) -> None:
        """Free what a worker died with that nobody has told of."""
        if now - self._swept < SWEEP:
            return
        self._swept = now
        for model in self._models.values():
            for number, (_, at, permit) in list(model.given.items()):
                if now - at > model.timeout + LOST:
                    del model.given[number]
                    model.gate.report(permit, None, tokens=None, cost_usd=None, images=())

    async def forget(self, worker: str) -> int:
        """A worker is dead, or taken for dead: its permits stay spent, and it gets no more. How many it had."""
        self._given_up.add(worker)
        self._heard.pop(worker, None)
        freed = 0
        for model in self._models.values():
            for number, (owner, _, permit) in list(model.given.items()):
                if owner == worker:
                    del model.given[number]
                    model.gate.report(permit, None, tokens=None, cost_usd=None, images=())
                    freed += 1
        return freed

    async def stop(self, reason: StopReason) -> None:
        """End the job: no worker gets a permit any more."""
        self._reason = self._reason or reason
        for model in self._models.values():
            model.gate.stop(self._reason)

    async def facts(self) -> dict[str, Any]:
        """For the driver: ages of the workers' last words, and the state of the limits."""
        now = self._clock.monotonic()
        gates = [model.gate.snapshot() for model in self._models.values()]
        return {
            "epoch": self._epoch,
            "silent": {worker: now - at for worker, at in self._heard.items()},
            "quota": gates[0] if gates else {},
            "reason": next((m.gate.reason for m in self._models.values()), self._reason),
        }

    def _state(self, worker: str, model: _Model) -> State:
        now, circuit = self._clock.monotonic(), model.gate.circuit
        return State(
            epoch=self._epoch,
            reason=self._gone() if worker in self._given_up else model.gate.reason,
            success_age=now - circuit.last_success if circuit.answered else None,
            is_open=circuit.is_open,
            suspicious=circuit.suspicious,
            facts=model.facts(now),
        )

    @staticmethod
    def _gone() -> StopReason:
        message = "this worker was silent for too long and its shard was given to another"
        return StopReason(exit=Exit.HELD, message=message)
