"""Shrink the default configuration of any transformers model type to one that builds in milliseconds.

The library's default configurations describe models of up to 10^11 parameters. One table of rules by attribute name
turns them into a few thousand, without a list of model types; what the rules cannot know stands in `OVERRIDES`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any

from transformers import CONFIG_MAPPING, PretrainedConfig

VOCAB_SIZE = 128
HIDDEN_SIZE = 64
NUM_HEADS = 4
HEAD_DIM = 16
NUM_LAYERS = 2
NUM_POSITIONS = 64
WINDOW = 8
PAD_TOKEN_ID, BOS_TOKEN_ID, EOS_TOKEN_ID = 0, 1, 2
"""Ids of the tokens that a tiny tokenizer would reserve; ordinary tokens start at `FIRST_TOKEN_ID`."""
FIRST_TOKEN_ID, LAST_TOKEN_ID = 10, 90
_FIRST_PLACEHOLDER_ID = 95

_Rule = int | float | Callable[[Any], Any]


def _at_most(limit: int) -> Callable[[Any], Any]:
    return lambda value: min(value, limit)


def _capped(value: Any) -> Any:
    """Bound a number that no rule knows; other values stay as they are."""
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    return min(value, HIDDEN_SIZE)


_RULES: tuple[tuple[str, _Rule], ...] = (
    (r".*dropout.*|.*_pdrop|.*layer_?drop|drop_path_rate|dropout_p|.*drop.*_rate|moe_token_dropout", 0.0),
    (r"initializer_range|init_std|initializer_factor|.*_std|.*_eps|.*epsilon|rope_theta|seed", lambda value: value),
    (r"chunk_size_feed_forward|decoder_layer_offset", lambda value: value),
    (r"type_vocab_size|.*additional_vocab_size|task_type_vocab_size", lambda value: value),
    (r".*vocab_size.*|hash_group_vocab|.*group_vocab|n_vocab|vocab_offset|ngram_vocab_size_base", VOCAB_SIZE),
    (r".*(num|n)_(kv|key_value)_heads|kv_n_heads", lambda value: NUM_HEADS if value > 1 else 1),
    (r".*(attention_heads|num_heads|n_heads?|attn_heads|mamba_heads)|linear_num_\w+_heads", _at_most(NUM_HEADS)),
    (r"(.*_)?(head_dim|dim_head|d_head|d_kv|head_size|kv_channels)|qk_nope_head_dim|v_head_dim", _at_most(HEAD_DIM)),
    (r"qk_rope_head_dim|rotary_dim", 8),
    (r"qk_head_dim", 24),
    (r".*(q|kv|o)_lora_rank", 16),
    (r"num_(hidden_)?layers|n_layers?|.*(encoder|decoder|_hidden)_layers|([lxr]_)?layers|depth|num_blocks", NUM_LAYERS),
    (r"(num_|n_)?(routed_)?(local_)?experts|moe_num_experts|n_routed_experts|num_local_experts", _at_most(4)),
    (r".*experts_per_tok(en)?|moe_topk|moe_top_?k|moe_k|num_selected_experts", _at_most(2)),
    (r"n_group|num_expert_group|topk_group", 1),
    (r"zero_expert_num", 2),
    (r".*(sliding_window|window_size|window_len|attention_window|local_attention|attention_chunk_size)", WINDOW),
    (r".*(max|num|n)_.*positions?(_embeddings)?|n_(positions|ctx)|max_seq_len", _at_most(NUM_POSITIONS)),
    (r"model_max_length|max_pos_emb", _at_most(NUM_POSITIONS)),
    (r"time_step_rank", 8),
    (r"(ssm_)?state_size|mamba_d_state", _at_most(HEAD_DIM)),
    (r"n_groups|mamba_n_groups", _at_most(2)),
    (r"num_filters", _at_most(4)),
    (r"patch_size|image_patch_size", 4),
    (r"image_size|pretrain_image_size|resolution", 16),
    (r"num_query_tokens|num_queries|num_image_tokens", 4),
)
_COMPILED = tuple((re.compile(pattern), rule) for pattern, rule in _RULES)


def _rope(section: list[int]) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": section}


_XPATH_SIZES = {
    "max_xpath_tag_unit_embeddings": 256,
    "max_xpath_subs_unit_embeddings": 1024,
    "tag_pad_id": 216,
    "subs_pad_id": 1001,
}
_SEAMLESS_UNITS = {"t2u_bos_token_id": 0, "t2u_pad_token_id": 1, "t2u_eos_token_id": 2}
_MAMBA_2_HEADS = {"mamba_n_heads": NUM_HEADS, "mamba_d_head": 2 * HIDDEN_SIZE // NUM_HEADS}

_FACEBOOK_INDICES = {"pad_index": PAD_TOKEN_ID, "bos_index": BOS_TOKEN_ID, "eos_index": EOS_TOKEN_ID}

OVERRIDES: dict[str, dict[str, Any]] = {
    "bamba": _MAMBA_2_HEADS | {"attn_layer_indices": [1]},
    "chameleon": {"vocabulary_map": {"<image>": 95}},
    "cohere_compass_text": {"rope_parameters": {"full_attention": _rope([2, 3, 3])}},
    "dbrx": {"attn_config.rope_theta": 10000.0, "attn_config.clip_qkv": 8.0},
    "deepseek_ocr2_text": {"mlp_layer_types": ["dense", "sparse"], "num_experts_per_tok": 2, "n_routed_experts": 4},
    "deepseek_v2": {"num_experts_per_tok": 2, "n_routed_experts": 4},
    "diffusion_gemma": {
        "text_config.num_experts": 4,
        "text_config.top_k_experts": 2,
        "text_config.moe_intermediate_size": 32,
    },
    "dots1": {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "first_k_dense_replace": 1},
    "emu3": {"vocabulary_map": {"<image>": 95}},
    "esm": {"vocab_size": VOCAB_SIZE, "mask_token_id": 95},
    "falcon_h1": _MAMBA_2_HEADS | {"mamba_d_ssm": 2 * HIDDEN_SIZE},
    "fun_asr_nano": {"adaptor_config.intermediate_size": HIDDEN_SIZE // 4},
    "gemma3n_text": {"num_kv_shared_layers": 0},
    "gemma4_text": {"num_kv_shared_layers": 0},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2},
    "granite4_vision": {"deepstack_layer_map": [[0, 0]], "downsample_rate": "1/2"},
    "granitemoehybrid": _MAMBA_2_HEADS | {"layer_types": ["mamba", "attention"]},
    "hunyuan_v1_dense": {"head_dim": HEAD_DIM},
    "hunyuan_v1_moe": {"head_dim": HEAD_DIM},
    "hunyuan_vl_text": {"head_dim": HEAD_DIM},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
    "layoutlmv3": {"coordinate_size": 12, "shape_size": 8},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "lilt": {"hidden_size": 96},
    "mamba2": {"num_heads": NUM_HEADS, "head_dim": 2 * HIDDEN_SIZE // NUM_HEADS},
    "markuplm": _XPATH_SIZES,
    "mllama_text_model": {"rope_scaling": {"rope_type": "default"}},
    "mimo_v2_flash": {"num_key_value_heads": 2},
    "ministral": {"head_dim": HEAD_DIM},
    "molmo2": {"adapter_config.vision_feature_layer": [0, 1]},
    "nemotron": {"head_dim": HEAD_DIM, "num_key_value_heads": NUM_HEADS},
    "nemotron_h": {"n_groups": 2},
    "nystromformer": {"conv_kernel_size": 5},
    "qwen4_exp_text": {
        "indexer_n_heads": NUM_HEADS,
        "indexer_kv_heads": 1,
        "indexer_head_dim": HEAD_DIM,
        "indexer_budget": 64,
        "indexer_compress_ratio": 4,
    },
    "qwen2_5_omni_thinker": {"vision_start_token_id": 110},
    "qwen3_omni_moe_thinker": {"vision_start_token_id": 110},
    "recurrent_gemma": {"num_hidden_layers": 3},
    "reformer": {
        "attn_layers": ["local", "lsh"],
        "axial_pos_shape": [8, 8],
        "axial_pos_embds_dim": [32, 32],
        "hash_seed": 0,
    },
    "seamless_m4t": _SEAMLESS_UNITS,
    "seamless_m4t_v2": _SEAMLESS_UNITS,
    "step3p5": {"sliding_window": WINDOW},
    "t5gemma2_encoder": {"text_config.dropout_rate": 0.0},
    "transfo-xl": {"cutoffs": [32, 64, 96], "div_val": 1},
    "tvp": {"max_img_size": 16, "visual_prompt_size": 4},
    "vibevoice_asr": {"acoustic_tokenizer_chunk_size": 3200},
    "videoprism": {"text_config.hidden_size": HIDDEN_SIZE, "vision_config.hidden_size": HIDDEN_SIZE},
    "vits": {"noise_scale": 0.0, "noise_scale_duration": 0.0, "use_stochastic_duration_prediction": False},
    "voxtral": {"text_config.num_key_value_heads": NUM_HEADS},
    "flaubert": _FACEBOOK_INDICES,
    "xlm": _FACEBOOK_INDICES,
    "xlstm": {"qk_dim_factor": 1.0},
    "xmod": {"default_language": "en_XX"},
    "zamba": {
        "use_mamba_kernels": False,
        "num_hidden_layers": 4,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "layers_block_type": ["mamba", "hybrid"] * 2,
    },
}
"""Per model type: attribute values that replace what the rules give. A dotted name reaches into a sub-configuration."""

_MROPE_SECTIONS: dict[str, list[int]] = {
    "Glm4vMoe_text": [1, 1, 2],
    "ernie4_5_vl_moe_text": [3, 3, 2],
    "glm4v_moe_text": [1, 1, 2],
    "glm4v_text": [2, 3, 3],
    "glm_image_text": [2, 3, 3],
    "glm_ocr_text": [2, 3, 3],
    "hunyuan_vl_text": [2, 3, 3],
    "paddleocr_vl_text": [2, 3, 3],
    "qwen2_5_omni_text": [2, 3, 3],
    "qwen2_5_vl_text": [2, 3, 3],
    "qwen2_vl_text": [2, 3, 3],
    "qwen3_vl_moe_text": [2, 3, 3],
    "qwen3_vl_text": [2, 3, 3],
}
"""Sections of multimodal rotary embeddings, which the code takes as given; their sum is half the rotated size."""

_PARTS: dict[str, dict[str, str]] = {
    "encoder-decoder": {"encoder": "bert", "decoder": "bert"},
    "musicgen": {"text_encoder": "t5", "audio_encoder": "encodec", "decoder": "musicgen_decoder"},
    "musicgen_melody": {"text_encoder": "t5", "audio_encoder": "encodec", "decoder": "musicgen_melody_decoder"},
    "vision-text-dual-encoder": {"vision_config": "clip_vision_model", "text_config": "bert"},
}
"""Composite types that have no default configuration: which type each part gets."""


def shrunk(name: str, value: Any) -> Any:
    """Give the tiny value of one scalar attribute."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if not isinstance(value, (int, float)):
        return value
    for pattern, rule in _COMPILED:
        if pattern.fullmatch(name):
            return rule(value) if callable(rule) else type(value)(rule)
    return _capped(value)


def _token_id(name: str, value: Any, used: list[int]) -> Any:
    reserved = {"pad_token_id": PAD_TOKEN_ID, "bos_token_id": BOS_TOKEN_ID, "eos_token_id": EOS_TOKEN_ID}
    if name in reserved:
        return reserved[name]
    if isinstance(value, (list, tuple)):
        return [_token_id("", item, used) for item in value]
    if value is None or value < 0:
        return value
    used.append(_FIRST_PLACEHOLDER_ID + len(used))
    return used[-1]


_TOKEN_ID = re.compile(r".*(_token_id|_token_index|_token_ids|_pad_id|_patch_id|^im_\w+_id|_(bos|eos|start|end)_id)")


def _declared_defaults(config_class: type[PretrainedConfig]) -> dict[str, Any]:
    parameters = inspect.signature(config_class.__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _num_layers(values: dict[str, Any]) -> tuple[str, int] | None:
    for name in ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers"):
        if isinstance(values.get(name), int):
            return name, values[name]
    return None


def _per_layer_lists(values: dict[str, Any], num_layers: int) -> dict[str, list[Any]]:
    return {
        name: list(value)
        for name, value in values.items()
        if isinstance(value, (list, tuple)) and len(value) == num_layers and num_layers > 3
    }


def _kept_layers(lists: dict[str, list[Any]], num_layers: int) -> list[int]:
    """Pick the first layer of every kind, so that a hybrid model keeps one of each, and at least two."""
    kinds = {name: items for name, items in lists.items() if name.endswith(("types", "type", "layers"))}
    seen: dict[str, int] = {}
    for index in range(num_layers):
        seen.setdefault(repr([items[index] for items in kinds.values()]), index)
    kept = list(seen.values())[:4]
    spare = [index for index in range(num_layers) if index not in kept]
    return sorted(kept + spare[: max(0, NUM_LAYERS - len(kept))])


def _shrunk_values(values: dict[str, Any], declared: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    used: list[int] = []
    layers = _num_layers(values)
    lists = _per_layer_lists(values, layers[1]) if layers else {}
    kept = _kept_layers(lists, layers[1]) if layers else []
    for name, value in values.items():
        if name in lists:
            result[name] = [lists[name][index] for index in kept]
        elif _TOKEN_ID.fullmatch(name):
            result[name] = _token_id(name, value, used)
        elif declared[name] is not None:
            result[name] = shrunk(name, value)
    if layers and lists:
        result[layers[0]] = len(kept)
    if "decoder_start_token_id" in result:
        starts_with_pad = values["decoder_start_token_id"] == values.get("pad_token_id")
        result["decoder_start_token_id"] = PAD_TOKEN_ID if starts_with_pad else EOS_TOKEN_ID
    return result


def _rope_parameters(value: Any) -> Any:
    """Shrink the section list of multimodal rotary embeddings: its sum is half of the head dimension."""
    if not isinstance(value, dict):
        return value
    small = {name: _rope_parameters(item) for name, item in value.items()}
    if "mrope_section" in small:
        small["mrope_section"] = [2, 3, 3] if len(small["mrope_section"]) == 3 else [2, 2, 2, 2]
    return small


def _with_overrides(values: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    for dotted, value in overrides.items():
        *path, name = dotted.split(".")
        target = values
        for part in path:
            target = target.setdefault(part, {})
        target[name] = value
    return values


def _values(config: PretrainedConfig, names: Iterable[str]) -> dict[str, Any]:
    """Read from `vars`: reading an attribute that varies by layer raises on a configuration with per-layer values."""
    stored = vars(config)
    mapped = {name: config.attribute_map.get(name, name) for name in names}
    return {name: stored[key] for name, key in mapped.items() if key in stored and name != "per_layer_config"}


def _mrope(config: PretrainedConfig) -> dict[str, Any]:
    section = _MROPE_SECTIONS.get(config.model_type)
    if section is None:
        return {}
    name = "rope_parameters" if hasattr(config, "rope_parameters") else "rope_scaling"
    return {name: _rope(section)}


def _tiny_values(config: PretrainedConfig) -> dict[str, Any]:
    declared = _declared_defaults(type(config))
    values = _values(config, declared)
    nested = {name: value for name, value in vars(config).items() if isinstance(value, PretrainedConfig)}
    result = _shrunk_values({name: value for name, value in values.items() if name not in nested}, declared)
    for name in ("rope_parameters", "rope_scaling"):
        if isinstance(values.get(name), dict):
            result[name] = _rope_parameters(values[name])
    result |= _mrope(config)
    for name, sub_config in nested.items():
        result[name] = _tiny_values(sub_config) | {"model_type": sub_config.model_type}
    return _with_overrides(result, OVERRIDES.get(config.model_type, {}))


def _tiny_parts(model_type: str) -> dict[str, Any]:
    return {name: tiny_config(part).to_dict() for name, part in _PARTS[model_type].items()}


def tiny_config(model_type: str) -> PretrainedConfig:
    """Build a configuration of `model_type` with a few thousand parameters, distinct special ids and no dropout.

    Args:
        model_type: A key of transformers' `CONFIG_MAPPING`.

    Returns:
        A configuration with `pad_token_id=0`, `bos_token_id=1` and `eos_token_id=2`.
    """
    config_class = CONFIG_MAPPING[model_type]
    values = _tiny_parts(model_type) if model_type in _PARTS else _tiny_values(config_class())
    reserved = {"pad_token_id": PAD_TOKEN_ID, "bos_token_id": BOS_TOKEN_ID, "eos_token_id": EOS_TOKEN_ID}
    config = config_class(**(reserved | values))
    if config.is_encoder_decoder and getattr(config, "decoder_start_token_id", None) is None:
        config.decoder_start_token_id = PAD_TOKEN_ID
    for part in (config, *vars(config).values()):
        if isinstance(part, PretrainedConfig) and getattr(part, "pad_token_id", None) is None:
            part.pad_token_id = PAD_TOKEN_ID
    return config
