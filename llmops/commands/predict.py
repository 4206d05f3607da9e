"""predict: batch scoring of a file, by the same codec and runtime as the server."""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from llmops.bundle.predictor import Predictor
from llmops.core.artifact import write_whole
from llmops.core.console import Console
from llmops.core.errors import DataError
from llmops.core.run import RunStore
from llmops.project import Project
from llmops.records.config import SourceSection
from llmops.records.readers import read
from llmops.records.reading import BadRow
from llmops.registry import store as registry

CHUNK = 2048
ROWS_AT_ONCE = 256
"""Rows of a table that are computed together."""
Answer = dict[str, Any]


def predict_file(project: Project, file: Path, out: Path | None, run_id: str | None, console: Console) -> None:
    """Answer every row of a CSV, JSONL or Parquet file: one JSON answer a line, in the file's order (of a model that
    writes, in the order in which answers end)."""
    predictor = Predictor.open(_bundle(project, run_id))
    writes = predictor.manifest.runtime == "stepper"
    answers = _answered(predictor, file, project, console)
    target = out or file.with_name(f"{file.name}.answers.jsonl")
    lines: list[str] = []
    bad = 0
    with console.progress(f"{'writing' if writes else 'scoring'} {file.name}") as bar:
        for answer in answers:
            bad += "error" in answer
            lines.append(json.dumps(answer, ensure_ascii=False))
            bar.update(len(lines))
    write_whole(target, "".join(f"{line}\n" for line in lines))
    did = "answered" if writes else "scored"
    console.say(f"{len(lines) - bad} rows {did}, {bad} could not be read; answers in {target}")
    if console.json:
        console.result({"rows": len(lines), "bad": bad, "answers": str(target)})


def _answered(predictor: Predictor, file: Path, project: Project, console: Console) -> Iterator[Answer]:
    """The answers to a file, by the kind of model."""
    if predictor.manifest.runtime == "stepper":
        return _written(predictor, file)
    if predictor.codec.one is None:
        return _tabled(predictor, file, console)
    return _scored(predictor, file, _column(project))


def _column(project: Project) -> str:
    """The column that holds what is asked."""
    return next(iter(project.task.columns(project.sections["task"])), "text")


def _written(predictor: Predictor, file: Path) -> Iterator[Answer]:
    """The answers of a model that writes to a file of prompts or conversations."""
    from llmops.commands.writing import Writer

    reading = read(str(file.resolve()), file.resolve().parent, columns=("prompt",))
    yield from Writer(predictor).write(reading)
    for bad in reading.bad:
        yield {"origin": bad.origin, "error": bad.reason}


def _scored(predictor: Predictor, file: Path, column: str) -> Iterator[Answer]:
    """The answers of a one-shot model, in chunks, so that batches are of like sizes."""
    chunk: list[tuple[str, Any]] = []
    for origin, request in _requests(file, column, predictor.codec):
        if isinstance(request, str):
            yield {"origin": origin, "error": request}
            continue
        chunk.append((origin, request))
        if len(chunk) == CHUNK:
            yield from _answers(predictor, chunk)
            chunk = []
    yield from _answers(predictor, chunk)


def _tabled(predictor: Predictor, file: Path, console: Console) -> Iterator[Answer]:
    """The answers of a model that reads rows of fields, with the rows' ids, in the file's order. Cells are read as
    training read them, a column at a time; columns that are no fields are not looked at, and fields that the file lacks
    count as not known. Raises DataError when it holds none of them."""
    from llmops.records.columns import read_columns

    codec, name = predictor.codec, str(file.resolve())
    columns = read(name, file.resolve().parent, ()).columns
    there = [field for field in codec.kinds if columns is None or field in columns]
    if not there:
        do = f"the model's fields are {', '.join(codec.kinds)}; the file has {', '.join(columns or [])}"
        raise DataError(f"{file.name} holds none of the model's fields.", f"{name}:1", do)
    if lacking := [field for field in codec.kinds if field not in there]:
        console.say(f"{file.name} lacks {', '.join(lacking)}: not known, in every row")
    ids = [one for one in codec.ids if columns is not None and one in columns]
    kinds = {field: codec.kinds[field] for field in there}
    found = read_columns(SourceSection(path=name), file.resolve().parent, kinds, {one: one for one in ids})
    good = _rows_answered(predictor, found.columns, ids)
    yield from heapq.merge(good, _unread(found.bad), key=lambda answer: _line(answer["origin"]))


def _rows_answered(predictor: Predictor, rows: Any, ids: Sequence[str]) -> Iterator[Answer]:
    """The answers to typed rows, a few at a time."""
    from llmops.fields.rows import noted

    codec = predictor.codec
    for start in range(0, len(rows), ROWS_AT_ONCE):
        table = rows.table.slice(start, ROWS_AT_ONCE)
        some = table.to_pylist()
        answers = predictor.answer([codec.Request.model_validate(codec.sent(row)) for row in some])
        for row, answer in zip(some, answers, strict=True):
            own = {one: row[noted(one)] for one in ids}
            yield {"origin": row[noted("origin")], **own, **answer.plain()}


def _unread(bad: Sequence[BadRow]) -> list[Answer]:
    """Rows that can't be read with why, in the file's order."""
    told = [{"origin": one.origin, "error": f"{one.reason}: {one.detail}" if one.detail else one.reason} for one in bad]
    return sorted(told, key=lambda answer: _line(answer["origin"]))


def _line(origin: str) -> tuple[int, ...]:
    """Where in its file a row stands: FILE:LINE, or FILE:LINE[NUMBER]."""
    found = re.search(r":(\d+)(?:\[(\d+)\])?$", origin)
    return tuple(int(part) for part in found.groups() if part) if found else ()


def _bundle(project: Project, run_id: str | None) -> Path:
    if run_id is not None:
        return RunStore(project.places.runs).find(run_id).open_artifact("compress", "bundle")
    found = registry.champion(project.places.registry)
    if found is None:
        raise DataError(
            f"{project.name} has no champion yet", str(project.places.registry), "make one: llmops run CONFIG"
        )
    return found[1]


def _requests(file: Path, column: str, codec: Any) -> Iterator[tuple[str, Any]]:
    """(origin, request), or (origin, why not) for a row without a usable text."""
    reading = read(str(file.resolve()), file.resolve().parent, columns=(column, "label"))
    reading.require([column])
    for row, origin in reading:
        try:
            yield origin, codec.Request(**{codec.one: str(row.get(column) or "")})
        except ValidationError as error:
            yield origin, str(error.errors()[0]["msg"])
    for bad in reading.bad:
        yield bad.origin, bad.reason


def _answers(predictor: Predictor, chunk: list[tuple[str, Any]]) -> Iterator[Answer]:
    answers = predictor.answer_all([request for _, request in chunk])
    for (origin, _), answer in zip(chunk, answers, strict=True):
        yield {"origin": origin, **answer.plain()}
