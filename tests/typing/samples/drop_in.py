"""Names of transformers, imported from safetransformers, keep the types that transformers gives them."""

from typing import Any

import transformers
from typing_extensions import assert_type

from safetransformers import AutoModel, AutoTokenizer, BertConfig, BertModel, pipeline

assert_type(AutoModel, type[transformers.AutoModel])
assert_type(AutoTokenizer, type[transformers.AutoTokenizer])
assert_type(BertModel(BertConfig()), transformers.BertModel)
assert_type(BertModel.from_pretrained("folder"), transformers.BertModel)
assert_type(pipeline("fill-mask"), transformers.FillMaskPipeline)

same_auto: type[transformers.AutoModel] = AutoModel
config: dict[str, Any] = BertConfig().to_dict()
