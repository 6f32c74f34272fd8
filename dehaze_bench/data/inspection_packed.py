"""Inspecting packed copies: what training would read instead of the files is what was packed, and all of it.

Checksums, the tensors of each shard against the manifest, the partners of each pair, sizes, counts and editions.
Alignment and duplicates are looked for in the files themselves, of which the copy holds the pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from dehaze_bench.data.folders import Pairs
from dehaze_bench.data.inspection_pairs import check_sizes
from dehaze_bench.data.inspection_report import Finding, Summary, count_of
from dehaze_bench.data.inspection_subjects import Subject, describe_edition
from dehaze_bench.data.pairs import decoder
from dehaze_bench.data.store import MANIFEST, Entry, Shard, Store, find_damage, read_manifest
from dehaze_bench.data.store_finding import PACKED, common_folder, copy_name
from dehaze_bench.errors import UsageError

Progress = Callable[[str, Iterator[dict[str, str]], int], Iterator[dict[str, str]]]


@dataclass(frozen=True)
class Copy:
    """A packed copy of one part of a data set; `subject` are the files that it was made of, where they are there."""

    name: str
    role: str
    folder: Path
    margin: int = 0
    subject: Subject | None = None

    @property
    def label(self) -> str:
        return f"{self.name} ({self.role}), packed"


def find_copies(name: str, role: str, root: Path, margin: int = 0, subject: Subject | None = None) -> list[Copy]:
    """Return the packed copies of a part: the root itself, in it, or beside the files that were found.

    Raises `UsageError` where the root is a copy of something else.
    """
    own, held = copy_name("dataset" if role == "train" else "testset", name), name
    candidates = [root / own]
    if (root / MANIFEST).is_file():
        if root.absolute().name.startswith("testset-" if role == "train" else "dataset-"):
            return []
        with suppress(UsageError):  # what cannot be read is a finding of `inspect_copy`
            held = read_manifest(root).name
        if held != name:
            raise UsageError(f"{root} is a packed copy of {held}, not of {name}: data verify {held} --root {root}.")
        candidates.insert(0, root)
    if subject is not None:
        candidates.append(common_folder([*subject.pairs.hazy, *(subject.pairs.clear or [])]) / PACKED / own)
    folders = dict.fromkeys(folder.absolute() for folder in candidates if (folder / MANIFEST).is_file())
    return [Copy(name, role, folder, margin, subject) for folder in folders]


def inspect_copy(
    copy: Copy, num_threads: int = 1, progress: Progress | None = None
) -> tuple[Summary | None, list[Finding], list[Finding]]:
    """Return what a copy is, what is wrong with it, and what is worth knowing. Reads it whole."""
    try:
        store = Store(copy.folder)
    except UsageError as error:
        return None, [Finding("packed copy", copy.label, str(error))], []
    layout, names, hazy, clear = store.pairs()
    subject = Subject(copy.name, copy.role, Pairs(layout, names, hazy, clear), copy.margin)
    entries = {str(Path(store.base, entry.path)): entry for entry in _entries(store)}
    findings = _find_damaged(copy, store, num_threads, progress) + _find_missing(copy, subject, entries)
    sizes = {path: {"size": [entry.height, entry.width]} for path, entry in entries.items()}
    whole = all(str(path) in entries for path in (*hazy, *(clear or ())))
    if whole and clear is not None:
        findings += [Finding(f.kind, copy.label, f.text, f.files) for f in check_sizes(subject, sizes)[1]]
    sides = [_list_sides(paths, entries) for paths in (hazy, clear or [])]
    version, published = describe_edition(subject, list(sides[0]), list(sides[1]))
    notes = [] if published else [Finding("count", copy.label, version)]
    notes += _compare_with_files(copy, store)
    counted = [f"{what} {w}x{h} ({n:,})" for what, side in zip(("hazy", "clear"), sides, strict=True)
               for (w, h), n in side.most_common(4)]  # fmt: skip
    kinds = Counter(entry.kind for entry in entries.values())
    formats = (*(f"{kind} ({num:,})" for kind, num in kinds.most_common()), f"decoded by {store.decoder}")
    scenes = len(set(subject.scenes))
    summary = Summary(copy.label, layout, len(names), scenes, version, tuple(counted), formats, "see the files")
    return summary, findings, notes


def _entries(store: Store) -> Iterator[Entry]:
    for shard in store.manifest.shards:
        yield from shard.pictures


def _find_damaged(copy: Copy, store: Store, num_threads: int, progress: Progress | None) -> list[Finding]:
    def look(shard: Shard) -> dict[str, str]:
        text = find_damage(store.folder, shard) or _find_other_content(store.folder, shard)
        return {"error": text} if text else {}

    shards = store.manifest.shards
    with ThreadPoolExecutor(max(1, num_threads)) as pool:
        looks = pool.map(look, shards)
        shown = progress(f"{copy.label}: checksums", looks, len(shards)) if progress else looks
        return [Finding("damaged", copy.label, found["error"]) for found in shown if found]


def _find_other_content(folder: Path, shard: Shard) -> str | None:
    """Say where a shard does not hold the pictures that its manifest names, in their sizes."""
    path = folder / shard.file
    wanted = {e.path: [e.height, e.width, 3] if e.kind == "raw" else [e.bytes] for e in shard.pictures}
    try:
        with safe_open(path, framework="np") as tensors:
            found = {key: list(tensors.get_slice(key).get_shape()) for key in tensors.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        return f"{path} is no safetensors file ({error}). Pack again: dehaze-bench data prepare."
    wrong = sorted(key for key in wanted | found if wanted.get(key) != found.get(key))
    if not wrong:
        return None
    what = f"{wrong[0]} is {found.get(wrong[0], 'absent')}, the manifest says {wanted.get(wrong[0], 'nothing of it')}"
    return f"{path} does not hold what the manifest says: {what}. {count_of(len(wrong), 'picture', 'pictures')} in all."


def _find_missing(copy: Copy, subject: Subject, entries: dict[str, Entry]) -> list[Finding]:
    paths = dict.fromkeys(map(str, (*subject.pairs.hazy, *(subject.pairs.clear or ()))))
    missing = tuple(path for path in paths if path not in entries)
    if not missing:
        return []
    text = f"{count_of(len(missing), 'picture of a pair is', 'pictures of pairs are')} not in the copy"
    return [Finding("missing partner", copy.label, text, missing)]


def _compare_with_files(copy: Copy, store: Store) -> list[Finding]:
    """Say where the files are no longer those that were packed, so that training passes the copy over."""
    foreign = store.decoder != decoder() and any(not e.path.lower().endswith(".png") for e in _entries(store))
    if copy.subject is None:
        text = f"it holds JPEG files decoded by {store.decoder}, this is {decoder()}: pixels differ from the files'"
        return [Finding("decoder", copy.label, text)] if foreign else []
    unfit = store.misfit([*copy.subject.pairs.hazy, *(copy.subject.pairs.clear or ())])
    if unfit is None:
        return []
    text = f"the copy is not used, since {unfit}. Pack again: dehaze-bench data prepare {copy.name}"
    return [Finding("packed copy", copy.label, text)]


def _list_sides(paths: Sequence[Path], entries: dict[str, Entry]) -> Counter[tuple[int, int]]:
    found = [entries[path] for path in dict.fromkeys(map(str, paths)) if path in entries]
    return Counter((entry.width, entry.height) for entry in found)
