"""The codec of text generation: chats and prompts to tokens as in training, tokens to text as they come."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

import tests.tiny_chat as tiny_chat
from llmops.core.errors import DataError
from llmops.fields.cleaning import clean
from llmops.fields.config import CleanStep
from llmops.tasks.text_generation import TextGeneration
from llmops.tasks.text_generation.codec import GenerationCodec
from llmops.tasks.text_generation.config import GenerationTrainSection, TextGenerationSection
from llmops.tasks.text_generation.encoder import GenerationEncoder
from llmops.tasks.text_generation.pieces import LONGEST, Pieces, byte_letters
from llmops.tasks.text_generation.tokenizer import train_bpe, train_characters

TASK = TextGeneration()
TEXTS = [
    "Plain words, twice  spaced.", "你好，世界。今天天气很好！", "emoji 🙂🙃👩‍👩‍👧 flags 🇨🇳",
    "naïve café – “quotes”\n\n\ttab",
    "", " leading", "trailing ", "\n", "def f(x):\n    return x", "العربية हिन्दी ไทย",
]  # fmt: skip


def bundle(folder: Path, objective: str = "instructions", kind: str = "bpe", **more: Any) -> Path:
    """A bundle's folder with all that the codec reads, made by the encoder from the tiny rows."""
    section = TextGenerationSection.model_validate({"objective": objective, "context": 64, **more})
    train = GenerationTrainSection(vocabulary=300, tokenizer=kind)  # type: ignore[arg-type]
    text = tiny_chat.document_text()
    rows: list[Any] = [TASK.example(section, row) for row in tiny_chat.instruction_rows()]
    rows = rows if objective == "instructions" else [{"document": text, "text": text}]
    GenerationEncoder(section, train).prepare({"train": rows, "valid": [], "test": []}, folder)
    manifest = {"settings": TASK.settings(section, folder), "cleaning": CleanStep().plain()}
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return folder


def sentencepiece() -> Tokenizer:
    """A tokenizer of the other great family: pieces that begin with a mark for the space, single bytes for the rest."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces = trainers.BpeTrainer(vocab_size=330, show_progress=False, special_tokens=names)
    tokenizer.train_from_iterator(["plain words twice spaced emoji flags def return"] * 3, pieces)
    plain = json.loads(tokenizer.to_str())
    plain["added_tokens"] = plain["added_tokens"][:3]
    tokenizer = Tokenizer.from_str(json.dumps(plain))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def metaspace() -> Tokenizer:
    tokenizer = Tokenizer(
        models.Unigram([("<unk>", 0.0), ("▁", -1.0), *((c, -2.0) for c in "abcdefg"), ("▁ab", -1.5)], 0)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


FAMILIES = {
    "bytes": lambda: train_bpe([*TEXTS, *TEXTS], 300),
    "characters": lambda: train_characters(TEXTS),
    "sentencepiece": sentencepiece,
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("text", TEXTS)
def test_tokens_that_come_one_by_one_give_the_whole_text(family: str, text: str) -> None:
    tokenizer = FAMILIES[family]()
    pieces, tokens = Pieces(tokenizer), tokenizer.encode(text, add_special_tokens=False).ids
    writer = pieces.writer()
    given_out = [writer.push(token) for token in tokens]
    assert "\ufffd" not in "".join(given_out)
    assert writer.end() == ""
    assert "".join(given_out) == tokenizer.decode(tokens) == pieces.text(tokens)
    if family != "sentencepiece":
        assert "".join(given_out) == text


def test_a_character_of_several_tokens_is_held_back_until_it_is_whole() -> None:
    for tokenizer in (train_bpe(["ab"], 300), sentencepiece()):
        tokens = tokenizer.encode("a你🙂b", add_special_tokens=False).ids
        writer = Pieces(tokenizer).writer()
        said = [writer.push(token) for token in tokens]
        assert [piece for piece in said if piece] == ["a", "你", "🙂", "b"]
        assert len(said) > 4


def test_broken_characters_show_only_when_they_are_certain_to_be_broken() -> None:
    letters = {byte: letter for letter, byte in byte_letters().items()}
    tokenizer = train_bpe(["ab"], 300)
    first = tokenizer.token_to_id(letters["你".encode()[0]])
    writer = Pieces(tokenizer).writer()
    assert writer.push(first) == "" and writer.end() == "\ufffd"
    writer = Pieces(tokenizer).writer()
    assert [writer.push(first), writer.push(tokenizer.token_to_id("a")), writer.end()] == ["", "\ufffda", ""]
    tokenizer = sentencepiece()
    broken = tokenizer.token_to_id("<0xE4>")
    writer = Pieces(tokenizer).writer()
    said = [writer.push(broken) for _ in range(5 * LONGEST)]
    assert 0 < len("".join(said)) <= 5 * LONGEST and max(map(len, said)) <= LONGEST


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 299), max_size=40))
def test_any_tokens_give_what_the_tokenizer_decodes(tokens: list[int]) -> None:
    tokenizer = BYTES
    tokens = [token for token in tokens if token < tokenizer.get_vocab_size()]
    assert Pieces(tokenizer).text(tokens) == tokenizer.decode(tokens, skip_special_tokens=True)


BYTES = train_bpe([*TEXTS, *TEXTS], 300)


def test_spaces_of_pieces_are_those_of_the_whole_text() -> None:
    tokenizer = metaspace()
    dice = random.Random(4)
    for _ in range(100):
        tokens = [dice.randrange(1, 10) for _ in range(dice.randrange(12))]
        assert Pieces(tokenizer).text(tokens) == tokenizer.decode(tokens)


def test_special_tokens_say_nothing_and_pieces_have_names(tmp_path: Path) -> None:
    codec = GenerationCodec(bundle(tmp_path))
    tokens = codec.prompt("a你")
    assert codec.text([3, *tokens, 1]) == "a你"
    assert [codec.piece(token) for token in [1, *tokens]] == [
        "<|end|>",
        "a",
        r"bytes:\xe4",
        r"bytes:\xbd",
        r"bytes:\xa0",
    ]


@pytest.mark.parametrize("kind", ["bpe", "characters"])
def test_chats_are_the_tokens_of_training(kind: str, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    codec = GenerationCodec(bundle(tmp_path, kind=kind))
    arrays = load_file(tmp_path / "train.safetensors")
    for number, row in enumerate(tiny_chat.instruction_rows()):
        first, last = arrays["offsets"][number : number + 2]
        asked = codec.chat([{"role": "user", "content": f" {row['instruction']}\u200b "}])
        assert asked == arrays["tokens"][first : first + len(asked)].tolist()
        assert codec.text(arrays["tokens"][first + len(asked) : last].tolist()) == row["output"]
    assert (codec.context, codec.end_tokens, codec.chats) == (64, frozenset({1}), True)
    assert codec.vocabulary == Tokenizer.from_file(str(tmp_path / "tokenizer.json")).get_vocab_size()


def test_a_default_system_message_stands_where_none_is_given(tmp_path: Path) -> None:
    codec = GenerationCodec(bundle(tmp_path, system="Be kind."))
    plain, given_one = [{"role": "user", "content": "hi"}], [{"role": "developer", "content": "Be rude."}]
    system = [{"role": "system", "content": "Be kind."}]
    assert codec.chat(plain) == codec.chat(system + plain)
    assert codec.text(codec.chat(given_one + plain)) == "Be rude.hi"


def test_prompts_keep_their_line_ends(tmp_path: Path) -> None:
    codec = GenerationCodec(bundle(tmp_path, objective="language-model"))
    assert codec.text(codec.prompt("ROMEO:\n")) == "ROMEO:\n"
    assert codec.text(codec.prompt("two  spaces <|end|> ")) == "two spaces <|end|> "
    assert 1 not in codec.prompt("<|end|>")
    assert not codec.chats
    with pytest.raises(ValueError, match="not trained on chats"):
        codec.chat([{"role": "user", "content": "hi"}])
    with pytest.raises(ValueError, match="the prompt is empty"):
        codec.prompt("")


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([], "messages is empty"),
        ([{"role": "robot", "content": "x"}], "messages[0].role is 'robot'"),
        ([{"role": "user", "content": None}], "messages[0].content is not text"),
        ([{"role": "user"}], "messages[0].content is not text"),
    ],
)
def test_bad_messages_are_refused_in_words(messages: list[dict[str, Any]], why: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as refused:
        GenerationCodec(bundle(tmp_path)).chat(messages)
    assert why in str(refused.value)


def test_a_begin_token_leads_plain_prompts(tmp_path: Path) -> None:
    folder = bundle(tmp_path, objective="language-model")
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest["settings"] |= {"begin_token": 4}
    (folder / "bundle.json").write_text(json.dumps(manifest))
    codec = GenerationCodec(folder)
    assert codec.prompt("")[:1] == [4] and codec.prompt("a")[0] == 4


def test_special_tokens_are_worked_out_from_their_ids(tmp_path: Path) -> None:
    folder = bundle(tmp_path)
    (folder / "chat_template.jinja").write_text("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}")
    manifest = json.loads((folder / "bundle.json").read_text())
    del manifest["settings"]["special_tokens"]
    manifest["settings"]["begin_token"] = 4
    (folder / "bundle.json").write_text(json.dumps(manifest))
    tokens = GenerationCodec(folder).chat([{"role": "user", "content": "x"}])
    assert (tokens[0], tokens[-1]) == (4, 1)


@pytest.mark.parametrize("broken", ["bundle.json", "tokenizer.json", "chat_template.jinja"])
def test_a_broken_bundle_is_refused(broken: str, tmp_path: Path) -> None:
    folder = bundle(tmp_path)
    (folder / broken).write_text("{% for")
    with pytest.raises(DataError, match="the bundle cannot be read"):
        GenerationCodec(folder)


def test_cleaning_is_that_of_training() -> None:
    step = CleanStep()
    text = unicodedata.normalize("NFD", "café  au\u200b lait")
    row = TASK.cleaned({"messages": [{"role": "user", "content": text}]}, lambda one: clean(one, step))
    assert row["messages"][0]["content"] == "café au lait"


def test_the_codec_loads_neither_torch_nor_transformers(tmp_path: Path) -> None:
    folder = bundle(tmp_path)
    asked = (
        "import sys; from pathlib import Path; from llmops.tasks.text_generation import TextGeneration;"
        f"codec = TextGeneration().codec(Path({str(folder)!r}));"
        "codec.text(codec.chat([{'role': 'user', 'content': 'hi'}]));"
        "print([name for name in ('torch', 'transformers', 'sacrebleu', 'safetensors') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
