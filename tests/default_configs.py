"""What a configuration needs beyond its defaults, where transformers' own model class refuses the defaults.

Composites want their parts, forecasting models a length, and some defaults do not fit each other. Everything is as
small as it may be: models are made of it on the meta device.
"""

from __future__ import annotations

import copy
from typing import Any

import transformers

_PARTS = {"encoder": {"model_type": "bert"}, "decoder": {"model_type": "bert"}}
_FORECAST = {"prediction_length": 4}
# Of timm, which the tests do not install, the backbone of these is the default.
_RESNET = {
    "use_timm_backbone": False,
    "use_pretrained_backbone": False,
    "backbone": None,
    "backbone_config": {"model_type": "resnet", "out_features": ["stage2", "stage3", "stage4"]},
}
_LAST_STAGE = {**_RESNET, "backbone_config": {"model_type": "resnet", "out_features": ["stage4"]}}
_ROTARY = {"head_dim": 64}
_IMAGE_TOKENS = {"vocabulary_map": {"<image>": 9, "IMGIMGAZ": 10}}
_BOTH_KINDS = {kind: {"rope_type": "default", "rope_theta": 1e4} for kind in ("full_attention", "sliding_attention")}
_EXPERTS = {"num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 64}
_INDEXER = {
    "indexer_n_heads": 4,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 256,
    "indexer_budget": 64,
    "indexer_compress_ratio": 2,
}
_POINT = [1, 1, 0]  # kernel, stride and padding of a convolution
_INTRACLASS = {
    "intraclass_block_config": dict.fromkeys(
        [
            "reduce_channel",
            "return_channel",
            *(
                f"{way}_{size}ratio"
                for way in ("vertical_long_to_small_conv", "horizontal_small_to_long_conv", "symmetric_conv_long")
                for size in ("long", "mid", "short")
            ),
        ],
        _POINT,
    ),
    "scale_factor_list": [1, 2, 4, 8],
    "kernel_list": [3, 2, 2],
}
_MROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [24, 20, 20]}
_SOUND = {"text_encoder": {"model_type": "t5"}, "audio_encoder": {"model_type": "encodec"}}

ARGUMENTS: dict[str, dict[str, Any]] = {
    "autoformer": _FORECAST,
    "aya_vision": {"vision_config": {"model_type": "siglip_vision_model"}},
    "chameleon": _IMAGE_TOKENS,
    "conditional_detr": _LAST_STAGE,
    "dab-detr": _LAST_STAGE,
    "deformable_detr": _RESNET,
    "detr": _LAST_STAGE,
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "emu3": _IMAGE_TOKENS,
    "encoder-decoder": _PARTS,
    "esm": {"vocab_size": 33, "pad_token_id": 1},
    "granitemoehybrid": {"layer_types": ["attention"] * 2, "num_hidden_layers": 2},
    "hunyuan_v1_dense": _ROTARY,
    "hunyuan_v1_moe": _ROTARY,
    "hunyuan_vl": {"text_config": _ROTARY},
    "hunyuan_vl_text": _ROTARY,
    "informer": _FORECAST,
    "lfm2_moe": {"layer_types": ["full_attention"] * 2, "num_hidden_layers": 2},
    "ministral": _ROTARY,
    "musicgen": _SOUND | {"decoder": {"model_type": "musicgen_decoder"}},
    "musicgen_melody": _SOUND | {"decoder": {"model_type": "musicgen_melody_decoder"}},
    "nemotron": {"num_key_value_heads": 8},
    "nougat": {"encoder": {"model_type": "donut-swin"}, "decoder": {"model_type": "mbart"}},
    "qwen3_vl": {"text_config": {"rope_scaling": _MROPE}},
    "qwen3_vl_moe": {"text_config": {"rope_scaling": _MROPE}},
    "qwen3_vl_moe_text": {"rope_scaling": _MROPE},
    "qwen3_vl_text": {"rope_scaling": _MROPE},
    "rag": {"question_encoder": {"model_type": "dpr"}, "generator": {"model_type": "bart"}},
    "speech-encoder-decoder": {"encoder": {"model_type": "wav2vec2"}, "decoder": {"model_type": "bert"}},
    "table-transformer": _LAST_STAGE,
    "time_series_transformer": _FORECAST,
    "vision-encoder-decoder": {"encoder": {"model_type": "vit"}, "decoder": {"model_type": "bert"}},
    "vision-text-dual-encoder": {"vision_config": {"model_type": "vit"}, "text_config": {"model_type": "bert"}},
    "cohere_compass": {"text_config": {"rope_parameters": _BOTH_KINDS}},
    "cohere_compass_text": {"rope_parameters": _BOTH_KINDS},
    "dbrx": {"attn_config": {"rope_theta": 1e4}},
    "deepseek_ocr2": {"text_config": {"mlp_layer_types": ["dense"] * 2, "num_hidden_layers": 2}},
    "deepseek_ocr2_text": {"mlp_layer_types": ["dense"] * 2, "num_hidden_layers": 2},
    "diffusion_gemma": {"text_config": _EXPERTS},
    "diffusion_gemma_text": _EXPERTS,
    "gemma4_assistant": {
        "text_config": {"model_type": "gemma4_text", "hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0}
    },
    "granite4_vision": {"deepstack_layer_map": [[-1, 0]], "spatial_target_layers": [0], "downsample_rate": "1/2"},
    "idefics3": {"text_config": {"model_type": "llama", "pad_token_id": 0}, "pad_token_id": 0},
    "mllama": {
        "vision_config": {"intermediate_layers_indices": [0]},
        "text_config": {"rope_scaling": {"rope_type": "default"}},
    },
    "moonshine_streaming": {"num_key_value_heads": 8},
    "pp_ocrv5_server_det": _INTRACLASS,
    "pp_ocrv6_medium_det": _INTRACLASS,
    "qwen4_exp": {"text_config": _INDEXER},
    "qwen4_exp_text": _INDEXER,
    "smolvlm": {"text_config": {"model_type": "llama", "pad_token_id": 0}, "pad_token_id": 0},
    "tvp": {"type_vocab_size": 2},
    "retribert": {"position_embedding_type": "absolute"},
    "apertus": {"hidden_act": "silu"},
    "phi4_multimodal": {"vision_config": {}, "audio_config": {}},
    "qwen3_omni_moe": {
        "thinker_config": {"text_config": {"rope_scaling": _MROPE}},
        "talker_config": {
            "text_config": {"shared_expert_intermediate_size": 64, "rope_scaling": _MROPE},
            "spatial_merge_size": 2,
        },
    },
    "qwen3_omni_moe_talker_text": {"shared_expert_intermediate_size": 64},
    "t5gemma2_encoder": {"text_config": {"model_type": "t5gemma2_text", "dropout_rate": 0.1}},
    "vitmatte": {
        "backbone_config": {"model_type": "vitdet", "out_features": ["stage12"]},
        "convstream_hidden_sizes": [48, 96, 192],
        "fusion_hidden_sizes": [256, 128, 64, 32],
    },
    "superglue": {
        "keypoint_encoder_sizes": [32, 64],
        "keypoint_detector_config": {"model_type": "superpoint"},
        "gnn_layers_types": ["self", "cross"],
    },
}

# Those of which transformers' own class cannot be made without a network or by any arguments that are known here.
UNMAKEABLE = {
    "edgetam": "4.57: its default vision configuration is asked of the hub",
    "edgetam_vision_model": "4.57: the same",
    "gemma4_assistant": "5.23: its layers must share a cache, and none of its layers makes one",
    "gemma4_unified_assistant": "5.23: the same",
}
# Those whose models need packages that the tests do not install: timm, PIL, torchvision, torchaudio, natten ...
PACKAGES_LACKING = frozenset(
    (
        "deta",
        "dinat",
        "edgetam",
        "edgetam_vision_model",
        "fast_vlm",
        "gemma3n",
        "gemma3n_vision",
        "higgs_audio_v2_tokenizer",
        "layoutlmv2",
        "nat",
        "omdet-turbo",
        "pe_audio_video",
        "pe_audio_video_encoder",
        "pe_video",
        "pe_video_encoder",
        "perception_encoder",
        "perception_lm",
        "qdqbert",
        "timm_backbone",
        "timm_wrapper",
    )
)


def default_config(config_class: Any, model_type: str) -> Any:
    """The configuration of a model type, of its defaults where its model can be made of them."""
    arguments = copy.deepcopy(ARGUMENTS.get(model_type, {}))  # some constructors change what they are given
    if arguments.get("backbone_config", {}).get("model_type") == "resnet":
        arguments["backbone_config"] = transformers.ResNetConfig(**arguments["backbone_config"])
    return config_class(**arguments)
