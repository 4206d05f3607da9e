"""A config for a table of texts and labels: text classification."""

from __future__ import annotations

import re

from llmops.records.look import Look
from llmops.starter import severallabels
from llmops.starter.lines import bad_rows, beside, head, held_out, one_line, quoted, source

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
SKEWED = 10  # largest class over smallest from which the classes are weighted
FEW = 30  # rows of a middling class up to which a training for few rows is better
FEW_EPOCHS = 6
ENCODER_BUDGET = 40_000  # rows times epochs of sixteen tokens that an encoder trains in about five minutes on two cores


def draft(seen: Look, project: str, path: str) -> str:
    """The config, as YAML; `path` is how it names the data."""
    return "\n".join([_head(seen, project, path), _prepare(seen, path), _train(seen), _rest(seen)])


def _head(seen: Look, project: str, path: str) -> str:
    many = _test_rows(seen) >= 500
    lines = [
        *head(f"{seen.rows:,} rows, {_classes(seen)}, {seen.language}", path, project),
        *(f"# the text might also be: {', '.join(map(one_line, seen.other_texts))}" for _ in [0] if seen.other_texts),
        *(
            f"# the label might also be: {', '.join(map(one_line, seen.other_labels))}"
            for _ in [0]
            if seen.other_labels
        ),
        *severallabels.comments(seen),
        f"task: {{{_task(seen)}}}",
        "need:",
        beside('  goal: ""', "in words: who uses the model for what"),
        beside("  accept:", "checked on the artifact that will serve, through the real server"),
        beside(
            f"    # {'f1_micro' if seen.label.several else 'accuracy'}: {{at_least: 0.9}}",
            "your bar; a refused model leaves the old one in place",
        ),
        "    # latency_p95_ms: {at_most: 50}",
        beside(f"    parity: {{at_least: {0.95 if many else 0.9}}}", "server and trained model agree"),
        beside("    above_baseline: null", "{at_least: 0} demands more than the linear baseline reaches"),
        beside(f"    champion: {{no_worse_by: {0.02 if many else 0.05}}}", "against the model that serves now"),
    ]
    return "\n".join(lines)


def _classes(seen: Look) -> str:
    if seen.label.several:
        return f"{len(seen.labels)} labels ({seen.labels.total() / seen.rows:.1f} a row)"
    return f"{len(seen.classes)} classes"


def _task(seen: Look) -> str:
    """The settings of `task:`."""
    told = f"name: text-classification, text: {quoted(seen.text)}, {severallabels.settings(seen.label)}"
    if _few(seen) and _worded(seen):
        told += ", describe: labels"
    if seen.outside:
        told += f", outside: {quoted(seen.outside)}"
    if _weighted(seen):
        told += ", metric: f1_macro"
    if tokens(seen) > 128:
        told += ", max_tokens: 256"
    return told


def _weighted(seen: Look) -> bool:
    """Whether classes are so unlike in size that they are weighted; of several labels each has its own threshold."""
    return seen.skew > SKEWED and not seen.label.several


def _few(seen: Look) -> bool:
    """Whether a middling class has so few rows that they want a training of their own kind, which is not too long: it
    is done twice."""
    counts = sorted(seen.classes.values())
    alone = seen.language == "english" and not seen.label.several
    return alone and counts[len(counts) // 2] <= FEW and affordable_epochs(seen) >= FEW_EPOCHS


def _worded(seen: Look) -> bool:
    """Whether labels are words (card_lost), which say something of their texts, and no codes (A7, class 3)."""
    return all(re.search(r"[A-Za-z]{3}", label) and not re.search(r"\d", label) for label in seen.classes)


def _prepare(seen: Look, path: str) -> str:
    share = held_out(seen.rows)
    lines = [
        "prepare:",
        f"  sources: [{source(seen.reading, path)}]",
        *bad_rows(seen.bad_share, "lack a text" if seen.label.several else "lack a text or a label"),
        "  steps:",
        "    - clean: {unicode: NFKC, redact: [email, phone, card, iban]}",
        "    - dedup: {near: 0.9}",
        beside(f"    - split: {{valid: {share}, test: {share}}}", "test_file: PATH takes a test file of your own"),
        beside("    # - augment: {copies: 0.5}", "helps when classes have few rows"),
    ]
    return "\n".join(lines)


def tokens(seen: Look) -> int:
    """About how many tokens 95 % of the texts stay below."""
    return int(seen.long / (1.2 if seen.language == "asian" else 4))


def encoder_epochs(seen: Look) -> int:
    """Passes of the pretrained encoder that a laptop finishes in minutes, at least some 150 steps; 0: not even two."""
    affordable = affordable_epochs(seen)
    wanted = min(20, max(4, round(150 * 32 / seen.rows)))
    return min(wanted, int(affordable)) if affordable >= 2 else 0


def affordable_epochs(seen: Look) -> float:
    """Passes of the pretrained encoder in about five minutes on two cores."""
    return ENCODER_BUDGET / seen.rows * min(1.0, 16 * 4 / seen.length)


def _train_few(seen: Look) -> str:
    """The training for few rows. A search would compare settings on a handful of validation rows: it finds nothing."""
    described = "; the labels' own words train as well (describe)" if _worded(seen) else ""
    each = seen.rows / len(seen.classes)
    lines = [
        f"# {each:.0f} rows a class are few: classes begin as their rows' mean vectors{described}.",
        "# Validation rows are held back for the figures alone: a last training learns all rows but the test's.",
        f"# With more than {FEW} rows a class: learning_rate: 3.0e-4, update: {{}} instead of few",
    ]
    train = f"model: {ENCODER}, epochs: {FEW_EPOCHS}, learning_rate: 5.0e-5, few: {{}}"
    return "\n".join([*lines, f"train: {{{train}{', class_weights: balanced' if _weighted(seen) else ''}}}"])


def _train(seen: Look) -> str:
    if _few(seen):
        return _train_few(seen)
    epochs = encoder_epochs(seen) if seen.language == "english" else 0
    if epochs:
        why, train = (
            "a pretrained encoder for English, fine-tuned; a retrain starts from the champion (update)",
            f"model: {ENCODER}, epochs: {epochs}, learning_rate: 3.0e-4, update: {{}}",
        )
    else:
        model = "text-cnn" if seen.language == "asian" else "bag-of-words"
        passes = max(4, min(40, round(2_000 * 32 / seen.rows)))
        reason = (
            "the data is large for a pretrained encoder on a CPU" if seen.language == "english" else "no model needed"
        )
        why = f"trained from scratch, in minutes ({reason}); with a GPU or patience try model: {_encoder(seen)}"
        train = f"model: {model}, epochs: {passes}, learning_rate: 2.0e-3, patience: 5"
    if _weighted(seen):
        train += ", class_weights: balanced"
        why += f"; classes weighted, since the largest has {seen.skew:.0f} times the rows of the smallest"
    lines = [f"# {why}", f"train: {{{train}}}"]
    rate = "{learning_rate: {log: [1.0e-4, 6.0e-4]}}" if epochs else "{learning_rate: {log: [5.0e-4, 5.0e-3]}}"
    small = seen.rows * (epochs * 10 or 10) <= 100_000 and seen.length < 400
    tune = f"tune: {{trials: 12, seconds: 60, sampler: tpe, space: {rate}}}"
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
