"""A config for a table of mixed columns: the task tabular."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops.core.errors import DataError
from llmops.records.look import first_rows, must_have, open_data
from llmops.records.reading import Reading
from llmops.starter.columns import Guess, cells_of, guesses
from llmops.starter.lines import bad_rows, beside, head, held_out, one_line, quoted, source
from llmops.starter.target import Target, find_target
from llmops.starter.usable import bad_share, kept, spread

LOOKED_AT = 50_000
PROTECTED = frozenset(
    """sex gender age race ethnicity religion nationality disability geschlecht alter herkunft sexo género genero edad
    raza sexe genre âge origine sesso genere età sexo idade raça geslacht leeftijd płeć wiek cinsiyet yaş пол возраст
    性别 年龄 性別 年齢""".split()
)


@dataclass(frozen=True)
class Seen:
    """A table: its columns as they seem to be, the target among them, and the share of rows that can't be used."""

    reading: Reading
    rows: int
    guesses: list[Guess]
    target: Target
    bad_share: float
    spread: float
    """Of a number that is predicted: its standard deviation."""

    @property
    def fields(self) -> list[Guess]:
        """The columns that a request brings; ids that only tell rows apart are none."""
        return [guess for guess in self.guesses if guess.kind and guess.name not in (self.target.name, self.id)]

    @property
    def id(self) -> str | None:
        """The column by which an outcome finds its row: the first that tells all rows apart, an index last."""
        ids = [guess for guess in self.guesses if guess.kind == "id" and guess.name != self.target.name]
        alone = [guess for guess in ids if "share" not in guess.comment]
        return min(alone, key=lambda guess: "counts" in guess.comment).name if alone else None

    @property
    def group(self) -> str | None:
        """A column whose rows belong together."""
        return next((guess.name for guess in self.guesses if guess.kind == "id" and "share" in guess.comment), None)

    @property
    def date(self) -> str | None:
        return next((guess.name for guess in self.guesses if guess.kind == "date"), None)


def see(data: Path, label: str | None = None) -> Seen:
    """Look at the data; the target is guessed when `label` is absent. Raises DataError when there is none, or nothing
    to predict it from."""
    reading = open_data(data)
    rows = first_rows(reading, data, LOOKED_AT)
    columns = [cells for cells in cells_of(rows) if cells.name not in reading.duplicated]
    must_have([label], [cells.name for cells in columns], data)
    found = guesses(columns, reading.delimiter == ";")
    target = find_target(found, label)
    names = ", ".join(one_line(guess.name) for guess in found)
    if target is None:
        raise DataError(
            f"no column of {data} looks like what is to be predicted; there are {names}.",
            where=str(data),
            do="name it with --label COLUMN; it needs a few classes, or numbers",
        )
    found = kept(found, target, rows)
    seen = Seen(reading, len(rows), found, target, bad_share(found, target, rows, len(reading.bad)), spread(target))
    if not any(guess.kind not in ("", "id") and guess.settings.get("learn", True) for guess in seen.fields):
        raise DataError(f"nothing in {data} could tell `{target.name}`; there are {names}.", where=str(data))
    return seen


def draft(seen: Seen, project: str, path: str) -> str:
    """The config, as YAML; `path` is how it names the data."""
    target = seen.target
    if target.predict == "class":
        shares = [f"{one_line(name)} {n:,}" for name, n in target.counts.most_common(4)]
        what = f"{len(target.counts)} classes: {', '.join(shares)}{', ...' if len(target.counts) > 4 else ''}"
    else:
        what = "a number"
    about = f"{seen.rows:,} rows, {len(seen.guesses)} columns; predicts {one_line(target.name)} ({what})"
    return "\n".join([*head(about, path, project), *_task(seen), *_need(seen), *_prepare(seen, path), *_rest(seen)])


def _task(seen: Seen) -> list[str]:
    target = seen.target
    others = f"might also be: {', '.join(map(one_line, target.others))}" if target.others else ""
    lines = [
        "task:",
        "  name: tabular",
        _told(f"  target: {quoted(target.name)}", others),
        _told(f"  predict: {target.predict}", target.comment),
    ]
    if target.positive is not None:
        lines.append(beside(f"  positive: {quoted(target.positive)}", "the event that probabilities are of"))
    if target.predict == "number" and target.guess.settings.get("decimal") == ",":
        lines.append(beside('  decimal: ","', "how the target is written"))
    if seen.id:
        lines.append(beside(f"  id: {quoted(seen.id)}", "an outcome that comes later finds its row by it"))
    lines.append(beside("  fields:", "what a request brings; correct what is wrong"))
    lines += [_field(guess) for guess in seen.fields]
    left = [f"{one_line(guess.name) or 'a column'} ({guess.comment})" for guess in seen.guesses if not guess.kind]
    left += [f"{one_line(name)} (stands more than once)" for name in sorted(seen.reading.duplicated)]
    return [*lines, *(f"    # left out: {name}" for name in left)]


def _field(guess: Guess) -> str:
    settings = guess.settings
    if set(settings) == {"kind"}:
        return _told(f"    {quoted(guess.name)}: {guess.kind}", guess.comment)
    told = ", ".join(f"{name}: {_plain(value)}" for name, value in settings.items())
    return _told(f"    {quoted(guess.name)}: {{{told}}}", guess.comment)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(quoted, value))}]"
    return quoted(str(value))


def _told(line: str, comment: str) -> str:
    return beside(line, one_line(comment)) if comment else line


def _need(seen: Seen) -> list[str]:
    slices = [guess.name for guess in seen.fields if {*guess.cells.words()} & PROTECTED and guess.kind != "text"]
    number = seen.target.predict == "number"
    two = seen.target.positive is not None
    loss = float(f"{0.05 * seen.spread:.1g}") if number else 0.02 if seen.rows >= 5000 else 0.05
    bar = "r2: {at_least: 0.8}" if number else "roc_auc: {at_least: 0.8}"
    lines = ["need:", beside('  goal: ""', "in words: who decides what by it")]
    if two:
        lines.append(beside("  # costs: {missed: 5, alarm: 1}", "what mistakes cost; chooses the threshold"))
    if slices:
        names = ", ".join(map(quoted, slices))
        lines.append(
            beside(f"  slices: [{names}]", "figures told apart by these; learn: false keeps one from the model")
        )
    return [
        *lines,
        beside("  accept:", "checked on the artifact that will serve, through the real server"),
        beside(f"    # {bar}", "your bar; a refused model leaves the old one in place"),
        "    # latency_p95_ms: {at_most: 20}",
        beside("    parity: {at_least: 0.99}", "server and trained model agree"),
        beside("    above_baseline: null", "{at_least: 0} demands more than the linear baseline reaches"),
        beside(f"    champion: {{no_worse_by: {loss:g}}}", "against the model that serves now"),
    ]


def _prepare(seen: Seen, path: str) -> list[str]:
    share = held_out(seen.rows)
    few = seen.rows < 5000  # there folds validate, and every row that learns counts
    split = f"valid: {min(share, 0.05) if few else share}, test: {share}"
    comment = "test_file: PATH takes a test file of your own"
    if seen.group:
        split += f", by: group, group: {quoted(seen.group)}"
        comment = f"rows that share {one_line(seen.group)} stay together"
    elif seen.date:
        comment = f"by: time, time: {quoted(seen.date)} tests on the newest rows"
    return [
        "prepare:",
        f"  sources: [{source(seen.reading, path)}]",
        *bad_rows(seen.bad_share, f"lack {one_line(seen.target.name)} or have a cell that can't be read"),
        "  steps:",
        beside("    - dedup: {near: null}", "equal rows go; those that are much alike stay"),
        beside(f"    - split: {{{split}}}", comment),
    ]


def _rest(seen: Seen) -> list[str]:
    return [
        "# several kinds of models, averaged as held-out rows tell; model: trees or linear is quicker",
        "train: {model: blend}",
        "compress: {candidates: [float32]}",
        "deploy: {port: 8080, max_batch: 64}",
        "feedback: {retrain_when: {corrections: 200, drift: true, every: 30d}}",
        "",
    ]
