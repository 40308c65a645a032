"""Second questions: images whose first answer is kept and that are asked once more about it.

The first answer's record is on disk with the flag `ask_again` before the second question leaves,
and carries it until that is answered: what a run leaves over, the next one asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.captioning.checked import ASKS
from pipeline.model import ASK_AGAIN, ASK_CAPTION, CHECK, Form, Item, Record, Request
from pipeline.schema import table_records
from pipeline.service.wire import Wire
from pipeline.store.parts import part_files, read_part
from pipeline.store.publish_plan import CAPTIONS, FAILURES

if TYPE_CHECKING:
    from pipeline.config.job import JobConfig
    from pipeline.errors import StopReason
    from pipeline.ratelimit.protocol import RequestGate
    from pipeline.service.models import Model

_WAIT = frozenset({ASK_AGAIN, ASK_CAPTION})


@dataclass(frozen=True, slots=True)
class SecondForm:
    """How another caption is asked for."""

    prompt: str | None
    wire: Wire
    #: Of another model than the job's: what is known of it, and its own limits.
    model: Model | None = None
    gate: RequestGate | None = None

    def request(self, request: Request, *, fields: bool) -> Request:
        """The question of one image in this form, as a request for a first caption is built."""
        (item,) = request.items
        prompt = (self.prompt or "{prompt}").replace("{prompt}", item.prompt)
        form: Form = "fields" if fields else "plain"
        return replace(request, items=(replace(item, prompt=prompt),), form=form)


def second_forms(
    job: JobConfig,
    wire: Callable[..., Wire],
    models: Mapping[str, Model],
    gates: Mapping[str, RequestGate],
) -> dict[str, SecondForm]:
    """How the actions `retry` and `fallback` ask for another caption. wire: for a model and params;
    models and gates: of the models that have their own."""
    retry, endpoint = job.checks.retry, job.endpoint
    params = {**endpoint.params, **retry.params}

    def form(prompt: str | None, name: str, params: Mapping[str, object]) -> SecondForm:
        return SecondForm(prompt, wire(name, params), models.get(name), gates.get(name))

    forms = {"retry": form(retry.prompt, retry.model or endpoint.model, params)}
    if endpoint.fallback_models:
        forms["fallback"] = form(None, endpoint.fallback_models[0], endpoint.params)
    return forms


def other_models(job: JobConfig) -> dict[str, str]:
    """Models that second questions go to, other than the job's own -> the key that names each."""
    retry, endpoint, actions = job.checks.retry.model, job.endpoint, job.checks.actions.values()
    models = {retry: "checks.retry.model"} if retry is not None and "retry" in actions else {}
    if "fallback" in actions:
        models[endpoint.fallback_models[0]] = "endpoint.fallback_models"
    return {name: key for name, key in models.items() if name != endpoint.model}


@dataclass(slots=True, kw_only=True)
class SecondQuestions:
    """What is to be asked a second time, and in which form. One a run."""

    #: Action of a check -> the form.
    forms: Mapping[str, SecondForm]
    #: Check -> its action.
    actions: Mapping[str, str]
    #: key -> its record, of earlier runs.
    pending: Mapping[str, Record] = field(default_factory=dict)
    #: Asked a second time in this run.
    count: int = 0
    #: Why some are left to the next run.
    reason: StopReason | None = None
    _waiting: list[Item] = field(default_factory=list, init=False)

    def consider(self, items: Sequence[Item], records: Sequence[Record]) -> None:
        """Records of these items are on disk: those that say so are asked about again."""
        marked = {record.key: record for record in records if not _WAIT.isdisjoint(record.flags)}
        for item in items if marked else ():
            if (record := marked.get(item.asked.key)) is not None:
                asked = replace(item.asked, earlier=record, attempts=1)
                self._waiting.append(replace(item, asked=asked))

    def form(self, record: Record) -> SecondForm:
        """How an image is asked again whose record waits for another caption."""
        names = [flag.removeprefix(CHECK) for flag in record.flags if flag.startswith(CHECK)]
        actions = {self.actions.get(name, "") for name in names or ["refusal"]} & ASKS
        return self.forms["fallback" if "fallback" in actions else "retry"]

    def form_of(self, request: Request) -> SecondForm | None:
        """How a second question is asked; None for a first one."""
        if request.form != "second":
            return None
        earlier = request.items[0].asked.earlier
        assert earlier is not None
        return self.form(earlier)

    def released(self) -> list[Item]:
        """The images to ask, since the last call."""
        items, self._waiting = self._waiting, []
        self.count += len(items)
        return items


def read_pending(output: Path, recipes: Iterable[str]) -> dict[str, Record]:
    """Records of these recipes that wait for a second answer. Reads published parts."""
    pending = {}
    paths = [path for folder in (CAPTIONS, FAILURES) for path in part_files(output, folder)]
    for path in paths:
        flags = pc.list_flatten(read_part(path, ["flags"])["flags"])
        if not pc.any(pc.is_in(flags, value_set=pa.array(sorted(_WAIT)))).as_py():
            continue
        table = read_part(path, Record._fields)
        table = table.filter(pc.is_in(table["recipe"], value_set=pa.array(list(recipes))))
        for record in table_records(table):
            if not _WAIT.isdisjoint(record.flags):
                pending[record.key] = record
    return pending
