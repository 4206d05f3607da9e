"""BagOfWords: embeddings of words and word pairs, weighted, summed, classified."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llmops.nets.dropout import Dropout
from llmops.nets.pooling import drop_tokens, masked_max

PAIR_MULTIPLIER = 1_000_003


class BagOfWords(nn.Module):
    """Bag of words and hashed word pairs (Joulin et al. 2017, fastText), mean and maximum of the embeddings.

    Each token and pair has a learnt importance, as TF-IDF has a counted one.
    """

    def __init__(
        self, vocabulary: int, classes: int, width: int, pairs: int, dropout: float, word_dropout: float
    ) -> None:
        super().__init__()
        self.pairs, self.word_dropout = pairs, word_dropout
        self.words = nn.Embedding(vocabulary, width)
        self.joined = nn.Embedding(pairs, width)
        self.importance = nn.Embedding(vocabulary + pairs, 1)
        self.vocabulary = vocabulary
        self.norm = nn.LayerNorm(2 * width)
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(2 * width, classes)
        nn.init.normal_(self.words.weight, std=0.1)
        nn.init.normal_(self.joined.weight, std=0.1)
        nn.init.zeros_(self.importance.weight)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """tokens, mask: int64 [batch, length] -> logits [batch, classes]."""
        if self.training and self.word_dropout:
            mask = drop_tokens(mask, tokens, self.word_dropout)
        mask = torch.ones_like(tokens) if mask is None else mask
        after = torch.cat([tokens[:, 1:], torch.zeros_like(tokens[:, :1])], 1)
        after_mask = torch.cat([mask[:, 1:], torch.zeros_like(mask[:, :1])], 1)
        pair = (tokens * PAIR_MULTIPLIER + after) % self.pairs
        states = torch.cat([self.words(tokens), self.joined(pair)], 1)
        both = torch.cat([mask, mask * after_mask], 1)
        weight = torch.exp(self.importance(torch.cat([tokens, pair + self.vocabulary], 1)))
        weight = weight * both.to(weight.dtype).unsqueeze(-1)
        mean = (states * weight).sum(1) / weight.sum(1).clamp(min=1e-6)
        return self.head(self.dropout(self.norm(torch.cat([mean, masked_max(states, both)], 1))))
