"""A tiny table for tests: accounts that close or stay, with every kind of field, and a config beside it."""

from __future__ import annotations

import csv
import random
from pathlib import Path

CONFIG = """\
version: 1
project: tiny
task:
  name: tabular
  target: {target}
  predict: {predict}
  id: account
  fields: {{opened: date, plan: category, spent: number, calls: number, paperless: flag, remark: text}}
need: {{probe_s: 0.5, accept: {{above_baseline: null}}{more}}}
prepare:
  sources: [{data}]
  steps: [clean: {{redact: [email]}}, dedup: {{near: null}}, split: {{valid: 0.2, test: 0.2}}]
train:
  members: [linear, trees, network]
  folds: 2
  trees: {{rounds: 40}}
  network: {{epochs: 3, width: 16, members: 2}}
compress: {{candidates: [float32]}}
deploy: {{port: 0}}
"""
COLUMNS = ("account", "opened", "plan", "spent", "calls", "paperless", "remark", "closed", "owes")


def row(number: int, dice: random.Random) -> tuple[object, ...]:
    """An account: many calls and little spent close it, and what it owes follows from both."""
    plan = dice.choice(["basic", "family", "travel"])
    calls, spent = dice.randrange(9), round(dice.uniform(5, 90), 2)
    remark = dice.choice(["asked for a rebate", "moved house", "phoned about the bill", ""])
    risk = calls * 9 - spent + 20 * (remark == "asked for a rebate") + dice.gauss(0, 12)
    opened = f"20{dice.randrange(15, 24)}-{dice.randrange(1, 13):02}-{dice.randrange(1, 28):02}"
    shown = "" if dice.random() < 0.1 else spent
    paperless = dice.choice(["yes", "no"])
    return (
        f"A{number}",
        opened,
        plan,
        shown,
        calls,
        paperless,
        remark,
        "yes" if risk > 0 else "no",
        round(risk + 200, 2),
    )


def write_rows(path: Path, rows: int = 300, seed: int = 1) -> None:
    """A CSV with `rows` accounts."""
    dice = random.Random(seed)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        writer.writerows(row(number, dice) for number in range(rows))


def project(folder: Path, rows: int = 300, number: bool = False) -> Path:
    """Write the data and the config into `folder`; returns the config's path. `number`: predict what is owed."""
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "data.csv", rows)
    config = folder / "tiny.yaml"
    target, predict = ("owes", "number") if number else ("closed", "class")
    more = "" if number else ", costs: {missed: 3, alarm: 1}, slices: [plan, calls]"
    config.write_text(CONFIG.format(data="data.csv", target=target, predict=predict, more=more))
    return config


def numbers(folder: Path) -> Path:
    """The project that predicts a number."""
    return project(folder, number=True)
