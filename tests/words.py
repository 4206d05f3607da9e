"""A tiny prepared data set of made-up words, and a tiny BERT in a local folder, for tests of nets, engine and learner."""

from __future__ import annotations

import random
from pathlib import Path

from llmops.tasks import find
from llmops.tasks.text_classification.config import TextClassificationSection, TextTrainSection

TOPICS = {
    "cold": "blue ice snow frost winter",
    "hot": "red fire sun flame summer",
    "wood": "green tree leaf moss forest",
}
TASK = TextClassificationSection()


def rows(count: int, seed: int, outside: int = 0) -> list[dict[str, str]]:
    """Rows with 1 to 8 words of their topic; `outside` rows of words that belong to none."""
    dice = random.Random(seed)
    said = []
    for index in range(count):
        label = sorted(TOPICS)[index % 3]
        said.append({"text": " ".join(dice.choices(TOPICS[label].split(), k=dice.randint(1, 8))), "label": label})
    return said + [{"text": "x y z " * (1 + index % 3), "label": "oos"} for index in range(outside)]


def dataset(folder: Path, train: TextTrainSection, task: TextClassificationSection = TASK, count: int = 96) -> Path:
    """A prepared data set folder under `folder`."""
    splits = {"train": rows(count, 1), "valid": rows(24, 2, 6 if task.outside else 0), "test": rows(24, 3)}
    find("text-classification").encoder(task, train).prepare(splits, folder / "dataset")
    return folder / "dataset"


def settings(**changes: object) -> TextTrainSection:
    """A training of a second or so."""
    base = {"model": "text-cnn", "epochs": 3, "learning_rate": 1e-2, "batch_size": 8, "width": 16, "vocabulary": 100}
    return TextTrainSection.model_validate({**base, **changes})


def tiny_bert(folder: Path, layers: int = 4) -> Path:
    """A BERT with random weights and a tokenizer that knows the topics' words, as save_pretrained writes them."""
    import torch
    from transformers import BertConfig, BertModel

    from llmops.tasks.text_classification.tokenizer import train_tokenizer

    torch.manual_seed(5)
    tokenizer = train_tokenizer([row["text"] for row in rows(90, 4)], 100)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=32, num_hidden_layers=layers, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    tokenizer.enable_padding(length=20)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
