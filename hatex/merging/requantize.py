"""A merged weight back into NF4.

The base's values lie on its own 4-bit grid, and an adapter's update is small beside the grid's steps: rounding to the
nearest level gives back the base and loses the adapter. So weights are rounded at random to one of the two levels
around them, with chances that keep the mean (stochastic rounding, Gupta et al. 2015), on the base's own grid. What
the update says is then kept in the sum over many weights, at the price of noise.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from bitsandbytes import functional as bnb
from torch import Tensor

from hatex.model.weights import quant_state


def requantize(weight: Tensor, parts: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """NF4 bytes of `weight`, shape (out, in), on the grid that `parts` describe: the stored tensors of the base.

    `parts` are those of `model.weights.NF4_PARTS`; the result has them unchanged and the packed bytes under "".
    """
    state = quant_state(parts, weight.device)
    absmax = bnb.dequantize_blockwise(state.absmax, state.state2) + state.offset
    levels = state.code.float()
    scaled = weight.float().reshape(-1, state.blocksize) / absmax.float().reshape(-1, 1)
    scaled = scaled.clamp(levels[0], levels[-1])
    above = torch.searchsorted(levels, scaled).clamp(1, len(levels) - 1)
    below = above - 1
    chance = (scaled - levels[below]) / (levels[above] - levels[below])
    draws = torch.rand(chance.shape, generator=generator)
    codes = torch.where(draws < chance, above, below).to(torch.uint8).flatten()
    # bitsandbytes packs two values into a byte, the earlier one into the high half.
    packed = (codes[0::2] << 4) | codes[1::2]
    return {"": packed.reshape(-1, 1), **parts}
