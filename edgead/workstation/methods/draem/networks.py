"""Networks of DRAEM as published, and their losses.

One network repairs the image, the other compares it with the repaired one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Published base widths; https://github.com/VitjanZ/DRAEM, model_unet.py.
RECONSTRUCTIVE_WIDTH, DISCRIMINATIVE_WIDTH = 128, 64

# The sides of an image are halved five times and doubled again.
STRIDE = 32
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
# Wang et al. 2004: (0.01 L)^2 and (0.03 L)^2 for a range of values L = 1.
_C1, _C2 = 0.01**2, 0.03**2


class ReconstructiveNetwork(nn.Module):
    """Autoencoder (section 3.1): image, (n, 3, h, w) in 0..1 -> the image without anomalies."""

    def __init__(self, width: int = RECONSTRUCTIVE_WIDTH):
        super().__init__()
        self.encoder = nn.Sequential(*_encoder(3, [width * n for n in (1, 2, 4, 8, 8)]))
        self.decoder = nn.Sequential(
            *(
                nn.Sequential(_up(width * wide, width * wide), _double(width * wide, width * wide, width * narrow))
                for wide, narrow in ((8, 4), (4, 2), (2, 1), (1, 1))
            )
        )
        self.last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        return self.last(self.decoder(self.encoder(image)))


class DiscriminativeNetwork(nn.Module):
    """U-Net (section 3.2): reconstruction and image, (n, 6, h, w) -> logits of normal and anomalous, (n, 2, h, w)."""

    def __init__(self, width: int = DISCRIMINATIVE_WIDTH):
        super().__init__()
        skips = (1, 2, 4, 8, 8)
        self.encoder = nn.ModuleList(_encoder(6, [width * n for n in (*skips, 8)]))
        deeper = (8, 8, 4, 2, 1)
        outputs = (8, 4, 2, 1, 1)
        self.ups = nn.ModuleList(_up(width * wide, width * out) for wide, out in zip(deeper, outputs, strict=True))
        self.joins = nn.ModuleList(
            _double(width * (out + skip), width * out, width * out)
            for out, skip in zip(outputs, reversed(skips), strict=True)
        )
        self.last = nn.Conv2d(width, 2, 3, padding=1)

    def forward(self, pair: Tensor) -> Tensor:
        skips = []
        x = pair
        for block in self.encoder:
            x = block(x)
            skips.append(x)
        skips.pop()
        for up, join in zip(self.ups, self.joins, strict=True):
            x = join(torch.cat([up(x), skips.pop()], dim=1))
        return self.last(x)


class DraemNetwork(nn.Module):
    """Both networks of DRAEM, exported unchanged, without the simulator of anomalies.

    `width`: fraction of the published base widths (128 and 64 channels).
    """

    def __init__(self, width: float = 1.0):
        super().__init__()
        self.reconstructive = ReconstructiveNetwork(round(width * RECONSTRUCTIVE_WIDTH))
        self.discriminative = DiscriminativeNetwork(round(width * DISCRIMINATIVE_WIDTH))

    def reconstruct_and_segment(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Image (n, 3, h, w) in 0..1 -> its reconstruction, (n, 3, h, w), and logits, (n, 2, h, w)."""
        reconstruction = self.reconstructive(image)
        return reconstruction, self.discriminative(torch.cat([reconstruction, image], dim=1))

    def forward(self, image: Tensor) -> Tensor:
        """uint8 RGB (n, h, w, 3) -> the anomalous channel of the softmax, float32 (n, h, w)."""
        _, logits = self.reconstruct_and_segment(image.float().permute(0, 3, 1, 2) / 255)
        # The softmax of two classes in a form that keeps the digits of small scores: engines approximate Sigmoid with
        # an absolute error, and transpose the channels for Softmax.
        return 1 / (1 + torch.exp(logits[:, 0] - logits[:, 1]))


@torch.no_grad()
def initialise(network: nn.Module) -> None:
    """Draw the initial weights as the authors' code does: N(0, 0.02) in convolutions, N(1, 0.02) in normalisations."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.normal_(0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.normal_(1.0, 0.02)
            module.bias.zero_()


def _encoder(inputs: int, widths: list[int]) -> list[nn.Module]:
    """Build blocks of two convolutions; each but the first halves the sides of its input."""
    blocks: list[nn.Module] = [_double(inputs, widths[0], widths[0])]
    for previous, width in zip(widths, widths[1:], strict=False):
        blocks.append(nn.Sequential(nn.MaxPool2d(2), _double(previous, width, width)))
    return blocks


def _up(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), *_convolution(inputs, outputs)
    )


def _double(inputs: int, middle: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(*_convolution(inputs, middle), *_convolution(middle, outputs))


def _convolution(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def structural_similarity(a: Tensor, b: Tensor) -> Tensor:
    """Compute SSIM around every pixel (Wang et al. 2004), with a Gaussian window of 11 x 11 and sigma 1.5.

    `a`, `b` (Tensor of shape (n, c, h, w), float): the range of values is taken as 0..1 even if a repaired image
        exceeds it; the authors' code takes 2 for a batch with a value below -0.5. Padding is 0, as in that code.
    Returns Tensor of shape (n, c, h, w).
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
    """Compute L_rec = lambda L_SSIM + l2 (equations 1 and 2), with lambda = 1 as in the authors' code, a scalar."""
    ssim_loss = (1 - structural_similarity(image, reconstruction)).mean()
    return ssim_loss + F.mse_loss(reconstruction, image)


def focal_loss(logits: Tensor, mask: Tensor, p_cutoff: float = 0.0) -> Tensor:
    """Compute L_seg: mean of -(1 - p)^2 log p, p the probability of the true class (Lin et al. 2017, equation 4).

    The authors' code clips p to 1e-5 from 0 and 1, which bounds the loss of a pixel; this is exact.

    `logits` (Tensor of shape (n, 2, h, w)): logits of normal and anomalous.
    `mask` (Tensor of shape (n, h, w), bool): true where the pixel is anomalous.
    `p_cutoff`: pixels of the mask count only if the network already gives the anomaly more than this probability, as a
        box around a defect has good pixels too (AnoGen, see `edgead.workstation.methods.draem.made_pairs`). At 0 all
        count.
    """
    log_p = F.log_softmax(logits, dim=1).gather(1, mask[:, None].long())
    loss = -((1 - log_p.exp()).square() * log_p)
    if p_cutoff > 0:
        # Within the mask, p is the probability of the anomaly.
        loss = loss * ((log_p.detach().exp() > p_cutoff) | ~mask[:, None])
    return loss.mean()
