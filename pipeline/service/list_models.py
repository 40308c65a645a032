"""`/models`, asked for until it comes: a service may have a hiccup, or not be there yet.

A run that goes on with a job that has worked before waits for it as long as it would in the
middle; a first run says at once that nobody is there, since the address may be wrong.
"""

from __future__ import annotations

import logging
from typing import Any

from pipeline.errors import KeyTrouble, NoReply, ServiceError
from pipeline.model import Reply
from pipeline.service.body import json_of
from pipeline.service.classify import classify
from pipeline.service.client import Client
from pipeline.service.endpoint import Endpoint
from pipeline.service.error_body import error_in
from pipeline.service.models import Model, models_of, with_info
from pipeline.verdict import Kind

#: Seconds between looks at a service that has a hiccup; the last one is the last look.
HICCUP = (1.0, 2.0, 4.0, 8.0, 0.0)
#: Seconds between rounds of looks at one that is out: the first, and the longest.
OUT_FIRST, OUT_LONGEST = 30.0, 300.0
_log = logging.getLogger("pipeline")


class Unreachable(ServiceError):
    """Nobody answers, or what must be known before the first request does not come."""


async def list_models(
    client: Client, endpoint: Endpoint, *, patience: float = 0.0
) -> tuple[list[Model], Reply]:
    """The models of a service; none where it lists none.

    patience: seconds to wait for a service that is out. Unreachable (69) after that; KeyTrouble
    (77) when the key is refused.
    """
    clock = client.clock
    end, wait = clock.monotonic() + patience, OUT_FIRST
    while True:
        try:
            models, reply = await _round(client, endpoint)
        except Unreachable as error:
            left = end - clock.monotonic()
            if left <= 0:
                raise
            wait = min(wait, left)
            _log.warning("%s (endpoint.patience: looking again in %.0f s)", error, wait)
            await clock.sleep(wait)
            wait = min(2 * wait, OUT_LONGEST)
        else:
            if reply.status != 403 or endpoint.profile.tells_prices:
                refused_key(reply, endpoint)
            if models and endpoint.profile.info_path is not None:
                models = with_info(models, await _info(client, endpoint.profile.info_path))
            return models, reply


async def _round(client: Client, endpoint: Endpoint) -> tuple[list[Model], Reply]:
    """A few looks, one shortly after the other."""
    path = endpoint.profile.models_path or "/models"
    for wait in HICCUP:
        try:
            reply = await client.get(path)
        except NoReply as lost:
            if not lost.sent or lost.code == "timeout_service" or not wait:
                where = endpoint.base_url
                message = f"{where}: {lost.message}; is the address right and the service up?"
                raise Unreachable(message) from None
        else:
            models = models_of(json_of(reply.body))
            if not models and reply.status == 200 and error_in(json_of(reply.body)) is not None:
                _answers_error(reply, endpoint, path)
            trouble = reply.status in (408, 429) or reply.status >= 500
            if models or not (trouble or (reply.status == 200 and json_of(reply.body) is None)):
                break
            if not wait and endpoint.profile.tells_prices:
                said = f"HTTP {reply.status}" if trouble else "with what is no list"
                raise Unreachable(
                    f"{endpoint.base_url}{path} answers {said}, so the price is not known: run "
                    "again later"
                )
        if wait:
            await client.clock.sleep(wait)
    return models, reply


def _answers_error(reply: Reply, endpoint: Endpoint, path: str) -> None:
    """ServiceError for a list that is an error under 200: LM Studio answers so to any path that it
    does not have. Nothing where the error passes."""
    verdict, _ = classify(reply, now=reply.at / 1e6)
    if verdict.kind is not Kind.TRANSIENT or verdict.systemic:
        raise ServiceError(
            f"{endpoint.base_url}{path} answers with an error ({verdict.message}): does "
            "endpoint.base_url end in /v1?"
        )


async def _info(client: Client, path: str) -> Any:
    """What a second path tells of the models; None where it does not answer."""
    try:
        reply = await client.get(path)
    except NoReply:
        return None
    return json_of(reply.body) if reply.status == 200 else None


def refused_key(reply: Reply, endpoint: Endpoint) -> None:
    """KeyTrouble when this is what the reply says, in whatever form."""
    if reply.status < 400:
        return
    verdict, _ = classify(reply, now=reply.at / 1e6)
    if verdict.kind is Kind.ACCOUNT_FATAL:
        variable = endpoint.settings.api_key_env or endpoint.profile.key_env
        said = f"HTTP {reply.status}: {verdict.message}"
        if endpoint.key is None:
            raise KeyTrouble(
                f"{endpoint.base_url} asks for a key ({said}): name its variable in "
                "endpoint.api_key_env"
            )
        raise KeyTrouble(
            f"{endpoint.base_url} refuses the key in {variable} ({said}): check that it is whole "
            "and not revoked"
        )
