"""The block `train.few:` how a classifier is trained where a class has few rows. No torch here."""

from __future__ import annotations

from pydantic import Field

from llmops.core.section import Section


class FewSection(Section):
    """For classes of some one to thirty rows, pretrained encoders only. Texts are compared as vectors of length one,
    each class begins as the mean of its rows' vectors (prototypes, Snell et al. 2017) instead of at random, and in the
    end one more training takes all rows but the test's."""

    contrast: float = Field(0.0, ge=0, le=100)
    """Weight of the supervised contrastive loss (Khosla et al. 2020; for few rows Zhang et al. 2021, CPFT; Tunstall et
    al. 2022, SetFit) beside the loss on labels: rows of a class are drawn together, others pushed apart. 0, without
    it, is the default: beside prototypes of an encoder that was trained on sentences it won nothing
    (docs/performance.md); try 1 with another encoder. `method: frozen` has no vectors to move, and does without."""
    temperature: float = Field(0.05, gt=0, le=10)
    """What cosines are divided by in both losses; small ones look at the nearest rows alone."""
    unlabelled_epochs: int = Field(1, ge=0, le=100)
    """Passes over the texts that `prepare.unlabelled` names, and the training texts with them, before the training: two
    views of a text, each without some of its words, are drawn together and other texts pushed apart (Gao et al. 2021,
    SimCSE; Yan et al. 2021, ConSERT; Zhang et al. 2021, CPFT). 0: without."""
    unlabelled_rate: float = Field(5e-6, gt=0, le=1)
    """Peak learning rate of these passes. Low, for an encoder that was trained on sentences has more to lose than to
    win (BANKING77, ten rows a class: 5e-6 won nothing, 2e-5 lost 1.6 points); SimCSE takes 1e-5 to 3e-5 for BERT,
    which was not."""
    unlabelled_rows: int = Field(20_000, ge=1)
    """Of more texts without labels than these, so many are drawn."""
    refit: bool = True
    """After the training that is measured on validation rows, train once more, on these too: few rows are too dear to
    leave out. Probabilities and thresholds still come from the first model's answers, which never saw these rows.
    Without test rows it is left out: nothing unseen would be there to judge it by."""
