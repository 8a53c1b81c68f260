"""What a classifier's outputs cost."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F


def cross_entropy(outputs: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Return the mean of -log softmax(outputs)[label] over a batch.

    Args:
        outputs: [B, C] logits.
        labels: int64 [B].
        smoothing: this share of the target is spread over all classes evenly (Szegedy et al. 2016, section 7).
    """
    return F.cross_entropy(outputs, labels, label_smoothing=smoothing)


def squared_error(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the mean squared difference of softmax(outputs) and the labels written one-hot."""
    return (outputs.softmax(1) - F.one_hot(labels, outputs.shape[1])).square().mean()


def binary_cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of one output [B, 1], the logit of label 1 against label 0."""
    return F.binary_cross_entropy_with_logits(outputs[:, 0], labels.to(outputs.dtype))


def margin_loss(lengths: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over a batch of what capsules of wrong length cost (Sabour et al. 2017, equation 4).

    The right class should be longer than 0.9, every other shorter than 0.1; what is missing is squared, for the others
    halved, and summed over the classes.
    """
    right = F.one_hot(labels, lengths.shape[1]).to(lengths.dtype)
    missing = right * (0.9 - lengths).clamp(min=0).square()
    surplus = 0.5 * (1 - right) * (lengths - 0.1).clamp(min=0).square()
    return (missing + surplus).sum(1).mean()


def classification_loss(outputs: Tensor, labels: Tensor, *, name: str, smoothing: float = 0.0) -> Tensor:
    """Return the loss of that name, in float32."""
    outputs = outputs.float()
    if name == "cross_entropy":
        return cross_entropy(outputs, labels, smoothing=smoothing)
    return _OTHERS[name](outputs, labels)


_OTHERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": squared_error,
    "binary": binary_cross_entropy,
    "margin": margin_loss,
}
