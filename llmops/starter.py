"""What `llmops init` does: looks at data that nobody described and writes a config for it that works unchanged."""

from __future__ import annotations

import json
import re
from pathlib import Path

from llmops.core.artifact import write_whole
from llmops.core.errors import UsageError
from llmops.core.places import default_root
from llmops.records.look import Look, look
from llmops.records.readers import ENDINGS

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
EVERYDAY = {"train", "training", "data", "dataset", "export"}  # names of files that say nothing; the folder's name does
SKEWED = 10  # largest class over smallest from which the classes are weighted
ENCODER_BUDGET = 40_000  # rows times epochs of sixteen tokens that an encoder trains in about five minutes on two cores
PLAIN = re.compile(r"[A-Za-z_\u00c0-\u024f][\w.-]*")
YAML_WORDS = {"yes", "no", "on", "off", "true", "false", "null", "y", "n"}


def write(
    folder: Path, data: Path, project: str | None = None, text: str | None = None, label: str | None = None
) -> Path:
    """Write FOLDER/PROJECT.yaml for the data; returns its path.

    Raises UsageError when that file exists, DataError when the data can't be read or has no label.
    """
    name = project or project_name(data)
    path = folder / f"{name}.yaml"
    if path.exists():
        raise UsageError(f"{path} exists already.", do="delete it, or give another name with --project")
    write_whole(path, draft(data, name, text, label, _as_seen_from(folder, data)))
    return path


def draft(
    data: Path, project: str | None = None, text: str | None = None, label: str | None = None, source: str | None = None
) -> str:
    """A commented config for the data, as YAML. `text` and `label` name columns, guessed when absent; `source` is how
    the config names the data (default: its absolute path).

    Raises DataError when the data can't be read, lacks a named column, or no column looks like text or label.
    """
    seen = look(data, text, label)
    path = source or str(data.resolve())
    parts = [_head(seen, project or project_name(data), path), _prepare(seen, path), _train(seen), _rest(seen)]
    return "\n".join(parts)


def project_name(data: Path) -> str:
    """A project's name from the name of its data."""
    whole = data.resolve()
    stem = whole.parent.name if whole.stem.casefold() in EVERYDAY else whole.stem
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-._")[:64] or "project"


def _as_seen_from(folder: Path, data: Path) -> str:
    """The data's path for a config in `folder`: relative to the root when beneath it, else absolute."""
    root, there = default_root(folder), data.resolve()
    return there.relative_to(root).as_posix() if there.is_relative_to(root) else str(there)


def quoted(value: str) -> str:
    """A text as YAML writes it: plain when nothing can be misread."""
    plain = PLAIN.fullmatch(value) and value.casefold() not in YAML_WORDS
    return value if plain else json.dumps(value, ensure_ascii=False)


def _head(seen: Look, project: str, path: str) -> str:
    classes = [label for label in seen.labels if label != seen.outside]
    many = _test_rows(seen) >= 500
    task = f"name: text-classification, text: {quoted(seen.text)}, label: {quoted(seen.label)}"
    if seen.outside:
        task += f", outside: {quoted(seen.outside)}"
    if seen.skew > SKEWED:
        task += ", metric: f1_macro"
    if tokens(seen) > 128:
        task += ", max_tokens: 256"
    lines = [
        f"# Written by `llmops init` for {_one_line(path)}:",
        f"# {seen.rows:,} rows, {len(classes)} classes, {seen.language}.",
        "# It works as it stands; change what you know better. Every setting: llmops explain SECTION",
        "version: 1",
        f"project: {quoted(project)}",
        *(f"# the text might also be: {', '.join(map(_one_line, seen.other_texts))}" for _ in [0] if seen.other_texts),
        *(
            f"# the label might also be: {', '.join(map(_one_line, seen.other_labels))}"
            for _ in [0]
            if seen.other_labels
        ),
        f"task: {{{task}}}",
        "need:",
        _beside('  goal: ""', "in words: who uses the model for what"),
        _beside("  accept:", "checked on the artifact that will serve, through the real server"),
        _beside("    # accuracy: {at_least: 0.9}", "your bar; a refused model leaves the old one in place"),
        "    # latency_p95_ms: {at_most: 50}",
        _beside(f"    parity: {{at_least: {0.95 if many else 0.9}}}", "server and trained model agree"),
        _beside("    above_baseline: null", "{at_least: 0} demands more than the linear baseline reaches"),
        _beside(f"    champion: {{no_worse_by: {0.02 if many else 0.05}}}", "against the model that serves now"),
    ]
    return "\n".join(lines)


def _prepare(seen: Look, path: str) -> str:
    long_form = [f"path: {quoted(path)}"]
    if Path(path).suffix.lower() not in ENDINGS and seen.reading.delimiter:
        long_form.append("format: csv")
    if seen.reading.delimiter not in (None, ","):
        long_form.append(f"delimiter: {json.dumps(seen.reading.delimiter)}")
    if seen.reading.encoding_found:
        long_form.append(f"encoding: {seen.reading.encoding}")
    source = quoted(path) if len(long_form) == 1 else "{" + ", ".join(long_form) + "}"
    share = 0.1 if seen.rows >= 1000 else 0.15 if seen.rows >= 300 else 0.2
    lines = ["prepare:", f"  sources: [{source}]"]
    if seen.bad_share > 0.03:
        allowed = min(1.0, round(1.2 * seen.bad_share + 0.02, 2))
        lines.append(_beside(f"  max_bad_rows: {allowed}", f"{seen.bad_share:.1%} of the rows lack a text or a label"))
    lines += [
        "  steps:",
        "    - clean: {unicode: NFKC, redact: [email, phone, card, iban]}",
        "    - dedup: {near: 0.9}",
        _beside(f"    - split: {{valid: {share}, test: {share}}}", "test_file: PATH takes a test file of your own"),
        _beside("    # - augment: {copies: 0.5}", "helps when classes have few rows"),
    ]
    return "\n".join(lines)


def tokens(seen: Look) -> int:
    """About how many tokens 95 % of the texts stay below."""
    return int(seen.long / (1.2 if seen.language == "asian" else 4))


def encoder_epochs(seen: Look) -> int:
    """Passes of the pretrained encoder that a laptop finishes in minutes, at least some 150 steps; 0: not even two."""
    affordable = ENCODER_BUDGET / seen.rows * min(1.0, 16 * 4 / seen.length)
    wanted = min(20, max(4, round(150 * 32 / seen.rows)))
    return min(wanted, int(affordable)) if affordable >= 2 else 0


def _train(seen: Look) -> str:
    epochs = encoder_epochs(seen) if seen.language == "english" else 0
    if epochs:
        why, train = (
            "a pretrained encoder for English, fine-tuned",
            f"model: {ENCODER}, epochs: {epochs}, learning_rate: 3.0e-4",
        )
    else:
        model = "text-cnn" if seen.language == "asian" else "bag-of-words"
        passes = max(4, min(40, round(2_000 * 32 / seen.rows)))
        reason = (
            "the data is large for a pretrained encoder on a CPU" if seen.language == "english" else "no model needed"
        )
        why = f"trained from scratch, in minutes ({reason}); with a GPU or patience try model: {_encoder(seen)}"
        train = f"model: {model}, epochs: {passes}, learning_rate: 2.0e-3, patience: 5"
    if seen.skew > SKEWED:
        train += ", class_weights: balanced"
        why += f"; classes weighted, since the largest has {seen.skew:.0f} times the rows of the smallest"
    lines = [f"# {why}", f"train: {{{train}}}"]
    rate = "{learning_rate: {log: [1.0e-4, 6.0e-4]}}" if epochs else "{learning_rate: {log: [5.0e-4, 5.0e-3]}}"
    small = seen.rows * (epochs * 10 or 10) <= 100_000 and seen.length < 400
    tune = f"tune: {{trials: 5, seconds: 60, sampler: tpe, space: {rate}}}"
    lines.append(tune if small else f"# {tune}    # a search for better settings; takes a while on this much data")
    return "\n".join(lines)


def _encoder(seen: Look) -> str:
    return ENCODER if seen.language == "english" else "NAME of an encoder for your language on the hub"


def _rest(seen: Look) -> str:
    loss = 0.015 if _test_rows(seen) >= 500 else 0.03
    return "\n".join(
        [
            f"compress: {{candidates: [float32, int8], max_quality_loss: {loss}}}",
            "deploy: {port: 8080}",
            "feedback: {retrain_when: {corrections: 200, drift: true, every: 30d}}",
            "",
        ]
    )


def _test_rows(seen: Look) -> int:
    return int(seen.rows * 0.1)


def _beside(line: str, comment: str) -> str:
    return f"{line:<41}# {comment}"


def _one_line(name: str) -> str:
    return " ".join(name.split())
