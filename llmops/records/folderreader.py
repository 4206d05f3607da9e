"""A folder of text: one folder per label, one file per row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from llmops.core.errors import DataError
from llmops.core.protocols import Row
from llmops.records.config import SourceSection
from llmops.records.reading import EXCERPT, BadRow, Reading
from llmops.records.textfiles import find_encoding, lines

TEXT_ENDINGS = {".txt", ".text", ".md", ""}


def read_folder(path: Path, name: str, source: SourceSection, columns: tuple[str, ...]) -> Reading:
    """The text files below the label folders of `path`, sorted; `columns` name the row's text and its label.

    Raises DataError when there is no label folder or no text file in any, and when the task's rows are not a text and
    one thing said about it.
    """
    if len(columns) != 2:
        raise DataError(
            f"{name} is a folder, and this task's rows have fields that a folder of text does not hold.",
            where=str(path),
            do="name files inside it: JSON, JSONL, CSV or Parquet",
        )
    labels = sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    files = [(file, folder.name) for folder in labels for file in text_files(folder)]
    if not files:
        inside = sorted(file.name for file in path.iterdir() if file.is_file())[:5]
        raise DataError(
            f"{name} is a folder without text files in label folders.",
            where=str(path),
            do=f"name a file inside it ({', '.join(inside)})" if inside else f"expected {name}/LABEL/SOMETHING.txt",
        )
    bad: list[BadRow] = []
    return Reading(name=name, rows=_rows(files, path, name, source, columns, bad), columns=list(columns), bad=bad)


def text_files(folder: Path) -> list[Path]:
    """The text files of a folder and those below it, sorted; hidden files are left out."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.is_file() and file.suffix.lower() in TEXT_ENDINGS and not file.name.startswith(".")
    )


def _rows(
    files: list[tuple[Path, str]],
    root: Path,
    name: str,
    source: SourceSection,
    columns: tuple[str, ...],
    bad: list[BadRow],
) -> Iterator[tuple[Row, str]]:
    for file, label in files:
        origin = f"{name}/{file.relative_to(root).as_posix()}:1"
        if file.stat().st_size == 0:
            bad.append(BadRow(origin, "missing_value", "the file is empty"))
            continue
        try:
            read = list(lines(file, find_encoding(file, origin, source.encoding)))
        except (DataError, OSError) as error:
            bad.append(BadRow(origin, "unreadable_file", str(error)))
            continue
        text = "".join(line.text for line in read)
        problem = next((line.problem for line in read if line.problem), "")
        if problem:
            bad.append(BadRow(origin, problem, "", text[:EXCERPT]))
        else:
            yield {columns[0]: text, columns[1]: label}, origin
