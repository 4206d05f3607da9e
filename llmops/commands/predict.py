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
    """Score every row of a CSV, JSONL or Parquet file; one JSON answer a line, in the file's order."""
    predictor = Predictor.open(_bundle(project, run_id))
    column = getattr(project.sections["task"], "text", "text")
    target = out or file.with_name(f"{file.name}.answers.jsonl")
    lines: list[str] = []
    bad = 0
    chunk: list[tuple[str, Any]] = []
    with console.progress(f"scoring {file.name}") as bar:
        for origin, request in _requests(file, column, predictor.codec):
            if isinstance(request, str):
                bad += 1
                lines.append(json.dumps({"origin": origin, "error": request}, ensure_ascii=False))
                continue
            chunk.append((origin, request))
            if len(chunk) == CHUNK:
                lines.extend(_answers(predictor, chunk))
                chunk = []
                bar.update(len(lines))
        lines.extend(_answers(predictor, chunk))
    write_whole(target, "".join(f"{line}\n" for line in lines))
    console.say(f"{len(lines) - bad} rows scored, {bad} could not be read; answers in {target}")
    if console.json:
        console.result({"rows": len(lines), "bad": bad, "answers": str(target)})


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
            yield origin, codec.Request(text=str(row.get(column) or ""))
        except ValidationError as error:
            yield origin, str(error.errors()[0]["msg"])
    for bad in reading.bad:
        yield bad.origin, bad.reason


def _answers(predictor: Predictor, chunk: list[tuple[str, Any]]) -> list[str]:
    answers = predictor.answer_all([request for _, request in chunk])
    return [
        json.dumps({"origin": origin, **answer.plain()}, ensure_ascii=False)
        for (origin, _), answer in zip(chunk, answers, strict=True)
    ]
