"""TabularCodec: rows of named fields to features, raw answers back to a decision with its reasons; no torch."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import ConfigDict, PrivateAttr, model_validator

from llmops.core.errors import DataError
from llmops.core.protocols import Arrays
from llmops.core.section import Section
from llmops.fields import kind_of
from llmops.fields.config import CleanStep, FieldSection
from llmops.fields.kind import BadCell, Kind
from llmops.fields.words import as_text
from llmops.tasks.tabular.answers import ClassResponse, NumberResponse, Reason
from llmops.tasks.tabular.calibration import apply
from llmops.tasks.tabular.features import Plan
from llmops.tasks.tabular.quality import decided
from llmops.tasks.tabular.reasons import Reasons
from llmops.tasks.tabular.settle import interval

Floats = np.ndarray[Any, Any]
ASKS = "reasons"
"""The name under which a request says how many reasons it wants, where no field is called so."""
SHOWN = 60
"""Characters of a bad value that a refusal repeats."""
TOLD = 10
"""Mistakes that a refusal names, at most."""
ID_CHARS = 200
"""Longest id of a row."""
DAY_S = 86_400


class TabularSettings(Section):
    """What the codec reads in bundle.json's `settings`."""

    fields: dict[str, FieldSection]
    """The fields of a request."""
    known: dict[str, dict[str, Any]]
    """What training saw of each."""
    predict: str
    """class or number."""
    target: str
    """What is predicted."""
    id: str | None = None
    """A row's own id, which a request may bring."""
    labels: list[str] | None = None
    """The classes in the order of the outputs; of two the event comes last."""
    reasons: int = 3
    """Reasons of an answer, when a request doesn't say how many."""
    coverage: float = 0.9
    """What the interval of a number is to hold."""
    calibration: dict[str, Any] | None = None
    """How raw answers become probabilities; see calibration.py."""
    threshold: float | None = None
    """Of two classes: the probability from which a row counts as an event."""
    interval: dict[str, Any] | None = None
    """How wide the interval of a number is; see settle.py."""


class RowRequest(Section):
    """One row: the fields by their names, null where a value is not known. A field that is not given counts as not
    known, and the answer says so. `reasons` says how many reasons the answer is to name. The column that is predicted
    may come along and is not looked at."""

    model_config = ConfigDict(extra="allow", frozen=False, allow_inf_nan=True)
    codec: ClassVar[TabularCodec]
    _values: dict[str, Any] = PrivateAttr(default_factory=dict)
    _reasons: int = PrivateAttr(0)

    @model_validator(mode="before")
    @classmethod
    def _mend(cls, sent: Any) -> Any:
        """What JSON's readers let through and nobody can write again: NaN counts as not known, halves of surrogate
        pairs become U+FFFD."""
        if isinstance(sent, cls):
            return sent
        if not isinstance(sent, dict):
            raise ValueError("a row is an object of fields")
        target = cls.codec.settings.target
        return {_whole(name): _whole(value) for name, value in sent.items() if name != target}

    @model_validator(mode="after")
    def _read(self) -> RowRequest:
        self._values, self._reasons = self.codec.read(self.model_extra or {})
        return self

    def plain(self) -> dict[str, Any]:
        """The row as it was sent."""
        asks = self.codec.asks
        return {name: value for name, value in (self.model_extra or {}).items() if name != ASKS or not asks}


class TabularCodec:
    """Requests to features and answers back, by the settings in bundle.json, features.json and reasons.safetensors."""

    one = None
    many = "rows"

    def __init__(self, bundle: Path) -> None:
        """Raises DataError when the bundle's files cannot be read."""
        try:
            manifest = json.loads((bundle / "bundle.json").read_bytes())
            self.settings = TabularSettings.model_validate(manifest["settings"])
            self.step = CleanStep(**manifest["cleaning"])
        except Exception as error:
            do = "make the bundle again: llmops compress CONFIG"
            raise DataError(f"the bundle cannot be read: {error!r}", str(bundle), do) from error
        told = self.settings
        self.kinds: dict[str, Kind] = {name: kind_of(one) for name, one in told.fields.items() if one.kind != "id"}
        self.plan = Plan.read(bundle)
        self.reasons = Reasons.read(bundle, self.plan)
        ids = [name for name, one in told.fields.items() if one.kind == "id"]
        self.ids: dict[str, Kind] = {
            name: kind_of(FieldSection(kind="id")) for name in [*([told.id] if told.id else []), *ids]
        }
        self.asks = ASKS not in self.kinds
        self.Request: type[RowRequest] = type(
            "RowRequest", (RowRequest,), {"codec": self, "__doc__": RowRequest.__doc__}
        )
        self.Response: type[Section] = ClassResponse if told.predict == "class" else NumberResponse
        self.sample = self.Request.model_validate(
            {name: _example(kind, told.known[name]) for name, kind in self.kinds.items()}
        )

    # --- requests ----------------------------------------------------------------------------------------------------

    def request(self, row: Mapping[str, Any]) -> RowRequest:
        """The request that a row of a data set would have been; it asks for no reasons."""
        asks = {ASKS: 0} if self.asks else {}
        return self.Request.model_validate({**self.sent({name: row.get(name) for name in self.kinds}), **asks})

    def sent(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a row of a data set as a client sends them; fields that it lacks stay out."""
        return {name: _sent(kind, row[name]) for name, kind in self.kinds.items() if name in row}

    def read(self, row: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        """The fields' values and how many reasons are wanted. Raises ValueError that names every mistake."""
        strangers = [name for name in row if not self._known(name)]
        wrong = [self._stranger(name) for name in strangers[:TOLD]]
        values: dict[str, Any] = {}
        for name, kind in self.kinds.items():
            try:
                values[name] = kind.cleaned(kind.read(row.get(name)), self.step)
            except BadCell as error:
                wrong.append(f"{name}: {_shown(row.get(name))}: {error}")
        wrong += [told for name, kind in self.ids.items() if (told := _bad_id(kind, name, row.get(name)))]
        if not any(name in row for name in self.kinds):
            wrong.append("the row holds none of the model's fields")
        count = row.get(ASKS, self.settings.reasons) if self.asks else self.settings.reasons
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= 1000:
            wrong.append(f"{ASKS}: {_shown(count)} is not a number from 0 to 1000")
        if wrong:
            raise ValueError(_told(wrong, len(wrong) + len(strangers[TOLD:])))
        return values, count

    def _known(self, name: str) -> bool:
        return name in self.kinds or name in self.ids or (self.asks and name == ASKS)

    def _stranger(self, name: str) -> str:
        near = difflib.get_close_matches(name[:SHOWN], [*self.kinds, *self.ids, self.many, ASKS], 1)
        return f"`{_cut(name)}` is no field of this model" + (f" (did you mean `{near[0]}`?)" if near else "")

    def size(self, request: RowRequest) -> int:
        """Characters of its texts, and one for each other value."""
        return sum(len(value) if isinstance(value, str) else 1 for value in (request.model_extra or {}).values())

    def cells(self, request: RowRequest) -> int:
        """One: rows are all of one length."""
        return 1

    def encode(self, requests: Sequence[RowRequest]) -> Arrays:
        """`x` float32 [rows, features]; where there are networks, `occluded` rows for the reasons of all that want
        some."""
        rows = [one._values for one in requests]
        columns = {name: kind.column([row[name] for row in rows]) for name, kind in self.kinds.items()}
        x = self.plan.transform(columns)
        if self.reasons.networks is None:
            return self.plain_arrays(x)
        asking = np.array([one._reasons > 0 for one in requests], bool)
        return {"x": x, "occluded": self.reasons.occluded(x[asking])}

    def plain_arrays(self, x: Floats) -> Arrays:
        """Arrays for features that are there already, without reasons."""
        return {"x": x} if self.reasons.networks is None else {"x": x, "occluded": x[:0]}

    # --- answers -----------------------------------------------------------------------------------------------------

    def decode(self, arrays: Sequence[Any], requests: Sequence[RowRequest]) -> list[Any]:
        """Responses from raw answers float64 [rows, outputs], the features they were given for, and what the networks
        say to occluded rows."""
        raw = np.asarray(arrays[0], np.float64)
        if self.settings.predict == "number":
            outputs = np.zeros(len(raw), np.int64)
            answer: Any = partial(self._number, raw[:, 0], interval(raw[:, 0], self.settings.interval or {}))
        else:
            probabilities = apply(raw, self.settings.calibration or {})
            said = decided(probabilities, self.settings.threshold)
            outputs = said if raw.shape[1] > 1 else np.zeros(len(raw), np.int64)
            answer = partial(self._class, raw, probabilities, said, outputs)
        effects, base = self._effects(arrays, requests, outputs), self.reasons.base[outputs]
        return [answer(row, self._shared(one, effects[row], float(base[row]))) for row, one in enumerate(requests)]

    def _effects(self, arrays: Sequence[Any], requests: Sequence[RowRequest], outputs: Floats) -> Floats:
        """float64 [rows, columns]; rows that want no reasons stay 0."""
        made = np.zeros((len(requests), len(self.reasons.columns)))
        asking = np.flatnonzero([one._reasons > 0 for one in requests])
        if not len(asking):
            return made
        found = self.reasons.effects(arrays[1][asking], outputs[asking])
        if self.reasons.networks is not None:
            found = found + self.reasons.of_networks(arrays[2][asking], arrays[3], outputs[asking])
        made[asking] = found
        return made

    def _shared(self, one: RowRequest, effects: Floats, base: float) -> dict[str, Any]:
        """What answers of all kinds hold."""
        row, values, known = one.model_extra or {}, one._values, self.settings.known
        unseen = (kind.unseen(values[name], known[name]) for name, kind in self.kinds.items())
        order = np.argsort(-np.abs(effects), kind="stable")[: one._reasons]
        named = [(self.reasons.columns[place], float(effects[place])) for place in order]
        return {
            "reasons": [Reason(column=name, value=row.get(name), effect=effect) for name, effect in named],
            "others": float(effects.sum() - effects[order].sum()),
            "base": base,
            "missing": [name for name in self.kinds if name not in row],
            "unseen": [f"{name}: {told}" for name, told in zip(self.kinds, unseen, strict=True) if told is not None],
        }  # fmt: skip

    def _class(
        self, raw: Floats, probabilities: Floats, said: Floats, outputs: Floats, row: int, shared: dict[str, Any]
    ) -> ClassResponse:
        labels = self.settings.labels or []
        best = int(said[row])
        return ClassResponse(
            label=labels[best],
            probability=float(probabilities[row, best]),
            probabilities=dict(zip(labels, probabilities[row].tolist(), strict=True)),
            score=float(raw[row, outputs[row]]),
            reasons_for=labels[1] if len(labels) == 2 else labels[best],
            **shared,
        )

    def _number(self, values: Floats, bounds: Floats, row: int, shared: dict[str, Any]) -> NumberResponse:
        low, high = bounds[row].tolist()
        return NumberResponse(value=float(values[row]), low=low, high=high, coverage=self.settings.coverage, **shared)

    def schema(self) -> dict[str, Any]:
        """The JSON schema of a request."""
        properties = {name: _schema(kind, self.settings.known[name]) for name, kind in self.kinds.items()}
        own = {} if self.settings.id is None else {self.settings.id: {"type": ["string", "number", "null"]}}
        return {
            "type": "object", "properties": {**own, **properties}, "additionalProperties": False,
            "x-target": self.settings.target, "x-id": self.settings.id,
        }  # fmt: skip


def _example(kind: Kind, known: Mapping[str, Any]) -> Any:
    return next(iter(_schema(kind, known)["examples"]), None)


def _schema(kind: Kind, known: Mapping[str, Any]) -> dict[str, Any]:
    """A field's JSON schema. Dates whose field is written in its own way are words to a client; those that were whole
    days in training are asked for as days."""
    told = kind.schema(known)
    if kind.name != "date" or not known["quantiles"]:
        return told
    middle = datetime.fromtimestamp(known["quantiles"][3], UTC)
    if kind.section.dates:
        shown = middle.strftime(kind.section.dates)
        return {"type": told["type"], "x-control": "box", "x-dates": kind.section.dates, "examples": [shown]}
    # The outermost quantiles are values that training saw; the median may lie half-way between two.
    days = all(known["quantiles"][end] % DAY_S == 0 for end in (0, -1))
    return {**told, "format": "date", "examples": [middle.date().isoformat()]} if days else told


def _sent(kind: Kind, value: Any) -> Any:
    """A value of a data set as a client sends it in JSON."""
    if isinstance(value, datetime):
        return value.strftime(kind.section.dates) if kind.section.dates else value.isoformat()
    return value


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else as_text(value)
    return None if isinstance(value, float) and math.isnan(value) else value


def _bad_id(kind: Kind, name: str, value: Any) -> str | None:
    """What is wrong with a row's id."""
    try:
        read = kind.read(value)
    except BadCell as error:
        return f"{name}: {_shown(value)}: {error}"
    return f"{name}: longer than {ID_CHARS} characters" if read and len(read) > ID_CHARS else None


def _told(wrong: list[str], number: int) -> str:
    """The first mistakes, and how many more there are."""
    more = number - len(wrong[:TOLD])
    return "; ".join(wrong[:TOLD]) + (f"; and {more:,} more" if more else "")


def _shown(value: Any) -> str:
    try:
        return f"`{_cut(json.dumps(value, ensure_ascii=False, default=str))}`"
    except RecursionError:  # JSON is read a little deeper than it is written
        return "what it holds"


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"
