"""TextCnn: filters of several widths over the embeddings, the strongest answer of each."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llmops.nets.dropout import Dropout
from llmops.nets.pooling import blank_padding, drop_tokens, masked_max

WIDTHS = (1, 3, 5)


class TextCnn(nn.Module):
    """Convolutions with maximum pooling over time (Kim 2014); a filter's width is odd, so that it is centred."""

    def __init__(
        self, vocabulary: int, classes: int, width: int, filters: int, dropout: float, word_dropout: float
    ) -> None:
        super().__init__()
        self.word_dropout = word_dropout
        self.words = nn.Embedding(vocabulary, width)
        self.filters = nn.ModuleList(nn.Conv1d(width, filters, size, padding=size // 2) for size in WIDTHS)
        self.before = Dropout(dropout / 2)
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(filters * len(WIDTHS), classes)
        nn.init.normal_(self.words.weight, std=0.1)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """tokens, mask: int64 [batch, length] -> logits [batch, classes]."""
        if self.training and self.word_dropout:
            mask = drop_tokens(mask, tokens, self.word_dropout)
        states = blank_padding(self.before(self.words(tokens)), mask).transpose(1, 2)
        found = [masked_max(torch.relu(one(states)).transpose(1, 2), mask) for one in self.filters]
        return self.head(self.dropout(torch.cat(found, 1)))
