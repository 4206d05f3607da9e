"""predict: batch scoring of a file, by the same codec and runtime as the server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from llmops.bundle.predictor import Predictor
from llmops.core.artifact import write_whole
from llmops.core.console import Console
from llmops.core.errors import DataError
from llmops.core.run import RunStore
from llmops.project import Project
from llmops.records.readers import read
from llmops.registry import store as registry

CHUNK = 2048


def predict_file(project: Project, file: Path, out: Path | None, run_id: str | None, console: Console) -> None:
    """Answer every row of a CSV, JSONL or Parquet file: one JSON answer a line, in the file's order (of a model that
    writes, in the order in which answers end)."""
    predictor = Predictor.open(_bundle(project, run_id))
    writes = predictor.manifest.runtime == "stepper"
    answers = _written(predictor, file) if writes else _scored(predictor, file, _column(project))
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


def _column(project: Project) -> str:
    """The column that holds what is asked."""
    return next(iter(project.task.columns(project.sections["task"])), "text")


def _written(predictor: Predictor, file: Path) -> Iterator[dict[str, Any]]:
    """The answers of a model that writes to a file of prompts or conversations."""
    from llmops.commands.writing import Writer

    reading = read(str(file.resolve()), file.resolve().parent, columns=("prompt",))
    yield from Writer(predictor).write(reading)
    for bad in reading.bad:
        yield {"origin": bad.origin, "error": bad.reason}


def _scored(predictor: Predictor, file: Path, column: str) -> Iterator[dict[str, Any]]:
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


def _answers(predictor: Predictor, chunk: list[tuple[str, Any]]) -> Iterator[dict[str, Any]]:
    answers = predictor.answer_all([request for _, request in chunk])
    for (origin, _), answer in zip(chunk, answers, strict=True):
        yield {"origin": origin, **answer.plain()}
