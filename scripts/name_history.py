"""Makes safetransformers/names/history.json: `make names`.

The wheels of every minor release since 4.2 are downloaded with pip into build/wheels, read without being imported, and
put into one table. The same wheels give the same bytes. Takes some minutes, most of them to parse a few thousand files.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import subprocess
import sys
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from packaging.version import Version
from replacements import MODEL_REASON, REASONS, ROWS, RULES
from wheel_names import Release, Wheels

ROOT = Path(__file__).parents[1]
WHEELS = ROOT / "build" / "wheels"
TABLE = ROOT / "safetransformers" / "names" / "history.json"
OLDEST = (4, 2)
MAX_BYTES = 150_000  # in the wheel, which is compressed
# Modules inside which no other code looks for names: the top level has its own table.
_NEVER_IMPORTED = ("transformers", "testing_utils")


def main() -> None:
    """Download, read, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--newest", help="the newest release to read, such as 5.23; as a rule the newest on the index")
    arguments = parser.parse_args()
    versions = minor_releases(arguments.newest)
    WHEELS.mkdir(parents=True, exist_ok=True)
    wheels = Wheels()
    releases = []
    for version in versions:
        print(f"{version:10}", end="\r", file=sys.stderr)
        releases.append(wheels.read(download(version)))
    table = table_of(releases)
    text = written(table)
    size = len(zlib.compress(text.encode(), 9))
    if size > MAX_BYTES:
        raise SystemExit(f"the table has {size} bytes in a wheel, and may have {MAX_BYTES}")
    TABLE.write_text(text, encoding="utf-8")
    tell(releases, table, size)


def minor_releases(newest: str | None) -> list[str]:
    """The last patch of each minor release on the package index, oldest first; yanked and preliminary ones are not."""
    command = [sys.executable, "-m", "pip", "index", "versions", "transformers"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    listed = next(line for line in printed.splitlines() if line.startswith("Available versions:")).partition(":")[2]
    last: dict[tuple[int, int], Version] = {}
    for version in map(Version, listed.replace(" ", "").split(",")):
        minor = (version.major, version.minor)
        if minor >= OLDEST and (newest is None or minor <= Version(newest).release[:2]):
            last[minor] = max(version, last.get(minor, version))
    return [str(last[minor]) for minor in sorted(last)]


def download(version: str) -> Path:
    """The wheel of a release, from build/wheels if it is there."""
    wheel = WHEELS / f"transformers-{version}-py3-none-any.whl"
    if not wheel.is_file():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*pip, "--ignore-requires-python", "-d", str(WHEELS), f"transformers=={version}"], check=True)
    return wheel


def table_of(releases: list[Release]) -> dict[str, Any]:
    """The whole table; names are grouped by the releases that have them."""
    names = spans(release.names for release in releases)
    gone = sorted(name for name, span in names.items() if not span.endswith("-"))
    newest = releases[-1]
    inside = inner(releases)
    dotted = [
        f"transformers.{m}.{n}"
        for span, modules in inside.items()
        if not span.endswith("-")
        for m, ns in modules.items()
        for n in ns.split(" ")
    ]
    replaced = {name: new for name in (*gone, *dotted) if (new := replacement(name, newest))}
    return {
        "date": newest.date,
        "releases": [release.version for release in releases],
        "requires": changes([release.requires for release in releases]),
        "names": grouped(names),
        "model_types": grouped(spans(release.model_types for release in releases)),
        "inner": inside,
        "replacements": grouped(replaced),
        "reasons": {removed_models(gone): MODEL_REASON, **REASONS},
    }


def removed_models(gone: Iterable[str]) -> str:
    """A pattern of the names of the models that went as a whole: those whose configuration class did."""
    configs = {name for name in gone if name.endswith("Config")}
    families = sorted(
        name.removesuffix("Config") for name in configs if not name.endswith(("OnnxConfig", "CacheConfig"))
    )
    return rf"({'|'.join(families)})\w*"


def spans(sets: Iterable[Iterable[str]]) -> dict[str, str]:
    """For each name the releases that have it, by number: ``"3-9,12-"`` is the 4th to the 10th, and since the 13th."""
    found: dict[str, list[list[int]]] = defaultdict(list)
    count = 0
    for index, names in enumerate(sets):
        count = index + 1
        for name in names:
            if found[name] and found[name][-1][1] == index - 1:
                found[name][-1][1] = index
            else:
                found[name].append([index, index])
    return {
        name: ",".join(f"{first}-{'' if last == count - 1 else last}" for first, last in pairs)
        for name, pairs in found.items()
    }


def inner(releases: list[Release]) -> dict[str, dict[str, str]]:
    """Names inside modules that came or went, by span and module. Of single models' files only what is gone."""
    names = spans({f"{m} {n}" for m, all_ in release.inner.items() for n in (*all_, ".")} for release in releases)
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for both, span in sorted(names.items()):
        module, _, name = both.removeprefix("transformers.").partition(" ")
        is_of_model = module.startswith("models.") and not module.startswith("models.auto.")
        is_there = span.endswith("-")
        if span != "0-" and module not in _NEVER_IMPORTED and not (is_of_model and is_there):
            found[span][module].append(name)
    return {span: {m: " ".join(ns) for m, ns in sorted(modules.items())} for span, modules in sorted(found.items())}


def replacement(name: str, newest: Release) -> str:
    """What took the place of a gone name, if anything; checked against the newest release."""
    for names, new in ROWS.items():
        if name in names.split(" "):
            if new and not exists(new, newest):
                raise SystemExit(f"{new} is to replace {name}, and is not there")
            return new
    for pattern, template in RULES.items():
        if match := re.fullmatch(pattern, name):
            new = match.expand(template)
            new = new if "." in new else f"transformers.{new}"
            if exists(new, newest):
                return new
    return ""


def exists(dotted: str, newest: Release) -> bool:
    """Whether the newest release, or another package that is installed here, has this name."""
    module, _, name = dotted.rpartition(".")
    if module == "transformers":
        return name in newest.names
    if module.startswith("transformers."):
        return name in newest.inner.get(module, ())
    return hasattr(importlib.import_module(module), name)


def changes(requires: list[dict[str, str]]) -> list[dict[str, str]]:
    """What each release requires differently from the one before; an empty range takes a requirement away."""
    before: dict[str, str] = {}
    changed = []
    for now in requires:
        gone = {name: "" for name in before if name not in now and before[name]}
        changed.append({**{name: range_ for name, range_ in now.items() if before.get(name) != range_}, **gone})
        before = now
    return changed


def tell(releases: list[Release], table: dict[str, Any], size: int) -> None:
    """What the table holds, and which gone names have neither a replacement nor a reason."""
    names = [name for group in table["names"].values() for name in group.split(" ")]
    gone = [name for span, group in table["names"].items() if not span.endswith("-") for name in group.split(" ")]
    replaced = {name for group in table["replacements"].values() for name in group.split(" ")}
    newest = releases[-1].names
    told = {
        name
        for name in gone
        if name in replaced
        or re.sub("^(TF|Flax)", "", name) in newest
        or any(re.fullmatch(pattern, name) for pattern in table["reasons"])
    }
    types = sum(len(group.split(" ")) for group in table["model_types"].values())
    print(f"{len(releases)} releases, {releases[0].version} to {releases[-1].version} of {table['date']}")
    print(f"{len(names)} names, of which {len(gone)} are gone; {types} model types; {size} bytes in a wheel")
    print(f"gone names with a replacement or a reason: {len(told)} of {len(gone)}")
    print("without:", " ".join(sorted(set(gone) - told)))


def grouped(values: Mapping[str, str]) -> dict[str, str]:
    """Names by the value that they share."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, value in sorted(values.items()):
        found[value].append(name)
    return {value: " ".join(names) for value, names in sorted(found.items())}


def written(table: dict[str, Any]) -> str:
    """One line for each group, so that a difference can be read."""
    parts = []
    for key, value in table.items():
        if isinstance(value, dict):
            lines = ",\n".join(f"{json.dumps(k)}:{json.dumps(v, separators=(',', ':'))}" for k, v in value.items())
            parts.append(f"{json.dumps(key)}:{{\n{lines}\n}}")
        else:
            parts.append(f"{json.dumps(key)}:{json.dumps(value, separators=(',', ':'))}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    main()
