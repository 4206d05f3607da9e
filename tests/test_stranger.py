"""A CSV that nobody prepared for: `llmops init --data` and `llmops run` work on it without edits."""

from __future__ import annotations

import csv
import json
import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.test_loop import llmops

GERMAN = {
    "Lieferung": "Paket Lieferung Versand Bote Zusteller verspätet Sendung unterwegs",
    "Rechnung": "Rechnung Betrag Mahnung Konto bezahlt Überweisung Steuer Beleg",
    "Umtausch": "Größe Umtausch zurück Etikett Rücksendung passt Farbe Schuhe",
}
SPANISH = {
    f"tema {number}": " ".join(f"{stem}{ending}" for stem in stems.split() for ending in ("o", "as", "ación"))
    for number, stems in enumerate(
        ["env pag", "dev cambi", "factur cobr", "cuent acces", "regal cup", "garant rot", "tall med", "tiend hor"] * 5
    )
}
CHINESE = {
    "好评": "很好满意推荐喜欢漂亮快递快物美价廉",
    "差评": "太差失望破损退货垃圾慢质量问题客服",
    "询问": "请问多少什么时候有货吗尺寸怎么买发票",
}


@dataclass(frozen=True)
class Export:
    """An export as it comes: its encoding, delimiter, columns, topics, and rows a class (the first has the most)."""

    name: str
    encoding: str
    delimiter: str
    text: str
    label: str
    topics: dict[str, str]
    counts: list[int]
    joint: str = " "


EXPORTS = [
    Export("german, BOM, 1:100", "utf-8-sig", ",", "Nachricht", "Kategorie", GERMAN, [300, 60, 3]),
    Export("spanish, Latin-1, 40 classes", "latin-1", ";", "consulta del cliente", "motivo", SPANISH, [18] * 40),
    Export("chinese", "utf-8", ",", "评论", "类别", CHINESE, [90, 80, 70], ""),
]


def write(export: Export, path: Path) -> None:
    dice = random.Random(3)
    rows = []
    for (label, words), count in zip(export.topics.items(), export.counts, strict=True):
        pieces = words.split() if export.joint else list(words)
        for _ in range(count):
            rows.append([export.joint.join(dice.choices(pieces, k=dice.randint(4, 9))), label])
    dice.shuffle(rows)
    with path.open("w", newline="", encoding=export.encoding) as stream:
        writer = csv.writer(stream, delimiter=export.delimiter)
        writer.writerow(["id", "datum", export.text, export.label])
        for number, (text, label) in enumerate(rows):
            writer.writerow([number, f"2026-10-{number % 28 + 1:02d}", f"{text} {number}", label])


@pytest.mark.prove
@pytest.mark.parametrize("export", EXPORTS, ids=lambda export: export.name)
def test_init_and_run_work_unedited(tmp_path: Path, export: Export) -> None:
    write(export, tmp_path / "export.csv")
    config = Path(json.loads(llmops("init", tmp_path, "--data", tmp_path / "export.csv", "--json"))["config"])
    outcome = json.loads(llmops("run", config, "--json"))
    assert outcome["champion"] == 1
    deploy = next(stage for stage in outcome["stages"] if stage["name"] == "deploy")
    assert deploy["numbers"]["balanced_accuracy"] > 1.5 / len(export.topics)
    assert "nothing to do" not in llmops("run", config)
