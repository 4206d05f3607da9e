"""BiLstm: two LSTMs read each text, one from either end."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llmops.nets.dropout import Dropout
from llmops.nets.pooling import blank_padding, masked_max, masked_mean


class BiLstm(nn.Module):
    """Bidirectional LSTM (Hochreiter and Schmidhuber 1997; Schuster and Paliwal 1997), mean and maximum pooled.

    The backward reader gets each row reversed within its own length, so that padding stays at the end for both
    and a row's answer doesn't depend on the batch it is in.
    """

    def __init__(self, vocabulary: int, classes: int, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        sizes = [width] + [2 * width] * (layers - 1)
        self.forwards = nn.ModuleList(nn.LSTM(size, width, batch_first=True) for size in sizes)
        self.backwards = nn.ModuleList(nn.LSTM(size, width, batch_first=True) for size in sizes)
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(4 * width, classes)
        nn.init.normal_(self.words.weight, std=0.1)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """tokens, mask: int64 [batch, length] -> logits [batch, classes]."""
        mirror = mirrored(tokens, mask)
        states = blank_padding(self.dropout(self.words(tokens)), mask)
        for ahead, back in zip(self.forwards, self.backwards, strict=True):
            seen = back(reorder(states, mirror))[0]
            states = blank_padding(torch.cat([ahead(states)[0], reorder(seen, mirror)], -1), mask)
        return self.head(self.dropout(torch.cat([masked_mean(states, mask), masked_max(states, mask)], 1)))


def mirrored(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Positions [batch, length] that reverse each row within its own length; padding stays in place."""
    place = torch.ones_like(tokens).cumsum(1) - 1
    if mask is None:
        return place.flip(1)
    back = mask.sum(1, keepdim=True) - 1 - place
    return torch.where(back >= 0, back, place)


def reorder(states: Tensor, places: Tensor) -> Tensor:
    """states [batch, length, width] with the rows' positions in the order of `places`."""
    return states.gather(1, places.unsqueeze(-1).expand(-1, -1, states.shape[-1]))
