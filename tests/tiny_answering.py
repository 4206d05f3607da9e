"""A tiny project for tests: help entries that a tiny encoder learns to find in seconds, and a config beside them."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

TOPICS = {
    "delivery": ("parcel courier van shipped depot", "tracking doorstep arrives morning"),
    "refund": ("money card charged returned euros", "bank days paid account"),
    "password": ("login locked email forgotten username", "link reset minutes page"),
    "invoice": ("bill receipt company address tax", "download print orders folder"),
    "warranty": ("broken repair faulty screen cracked", "workshop months covered parts"),
    "gift": ("present wrap voucher birthday ribbon", "message packed checkout choose"),
    "size": ("small large shoe fits measure", "table centimetres exchange label"),
    "stock": ("available sold colour blue again", "notify shelf warehouse week"),
}
FILLER = "please the my is about a so today and why can you help with it again".split()
CONFIG = """\
version: 1
project: tiny_answering
task: {{name: answering, source: source, documents: pages, passage_words: 20, max_tokens: 32}}
need: {{probe_s: 0.2, accept: {{recall_at_5: {{at_least: 0.5}}, above_baseline: null, parity: {{at_least: 0.9}}}}}}
prepare:
  sources: [{data}]
  steps: [clean: {{redact: [email]}}, dedup: {{near: null}}, split: {{valid: 0.2, test: 0.2}}]
train: {{model: ./encoder, method: full, epochs: 4, learning_rate: 3e-3, batch_size: 16}}
compress: {{candidates: [float32, int8], max_quality_loss: 0.3}}
deploy: {{port: 0}}
"""


def entry(topic: str) -> str:
    """The answer of a topic: some of its question's words, and words of its own."""
    asked, own = TOPICS[topic]
    return f"{topic.capitalize()}: {' '.join(asked.split()[:2])} {own}. Write to help@shop.example."


def question(topic: str, dice: random.Random) -> str:
    """Words of a topic among fillers."""
    words = dice.sample(TOPICS[topic][0].split(), 3) + dice.sample(FILLER, 4)
    dice.shuffle(words)
    return " ".join(words)


def examples(count: int, seed: int) -> list[dict[str, str]]:
    """Rows as a data set holds them."""
    dice = random.Random(seed)
    topics = sorted(TOPICS)
    return [
        {
            "id": f"{seed}-{index}", "text": question(topics[index % len(topics)], dice),
            "answer": entry(topics[index % len(topics)]), "source": topics[index % len(topics)],
        }
        for index in range(count)
    ]  # fmt: skip


def write_rows(path: Path, count: int, seed: int = 1) -> None:
    """A CSV with the columns question, answer, source."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["question", "answer", "source"])
        writer.writerows([row["text"], row["answer"], row["source"]] for row in examples(count, seed))


def write_pages(folder: Path) -> Path:
    """A folder of documents with two passages about other things."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "# Opening hours\n\nThe shop is open from nine to six.\n\n# Parking\n\nCars may stand behind the house."
    (folder / "shop.md").write_text(text, encoding="utf-8")
    return folder


def encoder(folder: Path, layers: int = 2) -> Path:
    """A BERT with random weights and a word tokenizer that knows the topics' words, as save_pretrained writes them."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    words = sorted({word for asked, own in TOPICS.values() for word in f"{asked} {own}".split()} | {*FILLER, *TOPICS})
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", *words])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 2)])
    torch.manual_seed(5)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=layers, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def dataset(folder: Path, task: object, section: object, train: object, rows: int = 96) -> Path:
    """A prepared data set folder, as the stage prepare would write it."""
    splits = {"train": examples(rows, 1), "valid": examples(24, 2), "test": examples(24, 3)}
    figures = task.encoder(section, train).prepare(splits, folder)  # type: ignore[attr-defined]
    for split, found in splits.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
    cleaning = {"unicode": "NFC", "whitespace": True, "lowercase": False, "redact": []}
    about = {"max_tokens": figures["max_tokens"], "cleaning": cleaning, "harvest_rows": 0}
    (folder / "dataset.json").write_text(json.dumps(about), encoding="utf-8")
    return folder


def project(folder: Path, rows: int = 240) -> Path:
    """Write the data, the encoder and the config into `folder`; returns the config's path."""
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "faq.csv", rows)
    write_pages(folder / "pages")
    encoder(folder / "encoder")
    config = folder / "tiny.yaml"
    config.write_text(CONFIG.format(data="faq.csv"), encoding="utf-8")
    return config
