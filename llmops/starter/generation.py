"""A config for conversations, preferences or running text: text generation."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from llmops.core.errors import DataError
from llmops.core.protocols import Row
from llmops.records.look import LOOKED_AT, first_rows, must_have, open_data, sample
from llmops.records.profile import columns_of, language, text_columns
from llmops.records.readers import read
from llmops.records.reading import Reading
from llmops.records.twins import answer_of, characters
from llmops.starter.lines import bad_rows, beside, head, held_out, quoted, source
from llmops.starter.recognise import Kind, plain_source
from llmops.tasks import find

CHARACTERS = {"asian": 1.2}
"""Characters of a token, about; `OTHERS` for languages whose words have spaces between them."""
OTHERS = 3.0
FEW_PARAGRAPHS = 20
"""Text with fewer paragraphs is cut into lines."""
TINY, SMALL = 10_000, 60_000
"""Tokens below which many passes make too few steps, and below which the smaller of two networks learns as much."""
BUDGET = {128: 2_500_000, 256: 1_000_000}
"""Width -> tokens that such a network of four layers learns in about five minutes on two cores."""
CALL = 128
"""Tokens of an answer at least where tools may be called: half a call is none."""
BATCH = 8
FILLED = 6
"""More placeholders than this are the data's own."""
SHAPES = (
    "give rows with messages, conversations, instruction and output, or prompt and completion; for preferences, "
    "with chosen and rejected as well"
)


@dataclass(frozen=True)
class Seen:
    """What was seen: the examples' number and sizes (in tokens, about), and how they were read; `mended` is the share
    of chats whose turns had to be brought in order, `several` says that some have more than one answer,
    `tools` that some may call tools."""

    reading: Reading
    kind: Kind
    column: str | None
    cut: str
    rows: int
    tokens: int
    long: int
    long_answer: int
    placeholders: tuple[str, ...]
    mended: float
    several: bool
    tools: bool
    bad_share: float
    language: str


def see(data: Path, kind: Kind, column: str | None = None) -> Seen:
    """Look at the data. Raises DataError when there is nothing in it that the objective could learn from."""
    reading, cut = _plain(data) if kind.plain else (open_data(data), "paragraphs")
    rows = first_rows(reading, data)
    if kind.objective == "language-model":
        column = "text" if kind.plain else _column(rows, column, data)
    task = find("text-generation")
    about = {"objective": kind.objective} | ({"text": column} if column else {})
    section = task.section.model_validate({"name": task.name, **about})
    made = [task.example(section, row) for row in rows]
    examples = [example for example in made if isinstance(example, dict)]
    if not examples:
        reason = next(example for example in made if isinstance(example, str))
        raise DataError(f"no row of {data} can be learnt from: {reason}.", where=str(data), do=SHAPES)
    return _seen(reading, kind, column, cut, examples, 1 - len(examples) / (len(rows) + len(reading.bad)))


def _plain(data: Path) -> tuple[Reading, str]:
    """Plain text, by paragraphs; by lines where it has none to speak of."""
    for cut in ("paragraphs", "lines"):
        reading = read(plain_source(data, cut), Path.cwd(), ("text",))
        if cut == "lines" or len(list(islice(reading, FEW_PARAGRAPHS))) == FEW_PARAGRAPHS:
            break
    return read(plain_source(data, cut), Path.cwd(), ("text",)), cut


def _column(rows: list[Row], told: str | None, data: Path) -> str:
    """The column of documents."""
    columns = columns_of(sample(rows))
    must_have((told,), [column.name for column in columns], data)
    found = [column.name for column in text_columns(columns, "")]
    if told is None and not found:
        raise DataError(f"no column of {data} looks like text.", where=str(data), do="name it with --text COLUMN")
    return told or found[0]


def _seen(reading: Reading, kind: Kind, column: str | None, cut: str, examples: list[Row], bad_share: float) -> Seen:
    from llmops.tasks.text_generation.examples import unfilled

    tongue = language([example["text"] for example in sample(examples)])
    each = CHARACTERS.get(tongue, OTHERS)
    sizes = sorted(characters(example) for example in examples)
    answers = sorted(len(str(answer_of(example) or "").partition("\0")[0]) for example in examples)
    most = int(0.95 * (len(examples) - 1))
    return Seen(
        reading, kind, column, cut, len(examples), int(sum(sizes) / each), int(sizes[most] / each),
        int(answers[most] / each), tuple(unfilled(examples)),
        sum("mended" in example for example in examples) / len(examples),
        any(_answers_in(example) > 1 for example in examples), any(example.get("tools") for example in examples),
        bad_share, tongue,
    )  # fmt: skip


def _answers_in(example: Row) -> int:
    return sum(message["role"] == "assistant" for message in example.get("messages", ()))


def draft(seen: Seen, project: str, path: str, root: Path | None = None) -> str:
    """The config, as YAML; `path` is how it names the data, and models to start from are looked for below `root`."""
    what = {"language-model": "pieces of text", "instructions": "conversations", "preferences": "preferences"}
    many = f"{LOOKED_AT:,} and more" if seen.rows >= LOOKED_AT else f"{seen.rows:,}"
    about = (
        f"{many} {what[seen.kind.objective]}, about {math.ceil(seen.tokens / 1000):,} thousand tokens, {seen.language}"
    )
    start = _start(root) if seen.kind.objective == "preferences" else None
    parts = [head(about, path, project), _task(seen), _need(seen), _prepare(seen, path), _train(seen, start)]
    return "\n".join(line for part in [*parts, _rest(seen)] for line in part)


def context(seen: Seen) -> int:
    """Tokens that the model sees at once: a power of two that 95 % of the rows fit into, 64 to 512."""
    if seen.kind.objective == "language-model":
        return 128
    return next((size for size in (64, 128, 256) if size >= 1.1 * seen.long + 16), 512)


def _task(seen: Seen) -> list[str]:
    says = {
        "language-model": "writes on from what it is given",
        "instructions": "the loss is taken on the assistant's words only",
        "preferences": "chosen against rejected answers (DPO)",
    }
    longest = seen.long_answer * 1.3 if seen.long_answer else context(seen)
    least = CALL if seen.tools else 32
    answer = min(512, max(least, 16 * math.ceil(longest / 16)))
    lines = [
        "task:",
        "  name: text-generation",
        beside(f"  objective: {seen.kind.objective}", says[seen.kind.objective]),
        *([f"  text: {quoted(seen.column)}"] if seen.column not in (None, "text") else []),
        beside(f"  context: {context(seen)}", "tokens at once; prepare says how many rows are longer and were cut"),
        beside(f"  answer: {{max_tokens: {answer}}}", "how it writes by default; temperature: 0.8 varies answers"),
    ]
    if seen.several and seen.kind.objective == "instructions":
        lines.append(beside("  learn: every-answer", "or last-answer: those before it are context"))
    if seen.mended:
        why = f"between turns of one role in a row; {max(0.01, seen.mended):.0%} of the chats were mended"
        lines.append(beside('  join: "\\n"', why))
    if 0 < len(seen.placeholders) <= FILLED and seen.kind.objective != "language-model":
        values = ", ".join(f"{name}: {name.upper()}" for name in seen.placeholders)
        lines.append(beside(f"  fill: {{{values}}}", "what stands for {{...}} in the data"))
    return lines


def _need(seen: Seen) -> list[str]:
    bar = "reward_accuracy: {at_least: 0.8}" if seen.kind.objective == "preferences" else "loss: {at_most: 2.0}"
    figure = "reward accuracy" if seen.kind.objective == "preferences" else "nats a token"
    return [
        "need:",
        beside('  goal: ""', "in words: who uses the model for what"),
        beside("  accept:", "checked on the artifact that will serve, through the real server"),
        beside(f"    # {bar}", "your bar; a refused model leaves the old one in place"),
        "    # tokens_per_s: {at_least: 50}",
        beside("    parity: {at_least: 0.9}", "server and trained model agree, token by token"),
        beside("    above_baseline: null", "{at_least: 0} demands more than the simple baseline reaches"),
        beside("    champion: {no_worse_by: 0.05}", f"against the model that serves now ({figure})"),
    ]


def _prepare(seen: Seen, path: str) -> list[str]:
    share, running = held_out(seen.rows), seen.kind.plain
    more = {"rows": seen.cut} if seen.cut != "paragraphs" else {}
    documents = seen.kind.objective == "language-model"
    clean = "{unicode: NFC}" if documents else "{unicode: NFKC, redact: [email, phone, card, iban]}"
    split = f"{{valid: {share}, test: {share}{', by: order' if running else ''}}}"
    comment = "the ends of the text" if running else "test_file: PATH takes a test file of your own"
    return [
        "prepare:",
        f"  sources: [{source(seen.reading, path, **more)}]",
        *bad_rows(seen.bad_share, "cannot be learnt from; prepare tells why"),
        "  steps:",
        f"    - clean: {clean}",
        *([] if running else ["    - dedup: {near: 0.9}"]),
        beside(f"    - split: {split}", comment),
    ]


def _train(seen: Seen, start: str | None) -> list[str]:
    if start is not None:
        return ["train:", *_preferring(start)]
    if seen.kind.objective == "preferences":
        scratch = beside("  model: llama", "from scratch; give one that can answer: runs/NAME/latest/train/model")
        return ["train:", scratch, *_network(seen), "  epochs: 3", *_speed("3.0e-4")]
    why = "from scratch, in minutes: it learns what stands in the data, and no more; a model that knows a language:"
    other = "# --set 'train={model: NAME or FOLDER, method: lora, epochs: 3, learning_rate: 1.0e-4}'"
    return [f"# {why}", other, "train:", "  model: llama", *_network(seen), *_length(seen), *_speed("1.0e-3")]


def _preferring(start: str) -> list[str]:
    return [
        beside(f"  model: {quoted(start)}", "start and reference, which an earlier run made"),
        "  epochs: 3",
        "  batch_size: 8",
        "  learning_rate: 1.0e-4",
    ]


def _width(seen: Seen) -> int:
    return 128 if seen.tokens < SMALL else 256


def _network(seen: Seen) -> list[str]:
    wanted = 1024 if seen.tokens < 500_000 else 2048 if seen.tokens < 5_000_000 else 4096
    vocabulary = max(4096, wanted) if seen.language == "asian" else wanted
    return [
        beside(f"  vocabulary: {vocabulary}", "tokens of the tokenizer that is trained on the data"),
        f"  width: {_width(seen)}",
        "  layers: 4",
        "  heads: 4",
        "  dropout: 0.1",
    ]


def _length(seen: Seen) -> list[str]:
    """Passes that take minutes; where one is too many, so many steps."""
    budget = BUDGET[_width(seen)]
    if seen.tokens <= budget:
        most = 100 if seen.tokens < TINY else 30  # the best one is kept
        return [f"  epochs: {min(most, budget // max(1, seen.tokens))}"]
    steps = budget // (BATCH * context(seen))
    return ["  epochs: 1", beside(f"  steps: {steps}", "minutes on a laptop; without it, a whole pass")]


def _speed(rate: str) -> list[str]:
    return [f"  batch_size: {BATCH}", f"  learning_rate: {rate}", "  schedule: cosine", "  weight_decay: 0.1"]


def _rest(seen: Seen) -> list[str]:
    when = "corrections: 100, drift: true, every: 30d" if seen.kind.objective != "language-model" else "every: 30d"
    return [
        "compress: {candidates: [float32, int8-weights, int4-weights], max_quality_loss: 0.05}",
        "deploy: {port: 8080}",
        f"feedback: {{retrain_when: {{{when}}}}}",
        "",
    ]


def _start(root: Path | None) -> str | None:
    """The newest model below `root` that was taught to answer, as a config names it."""
    found = [] if root is None else root.glob("runs/*/latest/train/model/model.json")
    taught = [path for path in found if _answers(path)]
    newest = max(taught, key=lambda path: path.stat().st_mtime, default=None)
    return None if newest is None or root is None else newest.parent.relative_to(root).as_posix()


def _answers(about: Path) -> bool:
    try:
        return bool(json.loads(about.read_bytes()).get("objective") == "instructions")
    except (OSError, ValueError, AttributeError):
        return False
