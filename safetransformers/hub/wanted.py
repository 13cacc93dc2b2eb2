"""Which files of a commit an offline start reads, and which other repositories it names: rules only, no request."""

from __future__ import annotations

import fnmatch
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..errors import HubError
from .completeness import VOCABULARIES
from .integrity import inside
from .texts import listed
from .weights import file_with_shards, pick_weights, variants, with_variant

OF_ARGUMENTS: Final = ("ST-HUB-102", "ST-HUB-103")  # codes of errors that another command line helps against
ASKED: Final = "asked for"
CODE_OF: Final = "remote code of"
_BASE_OF: Final = "base model of"
_SETTINGS: Final = re.compile(
    r".+\.(json|txt|jinja|py|model|spm|tiktoken|codes|bpe|vocab|tokenizer)(\.v\d+\w*)?"  # .v3: mistral-common
    r"|(README|LICENSE|NOTICE)(\..+)?",
    re.IGNORECASE,
)
_INDEX: Final = re.compile(r".+\.index(\.[\w-]+)?\.json")
# The same weights in formats of others, and the steps of a training run.
_COPIES: Final = re.compile(
    r"(onnx|openvino|original|coreml|flax|tflite|tensorflow|checkpoint-\d+|global_step\d+|runs|logs|\..+)",
    re.IGNORECASE,
)
_REPO_PART: Final = re.compile(r"\w[\w.-]{0,95}", re.ASCII)
_WEIGHTS: Final = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".nemo", ".onnx")
_OF_TRAINING: Final = ("training_args", "optimizer", "scheduler", "rng_state", "scaler", "random_states")
_PROCESSORS: Final = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")
# Settings that name classes in Python files, of this repository or another.
_NAMING_CODE: Final = ("config.json", "tokenizer_config.json", *_PROCESSORS)
_MAX_SETTINGS_BYTES: Final = 16 * 2**20
# What transformers and sentence-transformers ask for in the root, whether a repository has it or not.
_ASKED_FOR: Final = frozenset(
    {
        *("config.json", "adapter_config.json", "generation_config.json", "chat_template.jinja", "chat_template.json"),
        *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "normalizer.json"),
        *("audio_tokenizer_config.json", "custom_generate/generate.py", "modules.json", "sentence_bert_config.json"),
        *("config_sentence_transformers.json", "adapter_model.safetensors", "adapter_model.bin", "tf_model.h5"),
        *("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"),
        *("flax_model.msgpack", "README.md"),
        *_PROCESSORS,
        *VOCABULARIES,
    }
)


@dataclass(frozen=True)
class Wish:
    """What the user wants of a repository, beside what an offline start needs.

    Attributes:
        variant: such as ``"fp16"`` in ``model.fp16.safetensors``.
        files: names or shell patterns; where one of them is a weights file, no other weights are chosen.
        everything: the whole commit.
        safetensors_only: no other format counts as weights.
    """

    variant: str | None = None
    files: tuple[str, ...] = ()
    everything: bool = False
    safetensors_only: bool = False


@dataclass(frozen=True)
class Wanted:
    """A repository to make ready.

    Attributes:
        repo_id: such as ``"org/name"``.
        revision: a branch, tag or commit hash.
        why: who needs it.
        code_only: only its Python files are needed.
    """

    repo_id: str
    revision: str
    why: str = ASKED
    code_only: bool = False


def walk(
    repo_ids: Sequence[str], revision: str | None, wish: Wish, found: Mapping[Wanted, Mapping[str, Path]]
) -> Iterator[tuple[Wanted, Wish]]:
    """The repositories to see to, each once: those asked for, then those that they name, whole before code alone.

    ``found`` is read when the walk goes on: the files of a repository that was seen to.
    """
    revision = revision or "main"
    for repo_id in repo_ids:
        if not is_repo_id(repo_id):
            raise unusable(
                f"{repo_id!r} is not a repository's name", "such as org/name; a local folder needs no prefetch"
            )
    if not inside(revision):
        raise unusable(f"{revision!r} cannot be a revision", "a branch, a tag, refs/pr/NUMBER or a commit hash")
    if not repo_ids:
        raise unusable("no repository is named", "safetransformers prefetch org/name")
    waiting = [Wanted(repo_id, revision) for repo_id in repo_ids]
    seen: set[tuple[str, str]] = set()
    while waiting:
        whole = (index for index, what in enumerate(waiting) if not what.code_only)
        what = waiting.pop(next(whole, 0))
        if (what.repo_id, what.revision) in seen or not inside(what.revision):
            continue
        seen.add((what.repo_id, what.revision))
        yield what, wish if what.why == ASKED else Wish(safetensors_only=wish.safetensors_only)
        if not what.code_only and what in found:
            waiting += others(found[what], what)


def settings(names: Iterable[str]) -> list[str]:
    """The small files of a commit: configs, tokenizers, templates, code and licences, not weights or their indexes.

    Example:
        >>> settings(["config.json", "onnx/config.json", "1_Pooling/config.json", "model.safetensors", "dog.png"])
        ['config.json', '1_Pooling/config.json']
    """
    return [name for name in names if _is_setting(name)]


def code(names: Iterable[str]) -> list[str]:
    """The Python files of a commit."""
    return [name for name in names if name.endswith(".py")]


def matching(names: Iterable[str], patterns: Iterable[str], repo_id: str) -> list[str]:
    """The files that the user named; a shard stands for all its shards.

    Raises:
        HubError: a name or pattern that no file has (ST-HUB-102).
    """
    every = list(names)
    here = dict.fromkeys(every, Path())
    found: dict[str, None] = {}
    for pattern in patterns:
        hits = [pattern] if pattern in here else [name for name in every if fnmatch.fnmatchcase(name, pattern)]
        if not hits:
            like = [name for name in every if os.path.splitext(name)[1] == os.path.splitext(pattern)[1]] or every
            raise _choose(repo_id, f"no file is named {pattern!r}", f"it has {listed(sorted(like))}", "--file NAME")
        for name in hits:
            found |= dict.fromkeys(shard for shard in file_with_shards(here, name)[0] if shard in here)
    return list(found)


def indexes(files: Mapping[str, Path], wish: Wish, repo_id: str) -> list[str]:
    """The index files of the weights that :func:`weights` chooses; it reads which shards there are in them."""
    if _names_weights(files, wish, repo_id):
        return []
    return [name for names, _, _ in _picked(files, wish) for name in names if name.endswith(".json")]


def weights(files: Mapping[str, Path], wish: Wish, repo_id: str) -> list[str]:
    """The weights that an offline start reads: one format, the one that transformers takes.

    Args:
        files: every file of the commit, name -> where it is in the cache; settings and indexes are there already.
        wish: what the user wants.
        repo_id: for the text of an error.

    Raises:
        HubError: the user has to choose, or what was asked for is not there (ST-HUB-102).
    """
    if _names_weights(files, wish, repo_id):
        return []
    found: dict[str, None] = {}
    for names, missing, prefix in _picked(files, wish):
        if missing:
            why = f"{names[0]} names files that the commit does not have: {listed(missing)}"
            raise _choose(repo_id, "the weights are not whole in the repository itself", why, "--revision REVISION")
        if not prefix and wish.variant and not any(f".{wish.variant}" in name for name in names):
            has = listed(variants(files, "")) or "none"
            raise _choose(repo_id, f"no weights of the variant {wish.variant!r}", f"variants: {has}", "--variant NAME")
        found |= dict.fromkeys(names)
    ggufs = [name for name in files if name.endswith(".gguf") and "/" not in name]
    if (several := len({tuple(file_with_shards(files, name)[0]) for name in ggufs})) > 1 and set(found) & set(ggufs):
        raise _choose(repo_id, "which GGUF file?", f"there are {several}: {listed(sorted(ggufs))}", "--file NAME")
    if not found and not wish.files and (strange := _strange(files)):
        why = f"none of the names that transformers looks for; it has {listed(strange)}"
        if wish.safetensors_only:
            why = f"the policy is weights='safetensors', and it has {listed(strange)}"
        raise _choose(repo_id, "which weights?", why, "--file NAME (or --all)")
    return list(found)


def others(files: Mapping[str, Path], of: Wanted) -> list[Wanted]:
    """The repositories that a commit's settings name: an adapter's base model, and code that lies elsewhere.

    transformers loads the base at the revision that it was asked for, and peft at the one that the adapter names.
    """
    found: dict[Wanted, None] = {}
    adapter = _json(files, "adapter_config.json")
    base = adapter.get("base_model_name_or_path")
    if isinstance(base, str) and base:
        if is_repo_id(base):
            named = adapter.get("revision")
            revisions = [str(named)] if isinstance(named, str) and named else []
            revisions += ["main"] if of.revision == "main" or not revisions else []
            why = f"{_BASE_OF} {of.repo_id}"
            found |= {Wanted(base, revision, why): None for revision in dict.fromkeys(revisions)}
        else:
            text = "%s: its base model is a local folder, not a repository; take that folder along"
            logging.getLogger(__name__).warning(text, of.repo_id)
    for name in _NAMING_CODE:
        content = _json(files, name)
        pipelines = content.get("custom_pipelines")
        named_code = [content.get("auto_map"), *(pipelines.values() if isinstance(pipelines, dict) else ())]
        for reference in _strings(named_code):
            repo_id, separator, _ = reference.partition("--")
            if separator and repo_id != of.repo_id and is_repo_id(repo_id):
                found[Wanted(repo_id, "main", f"{CODE_OF} {of.repo_id}", code_only=True)] = None
    return list(found)


def absent(names: Iterable[str], variant: str | None = None) -> list[str]:
    """The files that loaders ask for and that a commit, by its whole list, does not have."""
    asked = _ASKED_FOR | {with_variant(name, variant) for name in ("model.safetensors", "model.safetensors.index.json")}
    return sorted(asked.difference(names))


def is_repo_id(text: str) -> bool:
    """Whether this can be a repository's name on the hub; a path of this machine is none.

    Example:
        >>> is_repo_id("gpt2"), is_repo_id("org/name"), is_repo_id("/home/me/model"), is_repo_id("../model")
        (True, True, False, False)
    """
    parts = text.split("/")
    wrong = "--" in text or ".." in text or text.endswith((".git", "-", "."))
    return len(parts) <= 2 and not wrong and all(map(_REPO_PART.fullmatch, parts))


def unusable(what: str, do: str) -> HubError:
    """The error for an argument that cannot be used."""
    return HubError("ST-HUB-103", what, do=do)


def _is_setting(name: str) -> bool:
    *folders, last = name.split("/")
    if any(_COPIES.fullmatch(folder) for folder in folders[:1]) or _INDEX.fullmatch(last):
        return False
    return last in VOCABULARIES or (_SETTINGS.fullmatch(last) is not None and not last.endswith(_WEIGHTS))


def _names_weights(names: Iterable[str], wish: Wish, repo_id: str) -> bool:
    return any(name.endswith(_WEIGHTS) for name in matching(names, wish.files, repo_id))


def _picked(files: Mapping[str, Path], wish: Wish) -> Iterator[tuple[list[str], list[str], str]]:
    """For the root and each module: the weights' names, those that are not there, and the folder."""
    for prefix in ("", *_modules(files)):
        adapter = f"{prefix}adapter_config.json" in files
        for of_adapter in [adapter] if not adapter or f"{prefix}config.json" not in files else [True, False]:
            names, damages = pick_weights(
                files,
                prefix,
                variant=None if of_adapter or prefix else wish.variant,
                safetensors_only=wish.safetensors_only,
                adapter=of_adapter,
            )
            if names:
                yield names, [damage.file for damage in damages], prefix


def _modules(files: Mapping[str, Path]) -> list[str]:
    """The folders in which sentence-transformers keeps a model's further parts, each with its "/"."""
    modules: Any = _content(files, "modules.json")
    named = [module.get("path") for module in modules if isinstance(module, dict)] if isinstance(modules, list) else []
    for router in [name for name in files if name.rpartition("/")[2] == "router_config.json"]:
        types = _json(files, router).get("types")
        named += [router[: -len("router_config.json")] + name for name in types] if isinstance(types, dict) else []
    return list(dict.fromkeys(f"{name}/" for name in named if isinstance(name, str) and name))


def _strange(files: Mapping[str, Path]) -> list[str]:
    """Weights in files that transformers does not look for: a diffusers pipeline, checkpoints of other libraries."""
    root = [name for name in files if "/" not in name or "model_index.json" in files]
    found = (name for name in root if name.endswith(_WEIGHTS) and not _is_copy(name))
    return sorted(name for name in found if name not in VOCABULARIES)


def _is_copy(name: str) -> bool:
    return name.rpartition("/")[2].startswith(_OF_TRAINING) or _COPIES.fullmatch(name.partition("/")[0]) is not None


def _choose(repo_id: str, what: str, why: str, option: str) -> HubError:
    return HubError(
        "ST-HUB-102", f"{repo_id}: {what}", why=why, do=f"safetransformers prefetch {repo_id} {option}", repo_id=repo_id
    )


def _strings(value: Any) -> Iterator[str]:
    """Every string in a nest of lists and dicts that JSON gave."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, (list, dict)):
            waiting.extend(part.values() if isinstance(part, dict) else part)


def _json(files: Mapping[str, Path], name: str) -> dict[str, Any]:
    content = _content(files, name)
    return content if isinstance(content, dict) else {}


def _content(files: Mapping[str, Path], name: str) -> Any:
    """A small JSON file of the commit; ``None`` where it cannot be had."""
    try:
        path = files[name]
        return json.loads(path.read_bytes()) if path.stat().st_size <= _MAX_SETTINGS_BYTES else None
    except (KeyError, OSError, ValueError, RecursionError):
        return None
