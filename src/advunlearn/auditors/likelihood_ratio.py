"""The game's auditor as a likelihood-ratio attack: LiRA inside the game."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from advunlearn.auditors.auditor import Audit, Auditor
from advunlearn.auditors.cross_validated import standardise
from advunlearn.auditors.folds import classes_of
from advunlearn.options import option


@dataclass
class LikelihoodRatio(Auditor):
    """The likelihood-ratio attack (Carlini et al. 2022, section V, inside the game).

    Its score of an example is log p(margin | IN) - log p(margin | OUT), from reference models that were and were not
    trained on the example; see `reference_evidence`. By the Neyman-Pearson lemma no other score is better, so only a
    threshold is to be chosen. The utility is:

        M = mean over forget and audit examples of side * score = (mean score of forget - mean score of audit) / 2

    with side +1 and -1, the scores less their class's mean and at deviation 1 over the audit batch, both constants.
    Forget and audit examples are compared with the same references, so it does not matter if these are weaker or
    stronger than the model. By default M is at least 0: below, forget examples already look less like members than
    audit examples, and pushing them further would make them detectable from the other side.

    Attributes:
        references: models, a multiple of 2 and at least 4; trained once on random halves of the training and audit
            examples, they serve every request to forget, and are never used as shadow models of an attack.
        two_sided: also pull back forget examples that lie below: M is the absolute difference.

    References:
        [carlini2022] N. Carlini, S. Chien, M. Nasr, S. Song, A. Terzis and F. Tramer, "Membership Inference Attacks
            From First Principles", IEEE Symposium on Security and Privacy 2022. https://arxiv.org/abs/2112.03570 (the
            ratio: section V; its use inside the game has no publication)
        [di2025] Z. Di, S. Yu, Y. Vorobeychik and Y. Liu, "Adversarial Machine Unlearning", ICLR 2025.
            https://arxiv.org/abs/2406.07687
    """

    references: int = option(16, at_least=4, even=True)
    two_sided: bool = False

    uninformed: ClassVar[float] = 0.0

    def reference_models(self) -> int:
        """Return their number; see `Auditor.reference_models`."""
        return self.references

    def utility(
        self,
        member_scores: Tensor,
        nonmember_scores: Tensor,
        member_labels: Tensor,
        nonmember_labels: Tensor,
        generator: torch.Generator,
    ) -> Audit:
        """Return half the distance of the mean scores; see `Auditor.utility`."""
        scores = torch.cat([member_scores, nonmember_scores]).double()
        scores = standardise(scores, classes_of(torch.cat([member_labels, nonmember_labels]))).mean(1)
        members, others = scores.split([len(member_labels), len(nonmember_labels)])
        apart = (members.mean() - others.mean()) / 2
        threshold = (members.mean() + others.mean()) / 2
        right = (members > threshold).double().mean() + (others < threshold).double().mean()
        ties = (members == threshold).double().mean() + (others == threshold).double().mean()
        return Audit(
            utility=apart.abs() if self.two_sided else apart.clamp_min(0.0),
            accuracy=((right + 0.5 * ties) / 2).detach(),
        )
