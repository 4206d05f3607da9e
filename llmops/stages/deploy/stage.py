"""deploy: proves the bundle through the real server; what the gates let pass becomes champion."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.bundle import format as bundle_format
from llmops.core.artifact import write_json, write_whole
from llmops.core.errors import DataError, Mistake
from llmops.core.protocols import Depends, Job, Places, Task
from llmops.core.report import Number, Report, Table
from llmops.core.section import Section
from llmops.registry import store
from llmops.stages.deploy.config import DeploySection

if TYPE_CHECKING:
    from llmops.stages.deploy.parity import Rows
    from llmops.stages.deploy.prove import Answers

MEASURED = ("max_batch", "max_wait_ms", "queue", "threads", "max_texts", "log_text", "redact_log")
"""Settings that change what the server answers or how fast."""
WEIGHTS = ("model.onnx", "tokenizer.json")
SHOWN_MISTAKES = 10


class DeployStage:
    """Takes bundle, dataset and model; gives the proof."""

    name = "deploy"
    version = 2

    def depends(self, sections: Mapping[str, Section], task: Task, places: Places) -> Depends:
        """The server's settings that count, and what computes. Where it listens in production changes nothing."""
        plain = sections["deploy"].plain()
        measured = {name: plain[name] for name in MEASURED}
        metric = getattr(sections["task"], "metric", "accuracy")
        accept = sections["need"].plain()["accept"]
        return Depends(
            {"deploy": measured, "metric": metric, "accept": accept},
            libraries=("onnxruntime", "tokenizers", "starlette", "uvicorn"),
        )

    def check(self, sections: Mapping[str, Section], task: Task, places: Places) -> list[Mistake]:
        """Nothing that a valid section could get wrong before the work."""
        return []

    def run(self, job: Job) -> Report:
        """Query the real server with every test row, and compare its answers with truth, trained model and champion.

        Raises DataError when the server does not come up or refuses a row; its last words are in the error.
        """
        from llmops.stages.deploy import parity

        bundle, settings = job.inputs["bundle"], job.section("deploy", DeploySection)
        manifest = bundle_format.read(bundle)
        rows = parity.read_rows(job.inputs["dataset"])
        if not rows.examples:
            raise DataError(
                "there is no test row and no validation row", str(job.inputs["dataset"]), "run prepare again"
            )
        answers = _ask(job, bundle, rows, settings)
        logits = _trained(job, rows.split)
        served = [response["best"] for response in answers.responses]
        numbers: dict[str, Number] = {"rows": len(rows.examples), "in_scope_rows": int((rows.truth >= 0).sum())}
        numbers |= rows.scores(served)
        numbers["accuracy_trained"] = rows.scores([rows.labels[best] for best in logits.argmax(axis=1)])["accuracy"]
        numbers |= parity.parity(rows, answers, logits, manifest.temperature) | parity.abstention(rows, answers)
        numbers |= parity.latency(answers)
        numbers["threshold"] = manifest.threshold
        numbers["size_mb"] = sum((bundle / name).stat().st_size for name in WEIGHTS) / 1e6
        low, high = parity.wilson(rows.scores(served)["accuracy"], int((rows.truth >= 0).sum()))
        numbers |= {"accuracy_low": low, "accuracy_high": high}
        numbers |= _compared(job, rows, numbers, manifest.metrics.get("baseline") or {}, settings.threads)
        report = Report(
            _headline(numbers), numbers, [_mistakes(rows, served)], warnings=_warnings(rows, numbers, settings, job)
        )
        _write_proof(job.room.out / "proof", rows, answers, logits, report)
        return report

    def promote(self, job: Job, report: Report) -> None:
        """Make the proven bundle the champion, with the container files beside it; says so in the report."""
        from llmops.stages.deploy.container import write_container

        extras = job.room.work / "container"
        shutil.rmtree(extras, ignore_errors=True)
        extras.mkdir(parents=True)
        warning = write_container(extras, job.project, job.section("deploy", DeploySection))
        if warning:
            report.warnings.append(warning)
        version = store.promote(job.places.registry, job.inputs["bundle"], extras, job.run_id)
        shutil.rmtree(extras)
        report.numbers["version"] = version
        report.headline = f"Version {version} is the champion. {report.headline}"
        folder = job.places.registry / "versions" / str(version)
        report.next += [f"llmops serve {job.config_path}", f"docker compose -f {folder / 'compose.yaml'} up"]


def _ask(job: Job, bundle: Path, rows: Rows, settings: DeploySection) -> Answers:
    from llmops.stages.deploy.prove import BundleServer

    codec = job.task.codec(bundle)
    work = job.room.work / "server"
    shutil.rmtree(work, ignore_errors=True)  # a killed run's traffic is not this one's
    work.mkdir(parents=True)
    with (
        job.room.progress("asking the server", len(rows.examples)) as bar,
        BundleServer(bundle, settings, work) as server,
    ):
        return server.ask(rows.texts, codec.one, codec.many, bar.update)


def _trained(job: Job, split: str) -> Any:
    learner = job.task.learner(job.sections["task"], job.sections["train"], job.seed)
    learner.load(job.inputs["model"])
    return learner.predict(job.inputs["dataset"], split)


def _compared(
    job: Job, rows: Rows, numbers: Mapping[str, Number], baseline: Mapping[str, Any], threads: int
) -> dict[str, Number]:
    """The task's metric against the champion's and the linear baseline's (by split); None where there is none."""
    from llmops.stages.deploy import parity

    metric = getattr(job.sections["task"], "metric", "accuracy")
    ours = float(numbers[metric] or 0.0)
    theirs = baseline.get(rows.split)
    compared: dict[str, Number] = {"baseline": theirs, "above_baseline": None if theirs is None else ours - theirs}
    champion = None if job.champion is None else parity.champion_scores(job.champion, rows, threads)[metric]
    return compared | {"champion": champion, "champion_delta": None if champion is None else ours - champion}


def _headline(numbers: Mapping[str, Any]) -> str:
    n = numbers
    return (
        f"Through the real server: accuracy {n['accuracy']:.3f} (95 % interval {n['accuracy_low']:.3f} to "
        f"{n['accuracy_high']:.3f}) on {n['in_scope_rows']} rows, "
        f"the trained model's label on {100 * n['parity']:.1f} %, "
        f"p95 {n['latency_p95_ms']:.1f} ms, {n['size_mb']:.1f} MB."
    )


def _warnings(rows: Rows, numbers: Mapping[str, Any], settings: DeploySection, job: Job) -> list[str]:
    said = []
    if rows.split != "test":
        said.append(
            "there is no test row: all figures are of the validation rows, which the training has seen the result of"
        )
    if numbers["outside_recall"] is None:
        said.append("no test row is out of scope, so nobody knows how many such texts the threshold catches")
    longest = max(len(text) for text in rows.texts)
    if longest > settings.max_text_chars:
        said.append(f"a test row has {longest:,} characters; texts above deploy.max_text_chars are refused with 413")
    half = (numbers["accuracy_high"] - numbers["accuracy_low"]) / 2
    need = job.sections["need"].plain()["accept"] if "need" in job.sections else {}
    bound = (need.get("accuracy") or {}).get("at_least")
    if bound is not None and abs(numbers["accuracy"] - bound) < half:
        said.append(
            f"accuracy {numbers['accuracy']:.3f} lies {abs(numbers['accuracy'] - bound):.3f} from its gate {bound:g}; "
            f"{numbers['in_scope_rows']} rows can only show differences above {half:.3f}"
        )
    return said


def _mistakes(rows: Rows, served: list[str]) -> Table:
    from llmops.tasks.text_classification.metrics import confused_pairs

    known = [*rows.labels, "(a label of no row)"]
    return Table(
        "Commonest mistakes",
        ["true", "answered", "rows"],
        confused_pairs(rows.truth, rows.numbers(served), known, SHOWN_MISTAKES),
    )


def _write_proof(folder: Path, rows: Rows, answers: Answers, logits: Any, report: Report) -> None:
    """answers.jsonl: each row's answer beside its truth and the trained model's; proof.json: the figures."""
    folder.mkdir(parents=True)
    lines = []
    for place, (example, response) in enumerate(zip(rows.examples, answers.responses, strict=True)):
        line = {
            "id": example["id"], "true": example["label"], "best": response["best"],
            "trained": rows.labels[int(logits[place].argmax())], "probability": response["probability"],
            "abstained": response["abstained"], "latency_ms": answers.latency_ms.get(place),
        }  # fmt: skip
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    write_whole(folder / "answers.jsonl", "".join(lines))
    write_json(
        folder / "proof.json",
        {"format": 1, "split": rows.split, "headline": report.headline, "numbers": report.numbers},
    )
