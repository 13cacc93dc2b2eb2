"""Is a cached commit whole for one load? Which files the load reads, and what of them is missing or broken."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .formats import SMALL_BYTES
from .integrity import Damage, check_content, check_structure, verifiable
from .weights import file_with_shards, pick_weights, variants, with_variant

if TYPE_CHECKING:
    from .snapshots import Snapshot

_CONFIGS = ("config.json", "adapter_config.json")
_PROCESSORS = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")

# Every value of `vocab_files_names` of the tokenizers of transformers 4.57.6 and 5.23.0, less the settings below; then
# what TokenizersBackend and mistral-common look for (5.23 tokenization_utils_base.py).
VOCABULARIES = frozenset(
    {
        *("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model"),
        *("sentencepiece.model", "spm.model", "spm_char.model", "tokenizer.model", "source.spm", "target.spm"),
        *("target_vocab.json", "vocab-src.json", "vocab-tgt.json", "bpe.codes", "byte_maps.json", "dict.txt"),
        *("emoji.json", "entity_vocab.json", "prophetnet.tokenizer", "word_pronunciation.json", "word_shape.json"),
        *("artists.json", "genres.json", "lyrics.json", "vocab.bin", "vocab.pkl"),
        *("tekken.json", "tiktoken.model"),
    }
)
_VOCABULARY = re.compile(r".+\.(model|spm|tiktoken)(\.v\d+\w*)?|tokenizer\..+\.json")  # others' and versioned names
_TOKENIZER_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "normalizer.json")
_TEMPLATES = ("chat_template.jinja", "chat_template.json")
# Of no use alone.
_COMPANIONS = frozenset(
    {
        *("merges.txt", "bpe.codes", "emoji.json", "entity_vocab.json", "source.spm", "target.spm"),
        *("word_pronunciation.json", "word_shape.json", "genres.json", "lyrics.json"),
    }
)
# Vocabulary files that are read together: the first is of no use where the commit has, but the cache lacks, the second.
_PAIRS = (
    ("vocab.json", "merges.txt"),
    ("merges.txt", "vocab.json"),
    ("vocab.txt", "bpe.codes"),
    ("bpe.codes", "vocab.txt"),
    ("source.spm", "vocab.json"),
    ("source.spm", "target.spm"),
    ("target.spm", "source.spm"),
    ("dict.txt", "sentencepiece.bpe.model"),
    ("vocab.txt", "word_shape.json"),
    ("vocab.txt", "word_pronunciation.json"),
)
# Tokenizers of bytes or code points: their `vocab_files_names` is empty.
_WITHOUT_VOCABULARY = frozenset({"ByT5Tokenizer", "CanineTokenizer", "DiaTokenizer", "PerceiverTokenizer"})
_WITHOUT_VOCABULARY_TYPES = frozenset({"canine", "dia", "perceiver"})

_PROCESSOR_CLASSES = ("AutoProcessor", "AutoImageProcessor", "AutoFeatureExtractor", "AutoVideoProcessor")
_CODE_OF = {"AutoTokenizer": "tokenizer", **dict.fromkeys(_PROCESSOR_CLASSES, "processor")}
_LARGE = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack")
_DOUBTFUL = ("not its format", "longer than its header says")  # may be how the repository has it


@dataclass(frozen=True)
class Need:
    """What a load reads. With nothing set: every file that the commit has in the cache.

    Attributes:
        config: the model's config.
        weights: the model's weights, in the first format that transformers finds.
        tokenizer: a vocabulary, and the settings beside it.
        processor: the settings of a processor, image processor or feature extractor.
        generation: ``generation_config.json``, where the commit has one.
        adapter: the weights of a PEFT adapter in place of a model's.
        remote_code: the Python files that ``auto_map`` names for the parts above.
        subfolder: the folder of the repository that the load reads.
        variant: such as ``"fp16"`` in ``model.fp16.safetensors``.
        safetensors_only: no other format counts as weights.
        files: files by name, inside ``subfolder``; a shard of a GGUF stands for all its shards.
    """

    config: bool = False
    weights: bool = False
    tokenizer: bool = False
    processor: bool = False
    generation: bool = False
    adapter: bool = False
    remote_code: bool = False
    subfolder: str = ""
    variant: str | None = None
    safetensors_only: bool = False
    files: tuple[str, ...] = ()

    @property
    def everything(self) -> bool:
        """Whether nothing is set, so that every file counts."""
        parts = (self.config, self.weights, self.tokenizer, self.processor, self.generation, self.adapter)
        return not any(parts) and not self.files


def lacks(snapshot: Snapshot, need: Need, repo: Sequence[Snapshot], *, verify: str) -> tuple[Damage, ...]:
    """What a commit lacks for a load; ``()`` where it is whole.

    Args:
        snapshot: the commit.
        need: what the load reads.
        repo: all commits of the repository in the cache, newest first: what the others have is what to expect here.
        verify: ``"hash"`` also compares every file that the load reads with the hash that names its blob.
    """
    if not snapshot.files():
        found = snapshot.problem or "an empty folder"
        return (Damage(f"snapshots/{snapshot.commit}", "missing", "files of this commit", found),)
    reading = _Reading(snapshot, need, repo)
    reading.plan()
    broken = (_broken(snapshot, name, verify=verify) for name in reading.names)
    damages = [*reading.damages, *(damage for damage in broken if damage is not None)]
    if not reading.of_weights:
        damages += _weights_that_others_have(snapshot, need, repo)
    first: dict[str, Damage] = {}
    for damage in damages:
        first.setdefault(damage.file, damage)
    return tuple(first.values())


def _broken(snapshot: Snapshot, name: str, *, verify: str) -> Damage | None:
    """What is wrong with one file. A file with the very bytes that the hub names is right, whatever it looks like."""
    path = snapshot.files().get(name)
    if path is None:
        return Damage(name, "missing")
    listed = (snapshot.listed or {}).get(name)
    size, blob = listed or (None, None)
    if not verifiable(blob):
        blob = snapshot.blob_of(name)
    if verifiable(blob) and not name.endswith(_LARGE) and _size(path) <= SMALL_BYTES:
        other = check_content(path, name, blob)  # faster than to parse it, and it sees every byte
        return other and (check_structure(path, name, size=size) or other)
    damage = check_structure(path, name, size=size)
    if damage is None:
        return check_content(path, name, blob) if verify == "hash" else None
    own = damage.problem in _DOUBTFUL and verifiable(blob) and check_content(path, name, blob) is None
    return None if own else damage


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return 0


def _weights_that_others_have(snapshot: Snapshot, need: Need, repo: Sequence[Snapshot]) -> list[Damage]:
    """A commit whose weights did not arrive is a half-finished upgrade where another commit has them whole."""
    mine = _any_weights(snapshot, need)
    if not mine:
        return []
    for other in repo:
        if not _any_weights(other, need):
            return [replace(damage, expected=damage.expected or f"as in commit {other.commit[:12]}") for damage in mine]
    return []


def _any_weights(snapshot: Snapshot, need: Need) -> list[Damage]:
    """What the weights of a commit lack, in whichever format and variant it has them; ``[]`` where they are whole."""
    files, prefix = snapshot.files(), _prefix(need)
    kinds = [(variant, False) for variant in (need.variant, None, *variants(files, prefix))] + [(None, True)]
    for variant, adapter in kinds:
        names, damages = pick_weights(files, prefix, variant=variant, safetensors_only=False, adapter=adapter)
        if names:
            broken = (_broken(snapshot, name, verify="size") for name in names)
            return [*damages, *(damage for damage in broken if damage is not None)]
    return [Damage(prefix + "model.safetensors", "missing")]


def _prefix(need: Need) -> str:
    return need.subfolder.strip("/") + "/" if need.subfolder.strip("/") else ""


class _Reading:
    """Collects the files that a load reads in one commit (``names``), and what is not there (``damages``)."""

    def __init__(self, snapshot: Snapshot, need: Need, repo: Sequence[Snapshot]) -> None:
        self.snapshot, self.need, self.prefix = snapshot, need, _prefix(need)
        not_newer = itertools.dropwhile(lambda other: other.commit != snapshot.commit, repo)
        self.older_files = [other.files() for other in not_newer]
        self.names: dict[str, None] = {}
        self.damages: list[Damage] = []
        self.of_weights = False
        self.of_gguf = any(file.endswith(".gguf") for file in need.files)

    def plan(self) -> None:
        need, files = self.need, self.snapshot.files()
        if need.everything:
            self.names = dict.fromkeys(files)
            self.add(pick_weights(files, self.prefix, variant=None, safetensors_only=False, adapter=False))
            return
        for file in need.files:
            self.add(file_with_shards(files, self.prefix + file))
            self.of_weights = self.of_weights or file.endswith(_LARGE)
        self.read(_CONFIGS)
        if need.config and not self.of_gguf and not any(map(self.has, _CONFIGS)):
            self.missing("config.json")
        if (need.weights or need.adapter) and not self.of_gguf:
            self.plan_weights()
        if need.tokenizer and not self.of_gguf:
            self.plan_tokenizer()
        if need.processor:
            self.read((*_PROCESSORS, *_TEMPLATES))
            if not any(map(self.has, _PROCESSORS)):
                self.missing(_PROCESSORS[1])
        if need.weights or need.generation:
            self.read(("generation_config.json",))
        if need.generation:
            self.expect("generation_config.json")
        self.names.update((name, None) for name in files if name.endswith(".py") and "/" not in name)
        if need.remote_code:
            self.plan_code()

    def plan_weights(self) -> None:
        need, files = self.need, self.snapshot.files()
        adapter = need.adapter or (not self.has("config.json") and self.has("adapter_config.json"))
        if need.adapter and not self.has("adapter_config.json"):
            self.missing("adapter_config.json")
        names, damages = pick_weights(
            files, self.prefix, variant=need.variant, safetensors_only=need.safetensors_only, adapter=adapter
        )
        if not names:
            first = "adapter_model.safetensors" if adapter else with_variant("model.safetensors", need.variant)
            self.missing(first, "" if need.safetensors_only else "weights, in this or another format")
        self.add((names, damages))
        self.of_weights = True

    def plan_tokenizer(self) -> None:
        self.read(_TOKENIZER_SETTINGS)
        self.read(_TEMPLATES)
        self.expect("tokenizer_config.json")
        files = self.snapshot.files()
        beside = [name[len(self.prefix) :] for name in files if name.startswith(self.prefix)]
        present = [name for name in beside if "/" not in name and (name in VOCABULARIES or _VOCABULARY.fullmatch(name))]
        self.read(present)
        if "tokenizer.json" in present:
            return
        self.expect("tokenizer.json")
        for name, partner in _PAIRS:
            listed = self.prefix + partner in (self.snapshot.listed or {})
            if name in present:
                self.expect(partner, certain=listed)
        if _COMPANIONS.issuperset(present) and not self.without_vocabulary():
            self.missing("tokenizer.json", "a vocabulary, in this or another file")

    def without_vocabulary(self) -> bool:
        """Whether the tokenizer reads bytes, is code of the repository's own, or is made of two in subfolders."""
        settings, config = self.json("tokenizer_config.json"), self.json("config.json")
        named = (settings.get("tokenizer_class"), config.get("tokenizer_class"))
        return (
            any(str(name).removesuffix("Fast") in _WITHOUT_VOCABULARY for name in named)
            or config.get("model_type") in _WITHOUT_VOCABULARY_TYPES
            or "AutoTokenizer" in (settings.get("auto_map") or {})
            or any(name.startswith(self.prefix + "question_encoder_tokenizer/") for name in self.snapshot.files())
        )

    def plan_code(self) -> None:
        """The modules that ``auto_map`` names, and what those import from beside them; they lie in the root."""
        todo = []
        for name in ("config.json", "tokenizer_config.json", *_PROCESSORS):
            for auto, references in (self.json(name).get("auto_map") or {}).items():
                if auto == "AutoConfig" or getattr(self.need, _CODE_OF.get(auto, "weights")):
                    todo += [ref for ref in (references if isinstance(references, list) else [references]) if ref]
        modules = [str(reference).split(".")[0] for reference in todo if "--" not in str(reference)]
        for module in modules:  # grows while it is walked
            name = f"{module}.py"
            if name in self.names:
                path = self.snapshot.files()[name]
                modules += [other for other in _imports(path) if other not in modules]
            elif not self.snapshot.known_absent(name):
                self.damages.append(Damage(name, "missing", "the code that auto_map names"))

    def has(self, name: str) -> bool:
        return self.prefix + name in self.snapshot.files()

    def read(self, names: Iterable[str]) -> None:
        """Reads those that are there."""
        self.names.update((self.prefix + name, None) for name in names if self.has(name))

    def add(self, found: tuple[list[str], list[Damage]]) -> None:
        self.names.update(dict.fromkeys(found[0]))
        self.damages += found[1]

    def missing(self, name: str, expected: str = "") -> None:
        self.damages.append(Damage(self.prefix + name, "missing", expected))

    def expect(self, name: str, *, certain: bool = False) -> None:
        """Misses a file that an older commit has, unless the hub has said that this commit has none."""
        whole = self.prefix + name
        if self.has(name) or self.snapshot.known_absent(whole):
            return
        if certain or any(whole in files for files in self.older_files):
            self.missing(name, "as the hub lists" if certain else "as in an older commit")

    def json(self, name: str) -> dict[str, Any]:
        """The content of a small JSON file of the commit; empty where it cannot be had."""
        path = self.snapshot.files().get(self.prefix + name)
        try:
            content = json.loads(path.read_bytes()) if path is not None and _size(path) <= SMALL_BYTES else {}
        except (OSError, ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) else {}


def _imports(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8") if _size(path) <= SMALL_BYTES else ""
    except (OSError, ValueError):
        return []
    return re.findall(r"^\s*(?:from|import)\s+\.(\w+)", text, re.MULTILINE)
