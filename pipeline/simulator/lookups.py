"""The routes beside chat completions: models for all services, accounts for OpenRouter."""

from __future__ import annotations

from pipeline.simulator import models as listing
from pipeline.simulator.accounts import Accounts
from pipeline.simulator.calls import Call
from pipeline.simulator.limits import Meters
from pipeline.simulator.models import Model
from pipeline.simulator.wire import SimResponse, json_response

_ACCOUNT = ("/key", "/auth/key", "/credits", "/generation")


def look_up(
    call: Call, living: tuple[Model, ...], accounts: Accounts, meters: Meters
) -> SimResponse:
    """The answer of a route that asks nothing of a model; Refused when there is none."""
    knobs, dialect, path = call.knobs, call.dialect, call.path
    of_models = path == "/models" or path.startswith(("/models/", "/model/"))
    if not of_models and not (dialect.accounts and path in _ACCOUNT):
        raise dialect.not_found(knobs)
    if call.method != "GET":
        raise dialect.not_allowed(knobs)
    if not of_models:
        return _account(call, accounts, meters)
    if not dialect.accounts:
        accounts.authorize(call.account, knobs, dialect)
    if path != "/models":
        return json_response(200, _one_model(call, living))
    models = listing.chosen(living, call.query)
    if isinstance(models, str):
        raise dialect.bad(knobs, models)
    return json_response(200, dialect.models(models, knobs))


def _one_model(call: Call, living: tuple[Model, ...]) -> object:
    knobs, dialect = call.knobs, call.dialect
    name = call.path.split("/", 2)[2]
    slug = name.removesuffix("/endpoints")
    match = next((model for model in living if model.id == dialect.slug(slug)), None)
    if match is None:
        raise dialect.not_found(knobs)
    if not dialect.accounts:
        return dialect.listed(match)
    if name.endswith("/endpoints"):
        return {"data": listing.endpoints(match, knobs.era)}
    return {"data": listing.listed(match, knobs.era)}


def _account(call: Call, accounts: Accounts, meters: Meters) -> SimResponse:
    """Keys, credits, generations."""
    knobs, dialect, account = call.knobs, call.dialect, call.account
    accounts.authorize(account, knobs, dialect)
    if call.path == "/credits":
        if account.key not in knobs.management_keys:
            message = "Only management keys can perform this operation"
            raise dialect.bad(knobs, message, 403)
        return json_response(200, {"data": accounts.credits(account, knobs)})
    if call.path == "/generation":
        facts = accounts.generation(call.query.get("id", ""), knobs, call.now)
        if facts is None:
            raise dialect.bad(knobs, "Generation not found", 404)
        return json_response(200, {"data": facts})
    used = meters.used_today(knobs, account.account, call.now)
    return json_response(200, {"data": accounts.key_facts(account, knobs, used, call.now)})
