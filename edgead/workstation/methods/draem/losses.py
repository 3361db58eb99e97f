"""The losses of DRAEM."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5

# Wang et al. 2004: (0.01 L)^2 and (0.03 L)^2 for a range of values L = 1.
_C1, _C2 = 0.01**2, 0.03**2


def structural_similarity(a: Tensor, b: Tensor) -> Tensor:
    """SSIM of the patches around every pixel (Wang et al. 2004), with a Gaussian window of 11 x 11 and sigma 1.5.

    Parameters
    ----------
    a, b : Tensor of shape (n, c, h, w), float
        The range of values is 0..1, also where a repair leaves it; the authors' code takes one of 2 for a batch with a
        value below -0.5. Beyond the border lies 0, as in that code.

    Returns
    -------
    Tensor of shape (n, c, h, w)
    """
    channels = a.shape[1]
    offsets = torch.arange(SSIM_WINDOW, dtype=a.dtype, device=a.device) - SSIM_WINDOW // 2
    taps = torch.exp(-0.5 * (offsets / SSIM_SIGMA).square())
    taps = (taps / taps.sum()).expand(channels, 1, 1, -1)

    def average(x: Tensor) -> Tensor:
        x = F.conv2d(x, taps, padding=(0, SSIM_WINDOW // 2), groups=channels)
        return F.conv2d(x, taps.mT, padding=(SSIM_WINDOW // 2, 0), groups=channels)

    mean_a, mean_b = average(a), average(b)
    variance_a = average(a * a) - mean_a.square()
    variance_b = average(b * b) - mean_b.square()
    covariance = average(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a.square() + mean_b.square() + _C1)
    return luminance * (2 * covariance + _C2) / (variance_a + variance_b + _C2)


def reconstruction_loss(image: Tensor, reconstruction: Tensor) -> Tensor:
    """L_rec = lambda L_SSIM + l2 (equations 1 and 2), with lambda = 1 as in the authors' code; one number."""
    ssim_loss = (1 - structural_similarity(image, reconstruction)).mean()
    return ssim_loss + F.mse_loss(reconstruction, image)


def focal_loss(logits: Tensor, mask: Tensor, p_cutoff: float = 0.0) -> Tensor:
    """L_seg: -(1 - p)^2 log p averaged over pixels, p the probability of the true class (Lin et al. 2017, equation 4).

    Parameters
    ----------
    logits : Tensor of shape (n, 2, h, w)
        Of normal and anomalous.
    mask : Tensor of shape (n, h, w), bool
        True where the pixel is anomalous.
    p_cutoff : float
        Pixels of the mask count only where the network already gives the anomaly more than this probability: of a box
        around a defect a part is good (AnoGen, see `edgead.workstation.methods.draem.made_pairs`). At 0 all count.

    Notes
    -----
    The authors' code keeps p from 0 and 1 by 1e-5, which bounds the loss of a pixel; this is exact.
    """
    log_p = F.log_softmax(logits, dim=1).gather(1, mask[:, None].long())
    loss = -((1 - log_p.exp()).square() * log_p)
    if p_cutoff > 0:
        # Within the mask, p is that of the anomaly.
        loss = loss * ((log_p.detach().exp() > p_cutoff) | ~mask[:, None])
    return loss.mean()
