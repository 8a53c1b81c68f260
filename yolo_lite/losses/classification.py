"""The losses of classifiers."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F


def cross_entropy(outputs: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Return the mean of -log softmax(outputs)[label] over a batch.

    Args:
        outputs: [B, C] logits.
        labels: int64 [B].
        smoothing: fraction of the target that is spread evenly over all classes (Szegedy et al. 2016, section 7).

    Example:
        >>> round(cross_entropy(torch.zeros(1, 4), torch.tensor([2])).item(), 4)  # four classes, no idea: log 4
        1.3863
    """
    return F.cross_entropy(outputs, labels, label_smoothing=smoothing)


def squared_error(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the mean squared difference between softmax(outputs) [B, C] and the one-hot labels [B].

    Example:
        >>> squared_error(torch.zeros(1, 2), torch.tensor([0]))  # (1 - 1/2)^2 and (0 - 1/2)^2
        tensor(0.2500)
    """
    return (outputs.softmax(1) - F.one_hot(labels, outputs.shape[1])).square().mean()


def binary_cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of a single output [B, 1], the logit of label 1 against label 0.

    Example:
        >>> round(binary_cross_entropy(torch.zeros(1, 1), torch.tensor([1])).item(), 4)  # no idea: log 2
        0.6931
    """
    return F.binary_cross_entropy_with_logits(outputs[:, 0], labels.to(outputs.dtype))


def margin_loss(lengths: Tensor, labels: Tensor) -> Tensor:
    """Return the margin loss of capsule lengths [B, C], averaged over the batch (Sabour et al. 2017, equation 4).

    The capsule of the right class should be longer than 0.9, every other one shorter than 0.1. The errors are squared
    and summed over the classes, those of the other classes with weight 1/2.

    Example:
        >>> round(margin_loss(torch.tensor([[0.7, 0.3]]), torch.tensor([0])).item(), 4)  # 0.2^2 + 0.2^2 / 2
        0.06
    """
    right = F.one_hot(labels, lengths.shape[1]).to(lengths.dtype)
    missing = right * (0.9 - lengths).clamp(min=0).square()
    surplus = 0.5 * (1 - right) * (lengths - 0.1).clamp(min=0).square()
    return (missing + surplus).sum(1).mean()


def classification_loss(outputs: Tensor, labels: Tensor, *, name: str, smoothing: float = 0.0) -> Tensor:
    """Return the loss called `name` ("cross_entropy", "mse", "binary" or "margin"), computed in float32.

    Only the cross-entropy uses `smoothing`.

    Example:
        >>> classification_loss(torch.zeros(1, 2), torch.tensor([0]), name="mse")
        tensor(0.2500)
    """
    outputs = outputs.float()
    if name == "cross_entropy":
        return cross_entropy(outputs, labels, smoothing=smoothing)
    return _OTHERS[name](outputs, labels)


_OTHERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": squared_error,
    "binary": binary_cross_entropy,
    "margin": margin_loss,
}
