"""The tokenizer of networks from scratch, trained on the train split. No torch here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, UNKNOWN, START = "[PAD]", "[UNK]", "[CLS]"
"""Their ids are 0, 1 and 2. Every text begins with START, so that none is empty."""


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """WordPiece (Schuster and Nakajima 2012) on lower-cased words; each Chinese character is a word of its own.

    The same texts give the same tokenizer.
    """
    from tokenizers import models, processors, trainers

    texts = list(texts)
    draft = _blank()
    # The trainer numbers the pieces of one character (##a) in the order of a hash map, which differs from one
    # process to the next, and breaks ties by these numbers. Named beforehand, they have one order.
    letters = _letters(draft, texts)
    special = [PAD, UNKNOWN, START]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary, min_frequency=2, show_progress=False, special_tokens=[*special, *letters]
    )
    draft.train_from_iterator(texts, trainer)
    trained = _blank()
    trained.model = models.WordPiece(draft.get_vocab(), unk_token=UNKNOWN, max_input_chars_per_word=100)
    trained.add_special_tokens(special)
    trained.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", special_tokens=[(START, special.index(START))]
    )
    return trained


def _blank() -> Tokenizer:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN, max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.BertNormalizer(lowercase=True, strip_accents=False, handle_chinese_chars=True)]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _letters(tokenizer: Tokenizer, texts: list[str]) -> list[str]:
    """Every character that stands inside a word, as the piece ##c, in the order of the alphabet."""
    found: set[str] = set()
    for text in texts:
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text)):
            found.update(word[1:])
    return [f"##{letter}" for letter in sorted(found)]
