"""What took the place of names that are gone from transformers, and why the others went; each row with its source.

The generator refuses a replacement that the newest release does not have. Classes of TensorFlow and Flax need no row:
their torch class has the same name without the prefix (names/history.py).
"""

from __future__ import annotations

# Pattern of a gone name: what the newest release calls it. Taken only where that release has the name.
RULES = {
    r"(\w+)FeatureExtractor": r"\1ImageProcessor",  # of images: deprecated in 4.57 (clip/feature_extraction_clip.py)
    r"(\w+)ImageProcessorFast": r"\1ImageProcessor",  # renamed in 5.x (__init__.py: _LegacyModuleAliasFinder)
    r"(\w+)TokenizerFast": r"\1Tokenizer",  # one class a model in 5.0 (utils/import_utils.py: _LazyModule)
    # One attention class a model since 4.48, which calls what attn_implementation= names (modeling_utils.py)
    r"(transformers\.models\..+)(FlashAttention2|SdpaAttention)": r"\1Attention",
    # One rotary embedding a model since 4.48, which reads config.rope_scaling (modeling_rope_utils.py)
    r"(transformers\.models\..+)(LinearScaling|DynamicNTKScaling|Yarn)RotaryEmbedding": r"\1RotaryEmbedding",
    # Other names of the same classes in 4.57 (generation/utils.py)
    r"(transformers\.generation\.utils\.)(GreedySearch|Sample|ContrastiveSearch)(DecoderOnly|EncoderDecoder)Output": (
        r"\1Generate\3Output"
    ),
    r"(transformers\.generation\.utils\.)(BeamSearch|BeamSample)(DecoderOnly|EncoderDecoder)Output": (
        r"\1GenerateBeam\3Output"
    ),
    r"(transformers\.generation\.utils\.)(GreedySearch|Sample|ContrastiveSearch)Output": r"\1GenerateNonBeamOutput",
    r"(transformers\.generation\.utils\.)(BeamSearch|BeamSample)Output": r"\1GenerateBeamOutput",
    r"(transformers\.utils(\.import_utils)?\.)is_flash_attn_available": r"\1is_flash_attn_2_available",  # 4.37
    r"(transformers\.utils(\.generic)?\.)LossKwargs": r"\1TransformersKwargs",  # utils/generic.py, 4.54
    r"BaseImageProcessorFast": "TorchvisionBackend",  # image_processing_backends.py, 5.x
}

# Names: what to use now. Sources are the warnings that the classes gave before they went, with the release.
ROWS = {
    "AdamW": "torch.optim.AdamW",  # optimization.py, 4.49
    "AutoModelForVision2Seq": "transformers.AutoModelForImageTextToText",  # models/auto/modeling_auto.py, 4.57
    "AutoModelWithLMHead": "transformers.AutoModelForCausalLM",  # the same; for BERT-like models AutoModelForMaskedLM
    "MODEL_FOR_VISION_2_SEQ_MAPPING": "transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING",
    "MODEL_WITH_LM_HEAD_MAPPING": "transformers.MODEL_FOR_CAUSAL_LM_MAPPING",
    "EvaluationStrategy": "transformers.trainer_utils.IntervalStrategy",  # trainer_utils.py, 4.45: the same members
    "is_torch_tpu_available": "transformers.is_torch_xla_available",  # utils/import_utils.py, 4.45
    "LogitsWarper": "transformers.LogitsProcessor",  # generation/logits_process.py, 4.41: one base class since
    "Conversation ConversationalPipeline": "transformers.TextGenerationPipeline",  # 4.42: chats are lists of messages
    "HybridChunkedCache HybridCache SlidingWindowCache OffloadedStaticCache": "transformers.StaticCache",  # the same
    "QuantoQuantizedCache HQQQuantizedCache": "transformers.QuantizedCache",  # cache_utils.py, 4.57
    "SlidingWindowLayer ChunkedSlidingLayer": "transformers.cache_utils.StaticSlidingWindowLayer",  # 4.57
    "SpecialTokensMixin": "transformers.PreTrainedTokenizerBase",  # tokenization_utils_base.py, 5.0
    "Wav2Vec2Tokenizer": "transformers.Wav2Vec2CTCTokenizer",  # tokenization_wav2vec2.py, 4.57
    "cached_path": "transformers.utils.cached_file",  # file_utils.py, 4.21; utils/hub.py, 4.22
    "MistralCommonTokenizer": "transformers.MistralCommonBackend",  # tokenization_mistral_common.py, 5.0
    "MT5Tokenizer MT5TokenizerFast": "transformers.T5Tokenizer",  # models/mt5/__init__.py, 4.57: another name of it
    "OffloadedCache": "transformers.DynamicCache",  # cache_utils.py, 4.57: DynamicCache(offloading=True)
}

# Pattern of a gone name without a replacement: why it went.
REASONS = {
    r"transformers\.utils(\.import_utils)?\.is_torch_fx\w*": "every supported torch has torch.fx: drop the check",
    r"\w+OnnxConfig|transformers\.onnx[.\w]*": "ONNX export has moved to the package optimum-onnx",  # onnx/__main__.py
    r"(\w+)?Agent|HfApiEngine|HfEngine|TransformersEngine|Tool(box|Collection)?|PipelineTool|RemoteTool|load_tool|tool"
    r"|launch_gradio_demo|stream_to_gradio": "agents and tools have moved to the package smolagents",  # agents.py, 4.50
    r"\w+_ARCHIVE_(LIST|MAP)|ALL_\w+|MODEL_NAMES_MAPPING": "lists of checkpoints were dropped: name one of the hub",
    r"(tf_|load_tf|load_pytorch|convert_tf|shape_list|is_tf_|is_keras_nlp|is_tensorflow)\w*|TF_\w+|TensorFlow\w+"
    r"|KerasMetricCallback|PushToHubCallback|AdamWeightDecay|GradientAccumulator|WarmUp|create_optimizer"
    r"|load_tf2?_\w+|TF\w+": "transformers 5.0 removed TensorFlow",
    r"FLAX_\w+|is_flax_available|Flax\w+": "transformers 5.0 removed Flax",
    r"(Glue|Squad|SingleSentence)\w+|(glue|xnli|squad)_\w+|\w*TextDataset\w*|LineByLine\w+|DataProcessor|InputExample"
    r"|InputFeatures|DataCollatorForSOP": "data sets are made with the package datasets",
    r"(Beam|Constrain|ConstraintList|Disjunctive|Phrasal|ForceTokens|HammingDiversity)\w*": "generate() has lost it: "
    "custom_generate= loads it from a repository",
    r"PyTorchBenchmark\w*": "benchmarks were removed",
    r"\w+(Pipeline)": "the task was removed: a chat model does it with text-generation or image-text-to-text",
    r"\w*Cache(Config|Processor)?": "caches were rewritten: see transformers.Cache",
}
MODEL_REASON = "the whole model is gone"
