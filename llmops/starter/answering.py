"""A config for questions and their answers: the task answering."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llmops.core.errors import DataError
from llmops.records.look import first_rows, must_have, open_data, sample
from llmops.records.profile import Column, columns_of, language, text_columns
from llmops.records.reading import Reading
from llmops.starter.lines import bad_rows, beside, head, held_out, quoted, source
from llmops.starter.recognise import question_and_answer

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
SOURCES = "source url link page section title".split()
BUDGET = 6_000  # rows times epochs that the encoder trains in some five minutes on two cores, question and answer each


@dataclass(frozen=True)
class Seen:
    """Questions with their answers: the columns, the rows that have both, and in which language they ask."""

    reading: Reading
    question: str
    answer: str
    source: str | None
    rows: int
    answers: int
    bad_share: float
    language: str


def see(data: Path, question: str | None = None, answer: str | None = None) -> Seen:
    """Look at the data; the columns are guessed when absent. Raises DataError when there are no two of texts."""
    reading = open_data(data)
    rows = first_rows(reading, data)
    columns = columns_of(sample(rows))
    names = [column.name for column in columns]
    must_have((question, answer), names, data)
    asked, told = _pair(columns, question, answer, data)
    given = [(str(row.get(asked) or "").strip(), str(row.get(told) or "").strip()) for row in rows]
    whole = [pair for pair in given if all(pair)]
    if not whole:
        raise DataError(f"no row of {data} has a question and an answer.", where=str(data), do="fill the cells")
    others = [column for column in columns if column.name not in (asked, told)]
    where = next((column.name for column in others if column.named(SOURCES)), None)
    return Seen(
        reading, asked, told, where, len(whole), len({answer for _, answer in whole}),
        1 - len(whole) / (len(rows) + len(reading.bad)), language([question for question, _ in whole[:2000]]),
    )  # fmt: skip


def _pair(columns: list[Column], question: str | None, answer: str | None, data: Path) -> tuple[str, str]:
    """The two columns: those that were told, those that their names and contents tell, or the two likeliest texts."""
    found = question_and_answer(columns)
    texts = [column.name for column in text_columns(columns, "")]
    asked = question or (found[0] if found else next((name for name in texts if name != answer), None))
    told = answer or (found[1] if found else next((name for name in texts if name != asked), None))
    if asked is None or told is None or asked == told:
        raise DataError(
            f"{data} has no two columns that look like questions and answers; there are "
            f"{', '.join(column.name for column in columns)}.",
            where=str(data),
            do="name them with --text (the question) and --label (the answer)",
        )
    return asked, told


def draft(seen: Seen, project: str, path: str) -> str:
    """The config, as YAML; `path` is how it names the data."""
    about = f"{seen.rows:,} questions with {seen.answers:,} different answers, {seen.language}"
    return "\n".join([*head(about, path, project), *_task(seen), *_prepare(seen, path), *_train(seen), *_rest(seen)])


def _task(seen: Seen) -> list[str]:
    named = [f"question: {quoted(seen.question)}", f"answer: {quoted(seen.answer)}"]
    named += [f"source: {quoted(seen.source)}"] if seen.source else []
    return [
        "# finds the best answer; to sort questions into classes instead: llmops init --task text-classification",
        "task:",
        f"  {{name: answering, {', '.join(named)}}}",
        "# in it, documents: FOLDER lets their passages be found too, phrase: {url, model} lets a model phrase answers",
        "need:",
        beside('  goal: ""', "in words: who asks what"),
        beside("  accept:", "checked on the artifact that will serve, through the real server"),
        beside("    # recall_at_1: {at_least: 0.7}", "your bar; a refused model leaves the old one in place"),
        "    # latency_p95_ms: {at_most: 60}",
        beside("    parity: {at_least: 0.9}", "server and trained model agree"),
        beside("    above_baseline: null", "{at_least: 0} demands more than BM25 reaches"),
        beside("    champion: {no_worse_by: 0.05}", "against the model that serves now"),
    ]


def _prepare(seen: Seen, path: str) -> list[str]:
    share = held_out(seen.rows)
    return [
        "prepare:",
        f"  sources: [{source(seen.reading, path)}]",
        *bad_rows(seen.bad_share, "lack a question or an answer"),
        "  steps:",
        beside("    - clean: {unicode: NFKC, redact: [email, phone, card, iban]}", "questions; answers stay"),
        beside("    - dedup: {near: null}", "questions that differ in one word may have different answers"),
        beside(f"    - split: {{valid: {share}, test: {share}}}", "test_file: PATH takes a test file of your own"),
    ]


def _train(seen: Seen) -> list[str]:
    affordable = BUDGET // seen.rows
    wanted = min(8, max(4, round(1_200 / seen.rows)))
    few = affordable < 2
    method = "method: frozen, epochs: 8" if few else f"epochs: {min(wanted, affordable)}, learning_rate: 1.0e-4"
    why = (
        "only the projection after the encoder learns, in seconds; with a GPU or patience: method: full"
        if few
        else "a pretrained encoder, fine-tuned; seconds instead of minutes: method: frozen"
    )
    if seen.language != "english":
        why += f"; this one knows English best, so give one for {seen.language} if you have it"
    return [f"# {why}", f"train: {{model: {ENCODER}, {method}}}"]


def _rest(seen: Seen) -> list[str]:
    loss = 0.02 if seen.rows * held_out(seen.rows) >= 200 else 0.05
    return [
        f"compress: {{candidates: [float32, int8, int8-weights], max_quality_loss: {loss}}}",
        "deploy: {port: 8080}",
        "feedback: {retrain_when: {corrections: 50, drift: true, every: 30d}}",
        "",
    ]
