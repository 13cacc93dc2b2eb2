"""Our own names have exact types: keywords and values of a policy are checked before the program runs."""

from collections.abc import Mapping

import torch
from typing_extensions import assert_type

import safetransformers as st
from safetransformers import BertConfig, BertModel, Policy, errors

assert_type(st.configure(strict=True, padding="exact", loading=None), Policy)
assert_type(st.get_policy(), Policy)
with st.policy(padding="off") as scoped:
    assert_type(scoped, Policy)
with st.strict(padding="exact", weights="any") as strict:
    assert_type(strict.strict, bool)

st.patch()
assert_type(st.patches(), tuple[str, ...])
st.unpatch(release_models=True)
with st.patched():
    pass

model = BertModel(BertConfig())
assert_type(st.guard(model, padding="raise"), BertModel)
assert_type(st.unguard(model), BertModel)
assert_type(st.is_guarded(model), bool)

ids = torch.tensor([[5, 0]])
mask = st.infer_attention_mask(ids, 0, eos_token_id=[1, 2], bos_token_id=None)
assert_type(mask, torch.Tensor)
assert_type(st.position_ids_from_mask(mask), torch.Tensor)
assert_type(st.audit_padding(model), st.PaddingAudit)
assert_type(st.audit_padding(model, {"input_ids": ids}), st.PaddingAudit)
assert_type(st.report(), Mapping[str, int])
assert_type(st.__version__, str)
st.exact_forward(model, input_ids=ids)

try:
    model(ids)
except errors.PaddingError as error:
    assert_type(error.code, str)
