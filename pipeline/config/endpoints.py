"""The job file's `endpoints`: what each of them is, and what may not stand in one list."""

from __future__ import annotations

from typing import Any, Protocol, TypeGuard

from pipeline.patterns import lazy
from pipeline.ratelimit.settings import QuotaSettings
from pipeline.service.profiles import PROFILES
from pipeline.service.settings import AUTO, EndpointSettings
from pipeline.settings import section

#: Keys of `endpoint` that say which service it is, and so are nobody else's.
_OWN = frozenset(
    {"profile", "base_url", "model", "mmproj", "api_key_env", "key_host", "quota_group"}
)
#: Of a model's name: what says how it is served or tuned, not which it is.
_SERVED = lazy(r"(?::(?:free|nitro|floor|extended|thinking|exacto|latest))+$")
_TUNED = lazy(r"-(?:it|instruct|preview)$")


class Job(Protocol):
    """What is looked at of a job file."""

    @property
    def endpoint(self) -> EndpointSettings: ...
    @property
    def endpoints(self) -> list[PoolEndpoint]: ...
    @property
    def endpoints_may_differ(self) -> bool: ...
    @property
    def i_own_these_quotas(self) -> bool: ...
    @property
    def quota(self) -> QuotaSettings: ...


class PoolEndpoint(EndpointSettings):
    """One of several endpoints."""

    quota: QuotaSettings = section()
    """Its own limits; default: those of the job."""


def merged(values: Any) -> Any:
    """The document with each entry of `endpoints` over what `endpoint` and `quota` say."""
    if not isinstance(values, dict) or not isinstance(values.get("endpoints"), list):
        return values
    endpoint, quota = values.get("endpoint"), values.get("quota")
    shared = {k: v for k, v in endpoint.items() if k not in _OWN} if _is(endpoint) else {}
    # A cap of money is one sum, which all endpoints share: each one's own is another.
    limits = {k: v for k, v in quota.items() if k != "max_cost_usd"} if _is(quota) else {}
    entries = [
        {**shared, **entry, "quota": _over(limits, entry.get("quota"))} if _is(entry) else entry
        for entry in values["endpoints"]
    ]
    return {**values, "endpoints": entries}


def _is(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _over(shared: dict[str, Any], own: Any) -> Any:
    return {**shared, **own} if _is(own) else (dict(shared) if own is None else own)


def family(endpoint: EndpointSettings) -> str:
    """The model, whatever its service calls it: `google/gemma-4-31b-it:free` is `gemma-4-31b`."""
    model = PROFILES[endpoint.profile].aliases.get(endpoint.model, endpoint.model)
    name = _SERVED.sub("", model.rsplit("/", 1)[-1].lower())
    return _TUNED.sub("", name)


def model_of(job: Job) -> str:
    """The name of the job's model: `endpoint.model` where it is written, else the family that all
    endpoints serve. It is part of what an image is known by, and no endpoint's own name is."""
    if not job.endpoints or "model" in job.endpoint.model_fields_set:
        return job.endpoint.model
    return family(job.endpoints[0])


def endpoints_trouble(job: Job) -> str | None:
    """Why these endpoints may not be used together, or at all."""
    if not job.endpoints:
        return None
    families = list(dict.fromkeys(map(family, job.endpoints)))
    if any(each.model == AUTO for each in job.endpoints):
        return f"{AUTO} is no model for a list of endpoints: name each one's"
    if len(families) > 1 and not job.endpoints_may_differ:
        return (
            f"these are different models ({', '.join(families)}), so captions would differ by chance: "
            "take one model, or set endpoints_may_differ: true"
        )
    if len(families) > 1 and "model" not in job.endpoint.model_fields_set:
        return "with different models write endpoint.model: the name that captions of this mix have"
    own = [each.quota.max_cost_usd for each in job.endpoints]
    if job.quota.max_cost_usd is not None and any(cap is not None for cap in own):
        return "quota.max_cost_usd: write it once for all endpoints, or in each one's quota"
    return _several_keys(job)


def _several_keys(job: Job) -> str | None:
    """Several accounts at one service add up a quota that its terms give once."""
    keys: dict[tuple[str, str | None], str | None] = {}
    for each in job.endpoints:
        place = (each.profile, each.base_url)
        variable = each.api_key_env or PROFILES[each.profile].key_env
        if keys.setdefault(place, variable) != variable and not job.i_own_these_quotas:
            return (
                f"several keys of {each.profile}: most services forbid several accounts that add up "
                "a free quota; set i_own_these_quotas: true where these quotas were bought or granted"
            )
    return None


__all__ = ["PoolEndpoint", "endpoints_trouble", "family", "merged", "model_of"]
