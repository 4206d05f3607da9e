"""A table of mistakes in the config and on the command line: what a user does wrong, the exit code, words of the answer."""

from __future__ import annotations

from dataclasses import dataclass

GOOD = """\
version: 1
project: demo
task: {name: text-classification, text: text, label: label}
prepare:
  sources: [data.csv]
train: {model: bag-of-words, epochs: 2}
"""


@dataclass(frozen=True)
class Case:
    """`config` is the text of demo.yaml (None: no such file); `arguments` follow `llmops`; CONFIG stands for its path."""

    name: str
    arguments: str
    code: int
    words: tuple[str, ...]
    config: str | bytes | None = GOOD


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


CASES = [
    # a value that may be of two kinds is told once
    Case("no batch size", "check CONFIG --set train.batch_size=0", 3, ("1 mistake", "or equal to 1, or", "'auto'")),
    # 2: the command line
    Case("unknown command", "retrain CONFIG", 2, ("No such command",)),
    Case("no config given", "train", 2, ("CONFIG",)),
    Case("unknown option", "train CONFIG --fast", 2, ("No such option",)),
    Case("explain an unknown setting", "explain train.learning_rte", 2, ("learning_rate",)),
    Case("explain below a setting", "explain train.epochs.more", 2, ("train.epochs",)),
    Case("explain an unknown section", "explain trian", 2, ("train",)),
    Case("version is no number", "rollback CONFIG three", 2, ("version",)),
    Case("port out of range", "serve CONFIG --port 70000", 2, ("--port",)),
    Case("init without data", "init", 2, ("--data",)),
    Case("compare with one run", "compare CONFIG 2026", 2, ("OTHER",)),
    # 3: the config as a file
    Case("no such file", "check CONFIG", 3, ("no such config file", "llmops init"), None),
    Case("empty file", "check CONFIG", 3, ("empty",), ""),
    Case("a list", "check CONFIG", 3, ("list",), "- 1\n- 2\n"),
    Case("not UTF-8", "check CONFIG", 3, ("UTF-8",), b"project: caf\xe9\n"),
    Case("tabs", "check CONFIG", 3, ("tab", ":2:"), "project: demo\n\ttask: {}\n"),
    Case("open bracket", "check CONFIG", 3, ("YAML",), "project: [demo\n"),
    Case("duplicate keys", "check CONFIG", 3, ("stands twice", "line 6"), GOOD + "train: {epochs: 3}\n"),
    Case("Python objects", "check CONFIG", 3, ("YAML",), "project: !!python/object/apply:os.getcwd []\n"),
    Case("environment variable missing", "check CONFIG", 3, ("LLMOPS_ABSENT",), changed("data.csv", "'${LLMOPS_ABSENT}/x.csv'")),
    # 3: the blocks
    Case("no task", "check CONFIG", 3, ("names no task",), changed("task: {name: text-classification, text: text, label: label}\n", "")),
    Case("misspelt task", "check CONFIG", 3, ("text-classification",), changed("text-classification", "text-clasification")),
    Case("no project", "check CONFIG", 3, ("`project` is missing",), changed("project: demo\n", "")),
    Case("project with a slash", "check CONFIG", 3, ("project",), changed("project: demo", "project: ../demo")),
    Case("unknown block", "check CONFIG", 3, ("prepare",), GOOD + "prepre: {}\n"),
    Case("newer version", "check CONFIG", 3, ("version",), changed("version: 1", "version: 2")),
    Case("no sources", "check CONFIG", 3, ("sources",), changed("sources: [data.csv]", "sources: []")),
    Case("prepare missing", "check CONFIG", 3, ("prepare",), changed("prepare:\n  sources: [data.csv]\n", "")),
    Case("train: unknown setting", "check CONFIG", 3, ("learning_rate", ":6:"), changed("epochs: 2", "learning_rte: 3e-4")),
    Case("train: words for a number", "check CONFIG", 3, ("epochs",), changed("epochs: 2", "epochs: many")),
    Case("train: out of range", "check CONFIG", 3, ("dropout",), changed("epochs: 2", "dropout: 1.5")),
    Case("train: not one of", "check CONFIG", 3, ("schedule",), changed("epochs: 2", "schedule: stairs")),
    Case("train: infinite", "check CONFIG", 3, ("learning_rate",), changed("epochs: 2", "learning_rate: .inf")),
    Case("need: a gate without bounds", "check CONFIG", 3, ("at_least",), GOOD + "need: {accept: {accuracy: {}}}\n"),
    Case("need: unknown gate", "check CONFIG", 3, ("accuracy",), GOOD + "need: {accept: {acuracy: {at_least: 0.9}}}\n"),
    Case("need: bound as text", "check CONFIG", 3, ("at_least",), GOOD + "need: {accept: {accuracy: {at_least: high}}}\n"),
    Case("need: a share above one", "check CONFIG", 3, ("accuracy",), GOOD + "need: {accept: {accuracy: {at_least: 92}}}\n"),
    Case("prepare: unknown step", "check CONFIG", 3, ("dedupe",), changed("sources: [data.csv]", "sources: [data.csv]\n  steps: [dedupe: {}]")),
    Case("prepare: shares above one", "check CONFIG", 3, ("split",), changed("sources: [data.csv]", "sources: [data.csv]\n  steps: [split: {valid: 0.6, test: 0.6}]")),
    Case("prepare: no split", "check CONFIG", 3, ("split",), changed("sources: [data.csv]", "sources: [data.csv]\n  steps: [clean: {}]")),
    Case("prepare: bad redaction", "check CONFIG", 3, ("redact",), changed("sources: [data.csv]", "sources: [data.csv]\n  steps: [clean: {redact: [names]}, split: {}]")),
    Case("tune: empty space", "check CONFIG", 3, ("space",), GOOD + "tune: {space: {}}\n"),
    Case("tune: two scales", "check CONFIG", 3, ("exactly one",), GOOD + "tune: {space: {learning_rate: {log: [1e-4, 1e-3], choice: [1]}}}\n"),
    Case("tune: bounds reversed", "check CONFIG", 3, ("first bound",), GOOD + "tune: {space: {learning_rate: {log: [1e-3, 1e-4]}}}\n"),
    Case("tune: unknown setting", "check CONFIG", 3, ("learning_rat",), GOOD + "tune: {space: {learning_rat: {log: [1e-4, 1e-3]}}}\n"),
    Case("tune: the model", "check CONFIG", 3, ("model",), GOOD + "tune: {space: {model: {choice: [text-cnn]}}}\n"),
    Case("compress: no candidates", "check CONFIG", 3, ("candidates",), GOOD + "compress: {candidates: []}\n"),
    Case("compress: unknown candidate", "check CONFIG", 3, ("candidates",), GOOD + "compress: {candidates: [int7]}\n"),
    Case("compress: loss above one", "check CONFIG", 3, ("max_quality_loss",), GOOD + "compress: {max_quality_loss: 3}\n"),
    Case("deploy: port as words", "check CONFIG", 3, ("port",), GOOD + "deploy: {port: http}\n"),
    Case("deploy: no queue", "check CONFIG", 3, ("queue",), GOOD + "deploy: {queue: 0}\n"),
    Case("deploy: negative days", "check CONFIG", 3, ("keep_traffic_days",), GOOD + "deploy: {keep_traffic_days: -1}\n"),
    Case("feedback: bad span", "check CONFIG", 3, ("30d",), GOOD + "feedback: {retrain_when: {every: monthly}}\n"),
    Case("feedback: zero corrections", "check CONFIG", 3, ("corrections",), GOOD + "feedback: {retrain_when: {corrections: 0}}\n"),
    Case("feedback: unknown trigger", "check CONFIG", 3, ("drift",), GOOD + "feedback: {retrain_when: {drfit: true}}\n"),
    Case("--set without a value", "check CONFIG --set train.epochs", 3, ("--set",)),
    Case("--set of an unknown setting", "check CONFIG --set train.epoch=3", 3, ("epochs", "--set")),
    Case("--set into a value", "check CONFIG --set project.name=3", 3, ("project",)),
    Case("config before data", "run CONFIG --set train.epochs=0", 3, ("epochs",)),
]  # fmt: skip
