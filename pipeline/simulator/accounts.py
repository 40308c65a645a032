"""Keys, credit and what the account has done: the money side of the service."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.simulator.dialects.base import Dialect, Generation
from pipeline.simulator.dialects.openrouter import OpenRouter
from pipeline.simulator.knobs import Knobs
from pipeline.simulator.limits import DAY
from pipeline.simulator.models import Model
from pipeline.simulator.parse_request import Asked

_REMEMBERED = 1_000
#: What `/key` tells beside, for an account without own provider keys, organization or budget.
_BYOK = ("byok_usage", "byok_usage_daily", "byok_usage_weekly", "byok_usage_monthly")
_NULLS = ("creator_user_id", "organization_id", "workspace_id", "effective_budget")


@dataclass(frozen=True, slots=True)
class Who:
    """The key that a request came with, and the account that it belongs to."""

    key: str
    account: str

    @property
    def sha256(self) -> str | None:
        """For logs: the key itself is kept nowhere."""
        return hashlib.sha256(self.key.encode(errors="replace")).hexdigest() if self.key else None


def who_asks(headers: Mapping[str, str], knobs: Knobs) -> Who:
    """By the Authorization header; without a Bearer it is no key at all."""
    scheme, _, key = headers.get("authorization", "").strip().partition(" ")
    key = key.strip() if scheme.lower() == "bearer" else ""
    return Who(key, key if knobs.key_is_account else "")


class Accounts:
    """Who may ask, what it costs, what was answered."""

    def __init__(self) -> None:
        #: Chat completions that passed all limits, over all accounts.
        self.counted = 0
        self._spent: dict[str, float] = {}
        self._key_spent: dict[tuple[str, int], float] = {}
        self._generations: OrderedDict[str, Generation] = OrderedDict()

    def authorize(self, account: Who, knobs: Knobs, dialect: Dialect) -> None:
        """Refused without a key that is good."""
        if (knobs.needs_key or knobs.keys) and not account.key:
            raise dialect.no_key(knobs)
        known = (*knobs.keys, *knobs.management_keys)
        revoked = knobs.revoked_after is not None and self.counted >= knobs.revoked_after
        if revoked or (knobs.keys and account.key not in known):
            raise dialect.wrong_key(knobs)

    def afford(
        self, account: Who, asked: Asked, model: Model, knobs: Knobs, dialect: Dialect, now: float
    ) -> None:
        """Refused when the account's credit or the key's limit is spent."""
        broke = knobs.broke_after is not None and self.counted >= knobs.broke_after
        left = self.left(account, knobs)
        if broke or (left is not None and left < 0):
            raise dialect.no_credit(knobs)
        if not isinstance(dialect, OpenRouter):
            return
        if left is not None and model.completion > 0:
            wanted = asked.max_tokens or model.max_output
            can = int(left / model.completion)
            if wanted > can:
                raise dialect.dear(knobs, wanted, can)
        limit = knobs.key_limit_usd
        if limit is not None and model.paid:
            spent = self._key_spent.get((account.key, _day(knobs, now)), 0.0)
            if spent >= limit:
                resets = (now // DAY + 1) * DAY if knobs.key_limit_daily else None
                raise dialect.key_spent(knobs, limit, spent, resets)

    def left(self, account: Who, knobs: Knobs) -> float | None:
        """Credit of the account, in US dollars."""
        if knobs.balance_usd is None:
            return None
        return knobs.balance_usd - self._spent.get(account.account, 0.0)

    def record(self, account: Who, got: Generation, knobs: Knobs) -> None:
        """An answer was given: it costs, and it can be looked up."""
        if got.cost:
            day = _day(knobs, got.created)
            self._spent[account.account] = self._spent.get(account.account, 0.0) + got.cost
            self._key_spent[account.key, day] = (
                self._key_spent.get((account.key, day), 0.0) + got.cost
            )
        self._generations[got.id] = got
        if len(self._generations) > _REMEMBERED:
            self._generations.popitem(last=False)

    def generation(self, wanted: str, knobs: Knobs, now: float) -> dict[str, Any] | None:
        """`GET /generation`: nothing for the first moments."""
        got = self._generations.get(wanted)
        if got is None or now < got.created + knobs.generation_lag:
            return None
        said = got.said
        return {
            "id": got.id,
            "model": got.slug,
            "provider_name": got.model.provider,
            "created_at": got.created,
            "streamed": got.streamed,
            "cancelled": False,
            "finish_reason": said.finish,
            "native_finish_reason": said.native,
            "latency": int(got.latency * 1000),
            "generation_time": int(got.latency * 1000),
            "moderation_latency": None,
            "tokens_prompt": said.prompt_tokens,
            "tokens_completion": said.completion_tokens,
            "native_tokens_prompt": said.prompt_tokens,
            "native_tokens_completion": said.completion_tokens,
            "native_tokens_reasoning": said.thinking_tokens,
            "native_tokens_cached": 0,
            "num_media_prompt": None,
            "total_cost": got.cost,
            "usage": got.cost,
            "upstream_id": None,
            "upstream_inference_cost": 0,
            "is_byok": False,
            "provider_responses": None,
        }

    def credits(self, account: Who, knobs: Knobs) -> dict[str, Any]:
        """`GET /credits`, for management keys."""
        spent = self._spent.get(account.account, 0.0)
        return {"total_credits": knobs.balance_usd or 0.0, "total_usage": spent}

    def key_facts(self, account: Who, knobs: Knobs, used_today: int, now: float) -> dict[str, Any]:
        """`GET /key`."""
        spent = self._key_spent.get((account.key, _day(knobs, now)), 0.0)
        limit = knobs.key_limit_usd
        old = knobs.era == "2024"
        facts: dict[str, Any] = {
            "label": "sk-or-v1-sim...lat",
            "limit": limit,
            "limit_remaining": None if limit is None else max(0.0, limit - spent),
            "usage": spent,
            "is_free_tier": knobs.free_tier,
            "rate_limit": {"requests": 40 if old else -1, "interval": "10s"},
        }
        if old:
            return facts
        facts |= {
            "limit_reset": "daily" if knobs.key_limit_daily else None,
            "usage_daily": spent,
            "usage_weekly": spent,
            "usage_monthly": spent,
            **dict.fromkeys(_BYOK, 0),
            "include_byok_in_limit": False,
            "is_management_key": account.key in knobs.management_keys,
            "is_provisioning_key": False,
            "expires_at": None,
            "budgets": [],
            "allowed_data_regions": [],
            **dict.fromkeys(_NULLS),
        }
        facts["rate_limit"]["note"] = "deprecated"
        if knobs.rpd is not None:
            facts["free_model_daily_requests"] = {
                "used": used_today,
                "limit": knobs.rpd,
                "remaining": max(0, knobs.rpd - used_today),
            }
        return facts


def cost(model: Model, prompt_tokens: int, completion_tokens: int, images: int) -> float:
    """US dollars of one answer."""
    tokens = prompt_tokens * model.prompt + completion_tokens * model.completion
    return tokens + images * model.image


def _day(knobs: Knobs, now: float) -> int:
    """The day whose spending counts against the key's limit; without a reset all days are one."""
    return int(now // DAY) if knobs.key_limit_daily else 0
