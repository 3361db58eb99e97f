"""The two networks of DRAEM as published: one repairs the image, the other compares it with its repair."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Published base widths; https://github.com/VitjanZ/DRAEM, model_unet.py.
RECONSTRUCTIVE_WIDTH, DISCRIMINATIVE_WIDTH = 128, 64

# Sides of an image are halved five times and doubled again.
STRIDE = 32


class ReconstructiveNetwork(nn.Module):
    """Encoder and decoder (section 3.1): image, (n, 3, h, w) in 0..1 -> the same without anomalies."""

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
    """Both networks, exported as they stand; the simulator of anomalies is no part of it.

    Parameters
    ----------
    width : float
        Fraction of the published base widths (128 and 64 channels).
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
        # The softmax of two classes, written so that small scores keep their digits: engines approximate Sigmoid with
        # an absolute error, and move the channels last for Softmax.
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
    """Blocks of two convolutions; each but the first halves the sides of what it gets."""
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
