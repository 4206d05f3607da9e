"""TrainStage: a data set in, a trained model out. The engine does the work."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmops.core.artifact import write_json
from llmops.core.errors import Mistake
from llmops.core.protocols import Depends, Job, Metric, Places, Task
from llmops.core.report import Curve, Number, Report, Table
from llmops.core.section import Section
from llmops.engine.update import HISTORY, told_history, train_from
from llmops.stages.train.together import train_together, wanted

SCHEDULING = ("checkpoint_every_s", "processes")
"""Settings that change nothing in the result."""


SPEEDS = (("tokens_per_s", "tokens"), ("rows_per_s", "rows"))
BESIDE = ("unlabelled_rows", "unlabelled_s", "refit_rows", "refit_s")
"""Of the parts of a training beside the one that is measured."""
RATES = ("rows_per_s", "tokens_per_s", "padding")
"""Figures that only some learners have."""


class TrainStage:
    """Trains the task's learner with the settings of `train:`."""

    name = "train"
    version = 6

    def depends(self, sections: Mapping[str, Section], task: Task, places: Places) -> Depends:
        train = {key: value for key, value in sections["train"].plain().items() if key not in SCHEDULING}
        return Depends(
            settings={"task": task.learning(sections["task"]), "train": train},
            files=starting_point(train.get("model")),
            libraries=("torch", "transformers", "peft", "tokenizers", "numpy"),
            base=train.get("update") is not None,
        )

    def check(self, sections: Mapping[str, Section], task: Task, places: Places) -> list[Mistake]:
        return task.check(sections["task"], sections["train"])

    def run(self, job: Job) -> Report:
        """Train, write model/, and set what happened beside what need foresaw."""
        processes = wanted(job.sections["train"])
        held_mb = held_before(job)
        result = train_together(job, processes) if processes else train_alone(job)
        write_json(job.room.out / "model" / HISTORY, told_history(result))
        brief = read_brief(job.inputs.get("brief"))
        numbers = figures(result, brief, held_mb)
        metric = job.task.metric(job.sections["task"])
        return Report(
            headline=headline(metric, result, brief),
            numbers=numbers,
            tables=[epoch_table(result), spent_table(result), foreseen_table(numbers)],
            curves=curves(result, metric.name) if result["curve"] else [],
            warnings=warnings(metric, result, numbers),
        )


def train_alone(job: Job) -> dict[str, Any]:
    """Train in this process; out/model is saved."""
    learner = job.task.learner(job.sections["task"], job.sections["train"], job.seed)
    result = train_from(job.base, learner, job.inputs["dataset"], job.room.work, job.room)
    learner.save(job.room.out / "model")
    return result


def starting_point(model: Any) -> list[Path]:
    """The local folder that a training starts from, whose contents then decide the result."""
    folder = Path(model).expanduser() if isinstance(model, str) else None
    return [folder] if folder is not None and folder.is_absolute() and folder.is_dir() else []


def read_brief(path: Path | None) -> dict[str, Any]:
    """need's brief, or an empty one; `path` is brief.json or the folder it lies in."""
    if path is None:
        return {}
    brief: dict[str, Any] = json.loads((path / "brief.json" if path.is_dir() else path).read_bytes())
    return brief


def held_before(job: Job) -> float:
    """Memory that this process, or the GPU, holds before the training, in MB."""
    from llmops.engine.device import choose_device
    from llmops.engine.memory import settled_mb

    return settled_mb(choose_device(getattr(job.sections["train"], "device", "cpu")))


def foreseen_peak(estimate: Mapping[str, float], held_mb: float) -> float | None:
    """The peak that need foresaw, in a process that holds `held_mb` already."""
    if "peak_memory_mb" not in estimate:
        return None
    return max(estimate["peak_memory_mb"], held_mb + estimate.get("training_memory_mb", 0.0))


def figures(result: dict[str, Any], brief: dict[str, Any], held_mb: float = 0.0) -> dict[str, Number]:
    """The numbers of the report: metrics on validation, the baseline, and predicted beside actual."""
    numbers: dict[str, Number] = {
        (name if name.startswith("valid_") else f"valid_{name}"): value for name, value in result["metrics"].items()
    }
    baseline, estimate = brief.get("baseline", {}), brief.get("estimate", {})
    numbers["baseline_valid"] = baseline.get("valid")
    numbers |= {name: result[name] for name in ("best_epoch", "epochs")}
    numbers |= {name: result[name] for name in RATES if result.get(name) is not None}
    numbers |= {
        "took_s": result["seconds"],
        "predicted_s": estimate.get("train_s"),
        "predicted_upper_s": estimate.get("train_s_upper"),
    }
    # the history's seconds leave the set-up out
    epoch_s = result["history"][-1]["seconds"] / result["epochs"]
    numbers |= {"epoch_s": epoch_s, "predicted_epoch_s": estimate.get("epoch_s")}
    numbers |= {
        "peak_memory_mb": result["peak_memory_mb"],
        "predicted_peak_memory_mb": foreseen_peak(estimate, held_mb),
    }
    numbers["parameters"] = result["parameters"]
    numbers |= {name: result[name] for name in BESIDE if name in result}
    numbers["update_of_version"] = result["base"]["version"] if result["base"] else None
    return {**numbers, **result["machine"]}


def headline(metric: Metric, result: dict[str, Any], brief: dict[str, Any]) -> str:
    """The outcome in one sentence."""
    best = result["metrics"][metric.name]
    after = f" after epoch {result['best_epoch']} of {result['epochs']}" if result["curve"] else ""
    said = f"{metric.name} {best:.4f} on validation{after}"
    simple = brief.get("baseline", {}).get("valid")
    beside = f" (baseline {simple:.4f})" if simple is not None else ""
    updated = f", an update of version {result['base']['version']}" if result["base"] else ""
    if "unlabelled_rows" in result:
        updated += f", begun on {result['unlabelled_rows']:,} texts without labels"
    if "refit_rows" in result:
        updated += f", then trained again on all {result['refit_rows']:,} rows but the test's"
    rates = [f"{result[name]:,.0f} {of}/s" for name, of in SPEEDS if result.get(name) is not None]
    return f"{said}{beside}{updated}, {result['seconds']:.0f} s{''.join(f', {rate}' for rate in rates[:1])}"


def epoch_table(result: dict[str, Any]) -> Table:
    """One row an epoch, or a part of a training that goes in parts."""
    columns = list(result["history"][0])
    return Table(
        "Epochs" if result["curve"] else "Parts",
        columns,
        [[row[column] for column in columns] for row in result["history"]],
    )


def spent_table(result: dict[str, Any]) -> Table:
    """Where the time went; what is left is set-up, and what lies between the phases."""
    spent, whole = result["spent"], max(1e-9, result["seconds"])
    named = [*spent.items(), ("the rest", whole - sum(spent.values()))]
    rows: list[list[Number]] = [[phase, round(seconds, 2), f"{seconds / whole:.1%}"] for phase, seconds in named]
    return Table("Where the time went", ["phase", "seconds", "share"], rows)


def foreseen_table(numbers: Mapping[str, Number]) -> Table:
    """What need foresaw beside what happened."""
    pairs = [
        ("whole training, s", numbers["predicted_s"], numbers["took_s"]),
        ("upper bound, s", numbers["predicted_upper_s"], numbers["took_s"]),
        ("one epoch, s", numbers["predicted_epoch_s"], numbers["epoch_s"]),
        ("peak memory, MB", numbers["predicted_peak_memory_mb"], numbers["peak_memory_mb"]),
    ]
    return Table("Foreseen and measured", ["figure", "predicted", "actual"], [list(pair) for pair in pairs])


def curves(result: dict[str, Any], metric: str) -> list[Curve]:
    """Loss and learning rate over steps, the metric over epochs, throughput and memory over time."""
    points, history = result["curve"], result["history"]

    def line(name: str, over: str = "step") -> dict[str, list[tuple[float, float]]]:
        return {name.replace("_", " "): [(point[over], point[name]) for point in points]}

    validation = {metric: [(row["epoch"], row[metric]) for row in history]}
    return [
        Curve("Loss", "step", "training loss", line("loss")),
        Curve(f"{metric} on validation", "epoch", metric, validation),
        Curve("Learning rate", "step", "learning rate", line("learning_rate")),
        Curve("Throughput", "seconds", "tokens/s", line("tokens_per_s", "seconds")),
        Curve("Memory", "seconds", "MB", line("memory_mb", "seconds")),
    ]


def warnings(metric: Metric, result: dict[str, Any], numbers: Mapping[str, Number]) -> list[str]:
    """What deserves a person's eye."""
    said = [f"{result['not_updated']}; trained from the beginning"] if result["not_updated"] else []
    if "refit_rows" in result:
        said.append(
            "few rows: the figures are those of a model that never saw the validation rows; the model that goes on was "
            f"then trained on these too, {result['refit_rows']:,} rows in all: only test rows measure it."
        )
    simple, upper, took = numbers["baseline_valid"], numbers["predicted_upper_s"], result["seconds"]
    if isinstance(simple, int | float) and metric.gain(result["metrics"][metric.name], simple) < 0:
        said.append(f"the baseline is better on validation: {simple:.4f}; try more epochs, or another model.")
    if isinstance(upper, int | float) and took > upper:
        said.append(f"the training took {took:.0f} s, more than the upper bound of {upper:.0f} s that need foresaw.")
    if result["curve"] and result["best_epoch"] == result["epochs"] > 1:
        before, last = (row[metric.name] for row in result["history"][-2:])
        if metric.gain(last, before) > 0.01:
            said.append(f"the last epoch was the best by {abs(last - before):.3f}: more epochs may help.")
    return said
