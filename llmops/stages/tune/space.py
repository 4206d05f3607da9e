"""The search space: check its axes against the fields of `train:`, and turn a trial's choices into a train section.

An axis of a block within the block is dotted: `trees.leaves`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Mapping
from itertools import product
from typing import Annotated, Any, get_args, get_origin

from pydantic import ValidationError

from llmops.core.errors import Mistake
from llmops.core.section import Section
from llmops.stages.tune.config import Axis

Space = Mapping[str, Axis]
Picks = dict[str, Any]
"""One trial's choice on every axis: the number itself, or for `choice` the index of the value (Optuna
takes only plain values as categories; an index stands for any)."""


def mistakes(space: Space, train: Section, encoding: Collection[str]) -> list[Mistake]:
    """What is wrong with `space`, given the config's `train` section and the names of the settings that
    decide how rows are encoded: a trial that changed those would need another data set."""
    found: list[Mistake] = []
    for name, axis in space.items():
        found.extend(_axis_mistakes(name, axis, train, encoding))
    return found


def _axis_mistakes(name: str, axis: Axis, train: Section, encoding: Collection[str]) -> list[Mistake]:
    where = f"tune.space.{name}"
    if (annotation := annotation_of(type(train), name)) is None:
        near = difflib.get_close_matches(name, [one for one in names(type(train)) if one not in encoding], n=1)
        do = f"did you mean `{near[0]}`?  See: llmops explain train" if near else "see: llmops explain train"
        return [Mistake(f"`{name}` is not a setting of `train`.", where, do=do)]
    if name.partition(".")[0] in encoding:
        do = "leave it out of the space; to compare models, make one run for each: llmops compare"
        return [Mistake(f"`{name}` decides how the data set is encoded, so tune cannot vary it.", where, do=do)]
    kind = number_kind(annotation)
    span = axis.log or axis.uniform
    if span is not None and kind is None:
        return [Mistake(f"`{name}` is not a number, so it has no range.", where, do="list its values: `choice: [..]`")]
    if span is not None and kind is int and any(bound != int(bound) for bound in span):
        return [
            Mistake(f"`{name}` takes whole numbers; the bounds {list(span)} are not.", where, do="write whole numbers")
        ]
    # The allowed range of every field is an interval, so two good bounds mean that all between is good.
    tried = list(span) if span is not None else list(axis.choice or [])
    return [found for value in tried if (found := _value_mistake(name, value, kind, train, where))]


def _value_mistake(name: str, value: Any, kind: type | None, train: Section, where: str) -> Mistake | None:
    if kind is int and isinstance(value, float) and value == int(value):
        value = int(value)
    try:
        with_settings(train, {name: value})
    except ValidationError as error:
        said = error.errors()[0]["msg"]
        return Mistake(f"`{name}` cannot be {value!r}: {said}.", where, do=f"see: llmops explain train.{name}")
    return None


def names(train: type[Section]) -> list[str]:
    """The settings of a block, those of the blocks within it dotted."""
    found: list[str] = []
    for name, field in train.model_fields.items():
        inner = block_of(field.annotation)
        found += [name] if inner is None else [f"{name}.{one}" for one in names(inner)]
    return found


def annotation_of(train: type[Section], name: str) -> Any | None:
    """The annotation of a setting, dotted where it lies in a block within the block; None where there is none."""
    first, _, rest = name.partition(".")
    if first not in train.model_fields:
        return None
    annotation = train.model_fields[first].annotation
    if not rest:
        return annotation
    inner = block_of(annotation)
    return annotation_of(inner, rest) if inner is not None else None


def value_of(train: Section, name: str) -> Any:
    """The value of a setting, dotted where it lies in a block within the block; None where that block is absent."""
    value: Any = train
    for part in name.split("."):
        value = getattr(value, part, None)
    return value


def block_of(annotation: Any) -> type[Section] | None:
    """The block that a field of this annotation holds, if any."""
    kinds = [annotation, *get_args(annotation)]
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)


def number_kind(annotation: Any) -> type | None:
    """`int` or `float` when a field of this annotation holds a number (or None), else None."""
    kinds = set(get_args(annotation)) or {annotation}
    kinds |= {get_args(kind)[0] for kind in kinds if get_origin(kind) is Annotated}
    if float in kinds:
        return float
    return int if int in kinds else None


def with_settings(train: Section, settings: Mapping[str, Any]) -> Section:
    """The train section with some settings (dotted ones too) changed; raises pydantic's ValidationError on a bad
    value."""
    return type(train).model_validate(merged(train.plain(), settings))


def merged(plain: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Plain settings with some changed, those with a dot in the blocks within."""
    found = dict(plain)
    for name, value in settings.items():
        first, _, rest = name.partition(".")
        found[first] = merged(found.get(first) or {}, {rest: value}) if rest else value
    return found


def settings(space: Space, picks: Picks) -> dict[str, Any]:
    """A trial's picks as settings of `train:`."""
    return {name: axis.choice[picks[name]] if axis.choice else picks[name] for name, axis in space.items()}


def own_picks(space: Space, train: Section) -> Picks:
    """The picks that the config's own settings stand for; those that lie outside the space are left out."""
    picks: Picks = {}
    for name, axis in space.items():
        value = value_of(train, name)
        plain = value.plain() if isinstance(value, Section) else value
        span = axis.log or axis.uniform
        if span is not None and isinstance(value, int | float) and span[0] <= value <= span[1]:
            picks[name] = value
        elif axis.choice is not None and plain in axis.choice:
            picks[name] = axis.choice.index(plain)
    return picks


def grid(space: Space, train: type[Section], points: int) -> list[Picks]:
    """Every combination of the axes' values; `log` and `uniform` axes have `points` of them, evenly spread."""
    columns = [_grid_axis(axis, number_kind(annotation_of(train, name)), points) for name, axis in space.items()]
    return [dict(zip(space, row, strict=True)) for row in product(*columns)]


def _grid_axis(axis: Axis, kind: type | None, points: int) -> list[Any]:
    if axis.choice is not None:
        return list(range(len(axis.choice)))
    steps = [step / (points - 1) for step in range(points)]
    if axis.log is not None:
        low, high = axis.log
        values = [math.exp(math.log(low) + step * math.log(high / low)) for step in steps]
    else:
        low, high = axis.uniform or (0.0, 0.0)
        values = [low + step * (high - low) for step in steps]
    values[0], values[-1] = low, high
    return sorted({round(value) for value in values}) if kind is int else values
