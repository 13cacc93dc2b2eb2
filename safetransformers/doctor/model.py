"""What a checkpoint is: which Auto classes load it, in which format its weights are, and how its padding stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .. import compat
from ..errors import SafeTransformersError
from ..hub.completeness import Need
from ..hub.integrity import Damage
from ..hub.snapshots import Snapshot, lacks
from ..hub.weights import pick_weights
from ..names.suggestions import Suggestions
from ..padding.audit import PaddingAudit
from ..padding.known import Known, measured
from .finding import Finding

TOPIC: Final = "model"
_SHOWN: Final = 3
# The end of a file's name: the format, as a user calls it.
_FORMATS: Final = (
    (".safetensors", "safetensors"),
    (".bin", "pickle"),
    (".h5", "TensorFlow"),
    (".msgpack", "Flax"),
    (".gguf", "GGUF"),
)


@dataclass(frozen=True)
class Tokens:
    """Special tokens' ids: what the configuration says, and what the tokenizer does.

    Attributes:
        of_config: the pad token's in the configuration; ``None`` where it has none.
        of_tokenizer: the same of the tokenizer.
        eos: the end of text's, in the configuration or else the tokenizer.
        vocabulary: how many tokens the model has; 0 where it does not say.
        has_tokenizer: whether there is one that loads without code of the checkpoint's own.
        failure: why the tokenizer does not load; empty where it does, or there is none.
        mend: what helps against that, where it is known.
    """

    of_config: int | None = None
    of_tokenizer: int | None = None
    eos: tuple[int, ...] = ()
    vocabulary: int = 0
    has_tokenizer: bool = False
    failure: str = ""
    mend: str = ""


@dataclass(frozen=True)
class Facts:
    """What is known of a checkpoint without running it.

    Attributes:
        argument: how it was called, for commands to paste.
        suggestions: the classes that load it.
        format: of the weights that transformers takes: ``"safetensors"``, ``"pickle"``, ``"TensorFlow"``, ``"Flax"``,
            ``"GGUF"``, or empty where there are none.
        damages: what a load of it would miss or find broken.
        code: the Auto classes that it brings code of its own for.
        tokens: its special tokens; ``None`` for a model that reads no text.
        known: how padding was measured on its class; ``None`` where it was not.
        audit: what a run of it showed; ``None`` where it was not run.
        failure: why it could not be run, where that was asked for.
    """

    argument: str
    suggestions: Suggestions
    format: str = "safetensors"
    damages: tuple[Damage, ...] = ()
    code: tuple[str, ...] = ()
    tokens: Tokens | None = None
    known: Known | None = None
    audit: PaddingAudit | None = None
    failure: str = ""


def look(source: str, *, revision: str | None = None, cache_dir: Any = None, run: bool = False) -> Facts:
    """Read a folder or a cached repository; no request. With ``run`` it is loaded, and its padding measured.

    Raises:
        CheckpointError: where there is no such folder or cached repository.
        UnknownArchitectureError: for a ``model_type`` that the installed transformers does not know.
    """
    from ..names.checkpoint import read
    from ..names.suggest import suggest

    checkpoint = read(source, revision=revision, cache_dir=cache_dir, is_type_meant=False)
    suggestions = suggest(checkpoint)
    folder = checkpoint.folder
    assert folder is not None  # a checkpoint that is no model_type and no configuration has one
    cls = compat.model_class(suggestions.ranked[0].model_class) if suggestions.ranked else None
    snapshot = Snapshot(folder.name, folder)
    weights, _ = pick_weights(snapshot.files(), "", variant=None, safetensors_only=False, adapter=False)
    need = Need(config=True, weights=bool(weights), tokenizer=False)
    reads_text = cls is not None and getattr(cls, "main_input_name", "") == "input_ids"
    tokens = _tokens(checkpoint.config, folder) if reads_text else None
    audit, failure = _run(source, revision, cache_dir, tokens) if run and tokens is not None else (None, "")
    return Facts(
        source,
        suggestions,
        _format(weights),
        lacks(snapshot, need, [snapshot], verify="size"),
        tuple(checkpoint.auto_map),
        tokens,
        measured(cls) if cls is not None and reads_text else None,
        audit,
        failure,
    )


def findings(facts: Facts) -> Iterator[Finding]:
    """What there is to say about it."""
    yield from _of_classes(facts)
    yield from _of_weights(facts)
    if facts.tokens is not None:
        if facts.tokens.failure:
            shown = f"safetransformers.AutoTokenizer.from_pretrained({facts.argument!r}) shows it whole"
            do = facts.tokens.mend or shown
            yield Finding(TOPIC, "problem", "the tokenizer does not load", facts.tokens.failure, do)
        yield of_pad_token(facts.tokens)
        yield _of_padding(facts)


def _of_classes(facts: Facts) -> Iterator[Finding]:
    found = facts.suggestions
    if not found.ranked:
        why = "no class of the installed transformers takes its configuration"
        yield Finding(TOPIC, "problem", found.describe(), why, f"safetransformers suggest {facts.argument}")
        return
    yield Finding(TOPIC, "ok", found.describe())
    whole = [one for one in found.ranked if one.fit != "incomplete"] or found.ranked[:1]
    for one in whole[:_SHOWN]:
        yield Finding(TOPIC, "ok", f"{one.line}  # {one.why}")
    if (best := found.ranked[0]).fit == "incomplete" or "random" in best.why:
        do = f"safetransformers suggest {facts.argument}"
        yield Finding(TOPIC, "problem", f"{best.model_class} has weights that are not there", best.why, do)
    if facts.code:
        why = "a load with trust_remote_code=True runs it on your machine"
        do = f"read it; then name a commit: {found.ranked[0].line.removesuffix(')')}, revision=COMMIT)"
        yield Finding(TOPIC, "note", f"it brings code of its own for {', '.join(facts.code)}", why, do)


def _of_weights(facts: Facts) -> Iterator[Finding]:
    best = facts.suggestions.ranked[0].auto_class if facts.suggestions.ranked else "AutoModel"
    if facts.damages:
        listed = "; ".join(map(str, facts.damages[:_SHOWN]))
        do = f"safetransformers prefetch {facts.argument}, or copy the folder again"
        yield Finding(TOPIC, "problem", f"not whole: {listed}", "a load fails, or loads what is wrong", do)
    if facts.format == "safetensors":
        yield Finding(TOPIC, "ok", "weights: safetensors")
    elif facts.format == "pickle":
        why = "a pickle can run code when it is loaded, and loads slowly; strict mode refuses it"
        do = f"{best}.from_pretrained({facts.argument!r}).save_pretrained(FOLDER), where you trust it"
        yield Finding(TOPIC, "note", "weights: PyTorch's pickle only", why, do)
    elif facts.format in ("TensorFlow", "Flax"):
        why = "transformers 5 does not read it"
        yield Finding(
            TOPIC, "problem", f"weights: {facts.format} only", why, f"safetransformers convert {facts.argument} FOLDER"
        )
    elif facts.format == "GGUF":
        why = "transformers unpacks it into full size, and only where its file is named"
        yield Finding(
            TOPIC, "note", "weights: GGUF", why, f"{best}.from_pretrained({facts.argument!r}, gguf_file=FILE)"
        )
    else:
        why = "there is a configuration and nothing to load with it"
        yield Finding(TOPIC, "problem", "weights: none", why, f"safetransformers prefetch {facts.argument}")


def of_pad_token(tokens: Tokens) -> Finding:
    """How the pad token stands: it must be one, the same for the tokenizer and the model, and of the vocabulary."""
    config, tokenizer = tokens.of_config, tokens.of_tokenizer
    same = "model.config.pad_token_id = tokenizer.pad_token_id"
    if config is not None and not 0 <= config < (tokens.vocabulary or config + 1):
        why = f"the model has {tokens.vocabulary} tokens: an embedding of it fails, on a GPU with a device-side assert"
        return Finding(TOPIC, "problem", f"pad token {config} of the configuration is beyond the vocabulary", why, same)
    if tokens.has_tokenizer and config is None and tokenizer is None:
        why = "several texts cannot be one batch: the tokenizer has nothing to pad with"
        do = f"tokenizer.pad_token = tokenizer.eos_token; {same}"
        return Finding(TOPIC, "note", "there is no pad token", why, do)
    if config is None:
        pads = f"the tokenizer pads with {tokenizer}, and " if tokenizer is not None else ""
        why = "padding without a mask cannot be told from text, and classifiers of GPT's kind read the wrong token"
        return Finding(TOPIC, "problem" if pads else "note", f"{pads}the configuration has no pad token", why, same)
    if tokens.has_tokenizer and tokenizer is None:
        why = "several texts cannot be one batch: the tokenizer has nothing to pad with"
        do = f"tokenizer.pad_token_id = {config}"
        return Finding(TOPIC, "note", f"pad token {config} in the configuration, none in the tokenizer", why, do)
    if tokens.has_tokenizer and tokenizer != config:
        why = "what the tokenizer pads with is text for the model, wherever no mask is passed"
        return Finding(
            TOPIC, "problem", f"pad token {config} in the configuration, {tokenizer} in the tokenizer", why, same
        )
    what = f"pad token {config}" + (", in the configuration and the tokenizer" if tokens.has_tokenizer else "")
    if config in tokens.eos:
        why = (
            "it is the eos token too: without a mask the genuine one is told from padding by rule, strict mode refuses"
        )
        do = "pass attention_mask, and mask labels by it, not by the id"
        return Finding(TOPIC, "note", what, why, do)
    return Finding(TOPIC, "ok", what)


def _of_padding(facts: Facts) -> Finding:
    cls = facts.suggestions.ranked[0].model_class
    exact = 'safetransformers.configure(padding="exact")'
    audit = f"safetransformers audit {facts.argument}"
    if facts.failure:
        why = facts.failure
        return Finding(TOPIC, "note", f"padding of {cls} was not measured", why, audit)
    if facts.audit is not None:
        if facts.audit.is_invariant:
            return Finding(TOPIC, "ok", f"padding does not change the numbers of a guarded {cls} (measured now)")
        why = "measured now: padded rows differ from the same rows alone, mask or not"
        do = exact if facts.audit.mended_by == "exact" else "run rows of one length together, without padding"
        return Finding(TOPIC, "problem", f"padding changes the numbers of {cls}", why, do)
    if facts.known is None:
        why = "no measurement covers its class"
        return Finding(TOPIC, "note", f"padding of {cls} is not known", why, audit)
    if "exact" in facts.known:
        why = "its class was measured: no mask makes padded rows right"
        return Finding(TOPIC, "note", f"padding changes the numbers of {cls}", why, exact)
    need = {"mask": "a mask", "positions": "a mask and position ids", "roll": "a mask, and rows moved to the left"}
    how = f"right-padded rows need {need[facts.known.right]}, left-padded ones {need[facts.known.left]}"
    return Finding(
        TOPIC, "ok", f"padding does not change the numbers of a guarded {cls} (its class was measured: {how})"
    )


def _format(weights: list[str]) -> str:
    for name in weights:
        for end, called in _FORMATS:
            if name.endswith((end, f"{end}.index.json")):
                return called
        if ".ckpt" in name:
            return "TensorFlow"
    return ""


def _tokens(config: Any, folder: Path) -> Tokens:
    text = config.get_text_config() if config is not None else None
    tokenizer, failure, mend = _tokenizer(folder)
    named = getattr(text, "eos_token_id", None)
    eos = tuple(named) if isinstance(named, (list, tuple)) else () if named is None else (named,)
    if not eos and tokenizer is not None and tokenizer.eos_token_id is not None:
        eos = (tokenizer.eos_token_id,)
    return Tokens(
        getattr(text, "pad_token_id", None),
        getattr(tokenizer, "pad_token_id", None),
        eos,
        int(getattr(text, "vocab_size", 0) or 0),
        tokenizer is not None,
        failure,
        mend,
    )


def _tokenizer(folder: Path) -> tuple[Any, str, str]:
    """The tokenizer, where there is one that loads from its files alone; why it does not, and what helps."""
    import safetransformers

    if not _has_vocabulary(Snapshot(folder.name, folder).files()):
        return None, "", ""
    load: Any = safetransformers.AutoTokenizer.from_pretrained
    try:
        return load(folder, local_files_only=True, trust_remote_code=False), "", ""
    except SafeTransformersError as error:
        return None, error.what, error.do
    except Exception as error:  # noqa: BLE001 - each class fails as it likes, and that is the finding
        return None, f"{type(error).__name__}: {error}".splitlines()[0], ""


def _has_vocabulary(files: Mapping[str, Path]) -> bool:
    from ..hub.completeness import VOCABULARIES

    return any(name in files for name in (*VOCABULARIES, "tokenizer_config.json"))


def _run(source: str, revision: str | None, cache_dir: Any, tokens: Tokens) -> tuple[PaddingAudit | None, str]:
    from ..padding.audit import audit_padding
    from .load import load

    try:
        model = load(source, revision=revision, cache_dir=cache_dir)
        if tokens.of_config is None:
            model.config.get_text_config().pad_token_id = tokens.of_tokenizer
        return audit_padding(model), ""
    except Exception as error:  # noqa: BLE001 - a load or a run raises what it likes, and that is the finding
        return None, f"{type(error).__name__}: {error}".splitlines()[0]
