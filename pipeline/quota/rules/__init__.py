"""The limits, by name. One more of a kind = one file and one line here."""

from __future__ import annotations

from pipeline.quota.rules.base import Rule
from pipeline.quota.rules.concurrency import Concurrency
from pipeline.quota.rules.cost import Cost
from pipeline.quota.rules.daily import Daily
from pipeline.quota.rules.pauses import Pauses
from pipeline.quota.rules.refusals import Refusals
from pipeline.quota.rules.requests import Requests
from pipeline.quota.rules.tokens import Tokens
from pipeline.quota.rules.weather import Weather

#: In the order of the gate: a slot, weather, refusals and pauses, money, the day, tokens, spacing.
RULES: dict[str, type[Rule]] = {
    "concurrency": Concurrency,
    "weather": Weather,
    "refusals": Refusals,
    "pauses": Pauses,
    "cost": Cost,
    "daily": Daily,
    "tokens": Tokens,
    "requests": Requests,
}
