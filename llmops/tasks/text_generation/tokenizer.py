"""The tokenizer: a pretrained model's own, or one trained on the train split, and its special tokens. No torch here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.core.artifact import write_json, write_whole
from llmops.core.errors import DataError
from llmops.tasks.text_generation.template import OWN, PLAIN

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, END, UNKNOWN = "<|pad|>", "<|end|>", "<|unk|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
SPECIAL = (PAD, END, *ROLES)
"""Their ids are 0 to 4. Documents end with END too, and a model of documents knows ROLES already, so that it can learn
to chat later."""
NAMED = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
"""What tokenizer_config.json calls the special tokens that templates may name."""


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer and what else belongs to it: the special tokens by their names, the chat template (None: a model
    that has none of its own), and the ids of tokens that end a text besides `eos_token`."""

    tokenizer: Tokenizer
    special: dict[str, str]
    template: str | None
    ends: tuple[int, ...] = field(default=())

    @property
    def size(self) -> int:
        """One more than the largest id."""
        return size(self.tokenizer)

    def id(self, name: str) -> int | None:
        """The id of a special token by its name, such as "eos_token"."""
        token = self.special.get(name)
        return None if token is None else self.tokenizer.token_to_id(token)

    @property
    def end(self) -> int:
        """The id that ends a text. Raises DataError when the model has none."""
        found = self.id("eos_token")
        if found is None:
            raise DataError(
                "The model's tokenizer names no token that ends a text.",
                "train.model",
                'add "eos_token" to its tokenizer_config.json.',
            )
        return found

    @property
    def pad(self) -> int:
        """The id that fills up short rows; the end's when there is none."""
        found = self.id("pad_token")
        return self.end if found is None else found

    @property
    def begin(self) -> int | None:
        """The id that the tokenizer puts in front of every plain text, if it does so."""
        found = self.tokenizer.encode("").ids
        return found[0] if found and found[0] == self.id("bos_token") else None


def size(tokenizer: Tokenizer) -> int:
    """One more than the largest id of a tokenizer."""
    return max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1


def trained_vocabulary(kind: str, texts: Sequence[str], most: int) -> Vocabulary:
    """A tokenizer of `kind` ("bpe" or "characters") fitted on `texts`, with our own chat template."""
    tokenizer = train_bpe(texts, most) if kind == "bpe" else train_characters(texts)
    special = {"eos_token": END, "pad_token": PAD} | ({"unk_token": UNKNOWN} if kind == "characters" else {})
    return Vocabulary(tokenizer, special, OWN)


def train_bpe(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Byte-pair encoding (Sennrich et al. 2016) over bytes, so that every text can be written and none is unknown.

    The same texts give the same tokenizer in every process: the trainer orders its alphabet by character, and pairs of
    equal count by their ids (no piece of a character has a form of its own, as in WordPiece). Each digit is a token of
    its own (as in Touvron et al. 2023): a number has the same tokens wherever it stands, so that it can be copied.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        show_progress=False,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def train_characters(texts: Iterable[str]) -> Tokenizer:
    """One token a character of `texts`, in the order of the alphabet; others become UNKNOWN.

    It is byte-pair encoding without a single pair, which every reader of tokenizer.json knows.
    """
    from tokenizers import Tokenizer, decoders, models

    letters: set[str] = set()
    for text in texts:
        letters.update(text)
    special = [*SPECIAL, UNKNOWN]
    index = {token: number for number, token in enumerate([*special, *sorted(letters)])}
    tokenizer = Tokenizer(models.BPE(vocab=index, merges=[], unk_token=UNKNOWN, fuse_unk=False))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(special)
    return tokenizer


def pretrained_vocabulary(folder: Path) -> Vocabulary:
    """The tokenizer of the model in `folder`, its padding and truncation switched off. Raises DataError when it cannot
    be read."""
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path)) if path.is_file() else _converted(folder)
    except Exception as problem:  # tokenizers raises a bare Exception
        do = "the folder needs a tokenizer.json."
        raise DataError(f"The tokenizer in {folder} cannot be read: {problem}", str(folder), do) from problem
    tokenizer.no_padding()
    tokenizer.no_truncation()
    settings = _settings(folder)
    special = _special(tokenizer, folder, settings)
    template = _template(folder, settings)
    return Vocabulary(tokenizer, special, template, _ends(folder))


def template_of(vocabulary: Vocabulary) -> str:
    """The chat template that a model is trained with: its own, or one of ours that its tokens allow."""
    if vocabulary.template is not None:
        return vocabulary.template
    ours = all(vocabulary.tokenizer.token_to_id(token) is not None for token in (*ROLES, END))
    return OWN if ours else PLAIN


def save(dataset: Path, folder: Path) -> None:
    """Write the tokenizer of a prepared data set into a model's folder as transformers reads it: tokenizer.json,
    tokenizer_config.json, chat_template.jinja."""
    facts = json.loads((dataset / "generation.json").read_bytes())
    write_whole(folder / "tokenizer.json", (dataset / "tokenizer.json").read_bytes())
    template = dataset / "chat_template.jinja"
    if template.is_file():
        write_whole(folder / "chat_template.jinja", template.read_bytes())
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **facts["special_tokens"],
            "model_max_length": facts["context"],
            "clean_up_tokenization_spaces": False,
        },
    )


def _converted(folder: Path) -> Tokenizer:
    """Older folders have only a word list; the transformers library knows how to read each kind."""
    from transformers import AutoTokenizer

    backend: Tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False).backend_tokenizer
    return backend


def _json(path: Path) -> dict[str, Any]:
    """A JSON object; empty when there is none."""
    try:
        plain = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as problem:
        do = "download the model again, or mend the file."
        raise DataError(f"{path.name} is not JSON: {problem}", str(path), do) from problem
    return plain if isinstance(plain, dict) else {}


def _settings(folder: Path) -> dict[str, Any]:
    return {**_json(folder / "special_tokens_map.json"), **_json(folder / "tokenizer_config.json")}


def _special(tokenizer: Tokenizer, folder: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for name in NAMED:
        value = settings.get(name)
        token = value.get("content") if isinstance(value, dict) else value
        if isinstance(token, str) and tokenizer.token_to_id(token) is not None:
            found[name] = token
    for number in () if "eos_token" in found else _ends(folder)[:1]:
        found["eos_token"] = str(tokenizer.id_to_token(number))
    return found


def _ends(folder: Path) -> tuple[int, ...]:
    """The ids that end an answer, as the model's own settings name them."""
    for name in ("generation_config.json", "config.json"):
        value = _json(folder / name).get("eos_token_id")
        if value is not None:
            return tuple(value) if isinstance(value, list) else (int(value),)
    return ()


def _template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """The chat template, where transformers looks for it: a file of its own first."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    value = settings.get("chat_template")
    if isinstance(value, list):  # several, by name
        named = {item["name"]: item["template"] for item in value}
        value = named.get("default")
    return value if isinstance(value, str) else None
