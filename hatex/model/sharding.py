"""A base spread over the processes that train together: FSDP 2, with the weights as packed as they are stored.

Every process keeps its share of each block, and has a block whole for the length of that block's pass. The embedding
and the adapters are not spread: adapters are small, and `training.team` sums their gradients. Passes are made by all
processes together, so each must make as many as the others.
"""

from __future__ import annotations

import torch
from torch import distributed
from transformers.modeling_layers import GradientCheckpointingLayer

from hatex.errors import ModelError
from hatex.model.gatedlm import GatedLM
from hatex.model.weights import Nf4Weight


def shard_base(lm: GatedLM, device: torch.device) -> None:
    """Spread the blocks of `lm`, loaded to the processor with compute `dequantize`, over the processes' devices.

    The processes are those of torch's default group. Block by block, so that no device ever holds the whole base.
    Raises ModelError for a base that is not stored in NF4, or that has no blocks.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    inner = lm.model.base_model
    blocks = [module for module in inner.modules() if isinstance(module, GradientCheckpointingLayer)]
    packed = [module for module in inner.modules() if isinstance(module, Nf4Weight)]
    if not blocks or not packed:
        raise ModelError(
            "only a base in NF4 is spread over processes (FSDP)",
            hint="launch without FSDP; each holds it whole",
        )
    spread = {parameter for block in blocks for parameter in block.parameters()}
    whole = {parameter for parameter in lm.model.parameters() if parameter not in spread}
    for parameter in whole:
        parameter.data = parameter.data.to(device)
    for weight in packed:
        weight.state.to(device)
    mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
    for block in blocks:
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
    fully_shard(inner, mesh=mesh, ignored_params=whole)
