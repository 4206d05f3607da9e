"""SmallTransformer: a Transformer encoder for training from scratch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from llmops.nets.dropout import Dropout
from llmops.nets.pooling import pool


class Block(nn.Module):
    """Self-attention and a feed-forward network, each behind a norm (Xiong et al. 2020, pre-LN)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor, allowed: Tensor | None) -> Tensor:
        """states [batch, length, width], allowed bool [batch, 1, 1, length] -> states."""
        batch, length, width = states.shape
        query, key, value = (
            part.view(batch, length, self.heads, width // self.heads).transpose(1, 2)
            for part in self.mix(self.norm_attention(states)).split(width, -1)
        )
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        states = states + self.dropout(self.out(seen.transpose(1, 2).reshape(batch, length, width)))
        return states + self.dropout(self.feed(self.norm_feed(states)))


class SmallTransformer(nn.Module):
    """Transformer encoder (Vaswani et al. 2017) with learnt positions; heads are 32 wide where that divides `width`."""

    def __init__(
        self, vocabulary: int, classes: int, width: int, layers: int, dropout: float, pooling: str, max_tokens: int
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.words, self.places = nn.Embedding(vocabulary, width), nn.Embedding(max_tokens, width)
        heads = width // 32 if width % 32 == 0 else 1
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.norm, self.dropout = nn.LayerNorm(width), Dropout(dropout)
        self.head = nn.Linear(width, classes)
        nn.init.normal_(self.words.weight, std=0.02)
        nn.init.normal_(self.places.weight, std=0.02)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """tokens, mask: int64 [batch, length] -> logits [batch, classes]."""
        place = torch.ones_like(tokens[:1]).cumsum(1) - 1
        states = self.dropout(self.words(tokens) + self.places(place))
        allowed = None if mask is None else mask[:, None, None, :] != 0
        for block in self.blocks:
            states = block(states, allowed)
        return self.head(self.dropout(pool(self.norm(states), mask, self.pooling)))
