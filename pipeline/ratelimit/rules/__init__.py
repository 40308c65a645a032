"""The limits, by name. One more of a kind = one file and one line here."""

from __future__ import annotations

from pipeline.ratelimit.rules.backoff import Backoff
from pipeline.ratelimit.rules.base import Rule
from pipeline.ratelimit.rules.bucket import Bucket
from pipeline.ratelimit.rules.circuit_breaker import CircuitBreaker
from pipeline.ratelimit.rules.concurrency import Concurrency
from pipeline.ratelimit.rules.cost import Cost
from pipeline.ratelimit.rules.daily import Daily
from pipeline.ratelimit.rules.fail_fast import FailFast
from pipeline.ratelimit.rules.requests import Requests
from pipeline.ratelimit.rules.tokens import Tokens

#: In the order of the gate: a slot, the circuit, fail-fast and backoff, money, the day or its bucket, tokens, spacing.
RULES: dict[str, type[Rule]] = {
    "concurrency": Concurrency,
    "weather": CircuitBreaker,
    "refusals": FailFast,
    "pauses": Backoff,
    "cost": Cost,
    "daily": Daily,
    "bucket": Bucket,
    "tokens": Tokens,
    "requests": Requests,
}
