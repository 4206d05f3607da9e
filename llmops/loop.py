"""READ ME FIRST. The loop: the stages in order, what each takes, reads and gives.

    need -> prepare -> train -> tune -> compress -> deploy -> feedback -> (need)

A team writes one YAML file; `llmops run` walks down this table. Each stage gets a folder in the run's
directory and leaves artifacts there; the next stages take them. The circle is closed by the traffic log:
the server writes what users asked and corrected, `feedback` turns corrections into rows, and the next
`prepare` picks them up. A stage whose settings, inputs and code are unchanged is not run again.
"""

from __future__ import annotations

from dataclasses import dataclass

from llmops.core.plugins import load
from llmops.core.protocols import Stage


@dataclass(frozen=True)
class Step:
    """One row of the loop. `briefly` says in a few words what `does` says in full.

    `section` and `stage` are "module:Class". `takes` are kinds of artifacts, the newest giver before this
    step counts, and other contents mean other work; `consults` are handed over too, but a change in them
    is no reason to work again (the brief holds timings, which never repeat). `gives` maps a kind to its
    path in the stage's folder. `optional` steps run only when their section stands in the config;
    `replaceable` ones may be done again in the same run; after a `gated` one the gates of `need.accept`
    decide whether its candidate is promoted.
    """

    name: str
    briefly: str
    does: str
    section: str
    stage: str
    takes: tuple[str, ...]
    gives: dict[str, str]
    consults: tuple[str, ...] = ()
    optional: bool = False
    replaceable: bool = False
    gated: bool = False


LOOP = (
    Step(
        "need", "says what the model must meet",
        "says what must hold before the model may go live, and what it will cost here",
        "llmops.stages.need.config:NeedSection", "llmops.stages.need.stage:NeedStage",
        takes=(), gives={"brief": "brief.json"},
    ),
    Step(
        "prepare", "makes clean splits of the data",
        "reads, checks, cleans, de-duplicates, splits, augments and encodes the data",
        "llmops.stages.prepare.config:PrepareSection", "llmops.stages.prepare.stage:PrepareStage",
        takes=(), gives={"dataset": "dataset"},
    ),
    Step(
        "train", "trains the model",
        "trains the model, from scratch or from a pretrained one",
        "", "llmops.stages.train.stage:TrainStage",
        takes=("dataset",), consults=("brief",), gives={"model": "model"},
    ),
    Step(
        "tune", "searches for better settings",
        "searches for better settings; the winner replaces the model only when it is better",
        "llmops.stages.tune.config:TuneSection", "llmops.stages.tune.stage:TuneStage",
        takes=("dataset", "model"), gives={"model": "model"}, optional=True,
    ),
    Step(
        "compress", "makes it small enough to serve",
        "makes candidates small enough to serve, measures each here, keeps the best",
        "llmops.stages.compress.config:CompressSection", "llmops.stages.compress.stage:CompressStage",
        takes=("dataset", "model"), gives={"bundle": "bundle"},
    ),
    Step(
        "deploy", "proves it through the real server",
        "proves the bundle through the real server; what passes every gate becomes champion",
        "llmops.stages.deploy.config:DeploySection", "llmops.stages.deploy.stage:DeployStage",
        takes=("bundle", "dataset", "model"), gives={"proof": "proof"}, replaceable=True, gated=True,
    ),
    Step(
        "feedback", "reads the traffic, finds drift",
        "reads the traffic: quality, drift, corrections; says whether a retrain is due",
        "llmops.stages.feedback.config:FeedbackSection", "llmops.stages.feedback.stage:FeedbackStage",
        takes=("dataset", "bundle"), gives={"verdict": "verdict.json"}, replaceable=True,
    ),
)  # fmt: skip


def step(name: str) -> Step:
    """The step called `name`."""
    return next(row for row in LOOP if row.name == name)


def stage(row: Step) -> Stage:
    """The stage of a step, ready to run."""
    made: Stage = load(row.stage)()
    return made
