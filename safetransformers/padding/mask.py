"""The padding rules as pure tensor functions: no model, no policy, no sync, so they trace and compile.

Only edge runs of the pad token are padding (a pad in the middle of a row is a token). Source of the position formula:
``GenerationMixin._prepare_position_ids_for_generation``, transformers 5.23, ``generation/utils.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad as shift

TokenIds = int | Sequence[int] | Tensor | None
_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.uint8, torch.int8)


def infer_attention_mask(
    input_ids: Tensor, pad_token_id: int, *, eos_token_id: TokenIds = None, bos_token_id: TokenIds = None
) -> Tensor:
    """The attention mask of a padded batch: 0 on the leading and trailing run of pads of each row, 1 elsewhere.

    Where the pad token is also the eos token, the first pad of a trailing run is the genuine eos and stays; where it is
    also the bos token, the last pad of a leading run stays.

    Args:
        input_ids: integer tensor of shape (batch, sequence), any device.
        pad_token_id: the pad token's id.
        eos_token_id: one id, several, or None.
        bos_token_id: one id, several, or None.

    Returns:
        int64 tensor of shape (batch, sequence) on the device of ``input_ids``. A row of pads alone is all 0.

    Raises:
        ValueError: where ``input_ids`` is not 2-D or not of integers.

    Cost: at most nine small kernels, no sync, no copy to the host.

    Example:
        >>> import torch
        >>> infer_attention_mask(torch.tensor([[0, 0, 5, 0, 6], [7, 8, 0, 0, 0]]), 0).tolist()
        [[0, 0, 1, 1, 1], [1, 1, 0, 0, 0]]
        >>> infer_attention_mask(torch.tensor([[7, 8, 0, 0, 0]]), 0, eos_token_id=0).tolist()
        [[1, 1, 1, 0, 0]]
    """
    if input_ids.dim() != 2 or not is_integer(input_ids):
        shape, dtype = tuple(input_ids.shape), input_ids.dtype
        raise ValueError(f"input_ids must be a 2-D integer tensor (batch, sequence), not {dtype} of shape {shape}")
    return mask_edges(
        input_ids == pad_token_id,
        keep_eos=is_among(pad_token_id, eos_token_id),
        keep_bos=is_among(pad_token_id, bos_token_id),
    )


def mask_edges(
    pads: Tensor, *, leading: bool = True, trailing: bool = True, keep_eos: bool = False, keep_bos: bool = False
) -> Tensor:
    """The mask of rows whose pads are marked True in ``pads`` (batch, sequence); int64.

    ``leading`` and ``trailing`` say which edges can hold pads at all: one edge alone saves kernels.
    """
    lead = pads.cumprod(-1) if leading else None
    trail = pads.flip(-1).cumprod(-1).flip(-1) if trailing else None
    # A row of pads alone is both runs at once: the run whose rule keeps a token is the one that counts.
    if lead is not None and trail is not None:
        if keep_eos:
            lead = lead * (1 - lead[:, -1:])
        elif keep_bos:
            trail = trail * (1 - trail[:, :1])
    if keep_bos and lead is not None:
        lead = lead * shift(lead, (-1, 1))  # leading, and so is the right neighbour
    if keep_eos and trail is not None:
        trail = trail * shift(trail, (1, -1))  # trailing, and so is the left neighbour
    if lead is not None and trail is not None:
        return (1 - lead) * (1 - trail)
    run = trail if lead is None else lead
    return torch.ones_like(pads, dtype=torch.int64) if run is None else 1 - run


def mask_special(
    pads: Tensor, pad_token_id: int, eos_token_id: TokenIds, bos_token_id: TokenIds, leading: bool, trailing: bool
) -> tuple[Tensor, str]:
    """The mask of a batch, and ``eos`` or ``bos`` where the pad is that token too and stands at such an edge.

    A row that does not begin with the bos token shows that no row was given one. Cost: a sync where the pad is bos.
    """
    is_eos = trailing and is_among(pad_token_id, eos_token_id)
    is_bos = leading and is_among(pad_token_id, bos_token_id)
    keep_bos = is_bos and bool(pads[:, 0].all())
    mask = mask_edges(pads, leading=leading, trailing=trailing, keep_eos=is_eos, keep_bos=keep_bos)
    return mask, "eos" if is_eos else "bos" if is_bos else ""


def mask_decoder(input_ids: Tensor, pad_token_id: int, *, eos_token_id: TokenIds = None) -> Tensor:
    """The mask of decoder ids: only a trailing run is padding, and the first token never is.

    The first token is the decoder's start token, whose id is often the pad token's. Shape, dtype and cost as
    ``infer_attention_mask``.
    """
    rest = mask_edges(input_ids[:, 1:] == pad_token_id, leading=False, keep_eos=is_among(pad_token_id, eos_token_id))
    return shift(rest, (1, 0), value=1)


def position_ids_from_mask(attention_mask: Tensor) -> Tensor:
    """Position ids that count the real tokens of each row from 0; a masked position before them has 0.

    Args:
        attention_mask: tensor of shape (batch, sequence), 1 for a token and 0 for padding.

    Returns:
        int64 tensor of shape (batch, sequence) on the same device.

    Cost: three small kernels, no sync.

    Example:
        >>> import torch
        >>> position_ids_from_mask(torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]])).tolist()
        [[0, 0, 0, 1], [0, 1, 2, 2]]
    """
    return (attention_mask.cumsum(-1) - 1).clamp(min=0)


def is_among(token_id: int, ids: TokenIds) -> bool:
    """Whether ``token_id`` is one of ``ids``, which is one id, several, a tensor of them, or None."""
    if ids is None:
        return False
    if isinstance(ids, Tensor):
        ids = ids.flatten().tolist()
    return token_id == ids if isinstance(ids, int) else token_id in ids


def is_integer(tensor: Tensor) -> bool:
    """Whether the tensor holds integers that can be token ids."""
    return tensor.dtype in _INTEGERS
