"""What is published about the data sets of the field: how many pictures, of which size and name, kept in which folders.

A set has a training and a test part under one config name. `bases` are folders below the data root; letter case,
hyphens and underscores in them do not matter, and one of `HOLDERS` may stand before them. A `Shape` says whose
habit the two subfolders are. Numbers are those of the sets' papers and pages; what could not be confirmed is
marked "unverified".
"""

from __future__ import annotations

from dataclasses import dataclass

ROLES = ("train", "test")
HOLDERS = ("", "RESIDE", "data", "dataset", "datasets")
HAZY_FOLDERS = ("hazy", "IN", "input", "haze", "lq", "LQ", "synthetic", "cloud")
CLEAR_FOLDERS = ("gt", "GT", "clear", "target", "gt_new", "original", "label", "groundtruth")
# What the end of a stem says where both pictures carry one: 01_hazy and 01_GT, 01_outdoor_hazy and 01_outdoor_GT.
HAZY_ENDINGS = ("_hazy", "_haze", "_input", "_cloud")
CLEAR_ENDINGS = ("_GT", "_gt", "_clear", "_target", "_label")
# Of HazeWorld as downloaded, in the folder of each source: lines of "its split, train or test, video, frames".
MAPPING = "mapping_info_GT_{role}.txt"
_INDOOR, _RIM, _SMALL = (620, 460), (640, 480), (400, 400)
_TILE, _MEGAPIXELS = (512, 512), (1600, 1200)


@dataclass(frozen=True)
class Shape:
    """How somebody's repository keeps a part; `*` in a subfolder stands for several that add up.

    `listing` names a text file (below the root or beside it) with the hazy pictures that count. `whole` means that
    the training and the test part lie together, so that a `split` takes them apart. Of videos `clips` is how many
    folders lie between a subfolder and its frames: 1 for VIDEO/FRAME, 2 for SOURCE/VIDEO/FRAME. With a role as `mapped`
    there is one more, SOURCE/SPLIT/VIDEO/FRAME, and `MAPPING` beside the splits says which of them are of that role.
    """

    keeper: str
    base: str
    hazy: tuple[str, ...]
    clear: tuple[str, ...]
    listing: str = ""
    whole: bool = False
    clips: int = 0
    mapped: str = ""


@dataclass(frozen=True)
class Version:
    """A published edition: number of hazy and clear pictures, their (width, height) where all share one."""

    name: str
    hazy: int
    clear: int
    hazy_size: tuple[int, int] | None = None
    clear_size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Part:
    """The training or the test half of a set; without `versions` no count is published."""

    versions: tuple[Version, ...]
    shapes: tuple[Shape, ...]
    naming: str
    truth: bool = True

    @property
    def bases(self) -> tuple[str, ...]:
        """The folders of all shapes that hold this part alone, without repeats."""
        return tuple(dict.fromkeys(shape.base for shape in self.shapes if not shape.whole))


@dataclass(frozen=True)
class KnownSet:
    """One data set; `splits` gives, per name and role, the first and last id (None: no end); the first is the usual."""

    title: str
    train: Part | None = None
    test: Part | None = None
    splits: tuple[tuple[str, dict[str, tuple[int, int | None]]], ...] = ()
    note: str = ""

    def part(self, role: str) -> Part | None:
        """Return the half of that role."""
        return self.train if role == "train" else self.test

    def split(self, name: str | None) -> dict[str, tuple[int, int | None]] | None:
        """Return the ids of a split, or of the usual one; None where the set has none of that name."""
        return dict(self.splits).get(name) if name else next((ids for _, ids in self.splits), None)


def _part(counts: tuple[Version, ...] | Version, naming: str, *shapes: tuple[Shape, ...], truth: bool = True) -> Part:
    versions = counts if isinstance(counts, tuple) else (counts,)
    return Part(versions, tuple(shape for group in shapes for shape in group), naming, truth)


def _shapes(keeper: str, hazy: str, clear: str, *bases: str, whole: bool = False) -> tuple[Shape, ...]:
    pairs = tuple(part.split("|") if part else [] for part in (hazy, clear))
    return tuple(Shape(keeper, base, tuple(pairs[0]), tuple(pairs[1]), whole=whole) for base in bases)


def _field(bases: str, role: str, *own: str) -> tuple[Shape, ...]:
    """Return the shapes of the repositories that put {train,test} below the name of a set, and of BasicSR's heirs."""
    places = [f"{base}/{role}" for base in bases.split("|")]
    clear = "clear" if role == "train" else "gt"
    return (
        *_shapes("DehazeFormer", "hazy", "GT", *places, *own),
        *_shapes("c-yn", "hazy", "gt", *places, *own),
        *_shapes("DEA-Net", "hazy", "clear", *places, *own),
        *_shapes("Fourier-RWKV", "hazy", clear, *places),
        *_shapes("gUNet", "IN", "GT", *places, *own),
        *_shapes("BasicSR", "hazy|lq|LQ|input", "gt_new", *places, *own),
        *_shapes("Restormer", "input", "target", *places, *own),
    )


_ADAIR = tuple(
    Shape("AdaIR", base, ("synthetic/part*", "synthetic"), ("original",), "data_dir/hazy/hazy_outside.txt")
    for base in ("Train/Dehaze", "ots")
)
_REAL = "hazy and clear share a number: NN_hazy and NN_GT, or equal names"


def _satehaze(level: str) -> KnownSet:
    name = f"Haze1k_{level}"
    bases = (
        f"satehaze1k_{level}|{name}/dataset|Haze1k/{name}/dataset|{name}|Haze1k/{name}|Sate_1K/{name}|SateHaze1k/{name}"
    )
    return KnownSet(
        f"SateHaze1k, {level} haze",
        _part(Version("", 320, 320, _TILE, _TILE), "equal names", _field(bases, "train")),
        _part(Version("", 45, 45, _TILE, _TILE), "equal names", _field(bases, "test")),
        note="split sizes 320/35/45 are unverified",
    )


def _ntire(title: str, own: str, official: str, num: int, size: tuple[int, int] | None, note: str = "") -> KnownSet:
    """Return a set of `num` real pairs: the last five are the test, and the challenge held out the five before too."""
    first, challenge = f"first{num - 5}", f"first{num - 10}"
    folders = f"{own}|{official}"
    whole = [*_shapes("official", "hazy|.", "GT|.", *folders.split("|"), whole=True)]
    doubled = [*_shapes("official", "hazy|.", "GT|.", *(f"{b}/{b}" for b in official.split("|")), whole=True)]
    count = Version("", num - 5, num - 5, size, size), Version("", 5, 5, size, size)
    return KnownSet(
        title,
        _part(count[0], _REAL, _field(folders, "train"), tuple(whole), tuple(doubled)),
        _part(count[1], _REAL, _field(folders, "test"), tuple(whole), tuple(doubled)),
        splits=(
            (first, {"train": (1, num - 5), "test": (num - 4, None)}),
            (challenge, {"train": (1, num - 10), "val": (num - 9, num - 5), "test": (num - 4, None)}),
        ),
        note=note,
    )


def _rice(number: int, num: int, test: int) -> KnownSet:
    name = f"RICE{number}"
    bases = f"rice{number}|RICE/{name}|RICE_DATASET/{name}"
    whole = _shapes("official", "cloud", "label", *bases.split("|"), whole=True)
    return KnownSet(
        f"{name}, thin and thick clouds over satellite pictures",
        _part(Version("", num - test, num - test, _TILE, _TILE), "equal names", _field(bases, "train"), whole),
        _part(Version("", test, test, _TILE, _TILE), "equal names", _field(bases, "test"), whole),
        splits=(("last_fifth", {"train": (0, num - test - 1), "test": (num - test, None)}),),
        note="the set has no official split; last_fifth is ours" + (", 450 pairs in the paper" if number == 2 else ""),
    )


def _clips(role: str) -> tuple[Shape, ...]:
    bases = [f"{base}/{role}" for base in ("REVIDE", "REVIDE/REVIDE_indoor", "REVIDE_indoor")]
    return tuple(Shape("official", base, ("hazy",), ("gt",), clips=1) for base in bases)


def _hazeworld(role: str) -> tuple[Shape, ...]:
    linked = Shape("MAP-Net", f"HazeWorld/{role}", ("hazy",), ("gt",), clips=2)
    return linked, Shape("official", "HazeWorld", ("hazy",), ("gt",), clips=2, mapped=role)


_HAZE4K = "hazy id_A_beta, clear id"
KNOWN: dict[str, KnownSet] = {
    "its": KnownSet(
        "RESIDE ITS, indoor training set",
        train=_part(
            (Version("v2", 13_990, 1_399, _INDOOR, _INDOOR), Version("v0", 110_000, 1_399, _INDOOR, _RIM)),
            "hazy id_k_A.png, clear id.png",
            _shapes("FFA-Net", "hazy", "clear", "ITS", "its", "ITS_v2", "ITS/train"),
            _shapes("own", "hazy", "gt", "its", "ITS_v2"),
            _shapes("gUNet", "IN", "GT", "ITS"),
            _shapes("BasicSR", "hazy|lq|LQ|input", "gt_new", "ITS"),
            _shapes("DehazeFormer", "hazy", "GT", "RESIDE-IN/train"),
            _shapes("c-yn", "hazy", "gt", "reside-indoor/train"),
            _field("ITS|its|reside-indoor|RESIDE-IN", "train"),
        ),
        note="the count of v0 is second-hand",
    ),
    "ots": KnownSet(
        "RESIDE OTS, outdoor training set",
        train=_part(
            (Version("beta", 72_135, 2_061), Version("v0", 313_950, 8_970)),
            "hazy id_A_beta.jpg, clear id.jpg",
            _shapes("FFA-Net", "hazy", "clear", "OTS", "ots", "OTS_BETA", "OTS/train"),
            _shapes("official", "haze/*|hazy/part*|haze", "clear/clear|clear", "OTS_BETA", "OTS"),
            _shapes("own", "hazy", "gt", "ots", "OTS_BETA"),
            _shapes("gUNet", "IN", "GT", "OTS"),
            _shapes("BasicSR", "hazy|lq|LQ|input", "gt_new", "OTS"),
            _shapes("DehazeFormer", "hazy", "GT", "RESIDE-OUT/train"),
            _shapes("c-yn", "hazy", "gt", "reside-outdoor/train"),
            _field("OTS|ots|reside-outdoor|RESIDE-OUT", "train"),
            _ADAIR,
        ),
        note="75 of the 492 scenes of SOTS-outdoor are in OTS beta, more in v0",
    ),
    "sots_indoor": KnownSet(
        "RESIDE SOTS-indoor, test set",
        test=_part(
            Version("", 500, 50, _INDOOR, _RIM),
            "hazy 1400_1.png to 1449_10.png, clear 1400.png to 1449.png",
            _shapes("official", "hazy", "gt", "SOTS/indoor", "SOTS/indoor/nyuhaze500", "sots_indoor"),
            _shapes("FFA-Net", "hazy", "clear", "SOTS/indoor", "ITS/test"),
            _shapes("gUNet", "IN", "GT", "SOTS-IN"),
            _shapes("DehazeFormer", "hazy", "GT", "RESIDE-IN/test"),
            _shapes("c-yn", "hazy", "gt", "reside-indoor/test"),
            _shapes("BasicSR", "hazy|lq|LQ|input", "gt_new", "SOTS/indoor", "SOTS-IN"),
            _field("ITS|sots_indoor|reside-indoor|RESIDE-IN", "test"),
        ),
        note="clear pictures have a white rim: 10 px are cut from each side",
    ),
    "sots_outdoor": KnownSet(
        "RESIDE SOTS-outdoor, test set",
        test=_part(
            Version("", 500, 492),
            "hazy 0001_0.8_0.2.jpg, clear 0001.png",
            _shapes("official", "hazy", "gt", "SOTS/outdoor", "sots_outdoor"),
            _shapes("FFA-Net", "hazy", "clear", "SOTS/outdoor", "OTS/test"),
            _shapes("gUNet", "IN", "GT", "SOTS-OUT"),
            _shapes("DehazeFormer", "hazy", "GT", "RESIDE-OUT/test"),
            _shapes("c-yn", "hazy", "gt", "reside-outdoor/test"),
            _shapes("BasicSR", "hazy|lq|LQ|input", "gt_new", "SOTS/outdoor", "SOTS-OUT"),
            _shapes("AdaIR", "input", "target", "test/dehaze"),
            _field("OTS|sots_outdoor|reside-outdoor|RESIDE-OUT", "test"),
        ),
        note="results depend on the JPEG decoder",
    ),
    "hsts": KnownSet(
        "RESIDE HSTS, its 10 synthetic pairs",
        test=_part(
            Version("", 10, 10),
            "equal names",
            _shapes("official", "synthetic", "original", "HSTS/synthetic", "hsts/synthetic"),
            _shapes("own", "hazy", "gt", "hsts", "HSTS"),
        ),
    ),
    "hsts_real": KnownSet(
        "RESIDE HSTS, its 10 real pictures",
        test=_part(
            Version("", 10, 0),
            "any names, no clear pictures",
            _shapes("official", "real-world|real", "", "HSTS"),
            _shapes("own", "hazy|.", "", "hsts_real"),
            truth=False,
        ),
    ),
    "rtts": KnownSet(
        "RESIDE RTTS, real pictures with annotated objects",
        test=_part(
            Version("", 4_322, 0),
            "names of the sources, in the folders of VOC; no clear pictures",
            _shapes("official", "JPEGImages", "", "RTTS", "RTTS/RTTS", "test/RTTS"),
            _shapes("own", "hazy|.", "", "RTTS"),
            truth=False,
        ),
    ),
    "urhi": KnownSet(
        "RESIDE URHI, real pictures",
        test=_part(
            Version("", 4_809, 0),
            "any names, no clear pictures",
            _shapes("official", ".", "", "UnannotatedHazyImages", "UnannotatedHazyImages/UnannotatedHazyImages"),
            _shapes("official", ".", "", "test/UnannotatedHazyImages"),
            _shapes("own", "hazy|UnannotatedHazyImages|.", "", "URHI", "UHI"),
            truth=False,
        ),
        note="the count is second-hand",
    ),
    "reside_6k": KnownSet(
        "RESIDE-6K, indoor and outdoor mixed",
        _part(Version("", 6_000, 6_000, _SMALL, _SMALL), "equal names", _field("RESIDE-6K", "train")),
        _part(Version("", 1_000, 1_000), "equal names", _field("RESIDE-6K", "test")),
        note="the training size of 400x400 is unverified",
    ),
    "haze4k": KnownSet(
        "Haze4K",
        _part(
            Version("", 3_000, 3_000, _SMALL, _SMALL),
            _HAZE4K,
            _shapes("official", "haze", "gt", "Haze4K/train"),
            _field("Haze4K", "train"),
        ),
        _part(
            Version("", 1_000, 1_000, _SMALL, _SMALL),
            _HAZE4K,
            _shapes("official", "haze", "gt", "Haze4K/test"),
            _field("Haze4K", "test"),
        ),
    ),
    "rshaze": KnownSet(
        "RS-Haze, satellite pictures",
        _part(Version("", 51_300, 51_300, _TILE, _TILE), "equal names id_k_w.png", _field("RSHaze", "train")),
        _part(Version("", 2_700, 2_700, _TILE, _TILE), "equal names id_k_w.png", _field("RSHaze", "test")),
        note="54,000 in all; the training count is unverified",
    ),
    "satehaze1k_thin": _satehaze("thin"),
    "satehaze1k_moderate": _satehaze("moderate"),
    "satehaze1k_thick": _satehaze("thick"),
    "rice1": _rice(1, 500, 100),
    "rice2": _rice(2, 736, 148),
    "o_haze": _ntire("O-HAZE, real outdoor pairs", "o_haze", "O-HAZE|O-HAZY|# O-HAZY NTIRE 2018", 45, None),
    "i_haze": _ntire("I-HAZE, real indoor pairs", "i_haze", "I-HAZE|I-HAZY|# I-HAZY NTIRE 2018", 35, None),
    "dense_haze": _ntire(
        "Dense-HAZE, real pairs",
        "dense_haze",
        "Dense-HAZE|Dense_Haze_NTIRE19",
        55,
        _MEGAPIXELS,
        "33 pairs in the paper, 55 in the release of NTIRE 2019",
    ),
    "nh_haze": _ntire("NH-HAZE, real pairs under uneven haze", "nh_haze", "NH-HAZE", 55, _MEGAPIXELS),
    "ntire2021": KnownSet(
        "NTIRE 2021, real pictures under uneven haze",
        train=_part(
            Version("", 25, 25, _MEGAPIXELS, _MEGAPIXELS),
            "equal names 01.png to 25.png",
            _shapes("official", "NTIRE2021_Train_Hazy", "NTIRE2021_Train_HazeFree|NTIRE2021_Train_Clear", "."),
            _field("ntire2021", "train"),
        ),
        test=_part(
            Version("", 5, 0, _MEGAPIXELS),
            "31.png to 35.png, no clear pictures",
            _shapes("official", "NTIRE2021_Test_Hazy", "", "."),
            _shapes("own", "hazy|.", "", "ntire2021/test"),
            truth=False,
        ),
    ),
    "revide": KnownSet(
        "REVIDE, frames of real indoor video",
        _part(Version("", 1_698, 1_698, (2_708, 1_800), (2_708, 1_800)), "equal names clip/frame", _clips("train")),
        _part(Version("", 284, 284, (2_708, 1_800), (2_708, 1_800)), "equal names clip/frame", _clips("test")),
        note="48 scenes; the counts of frames are unverified",
    ),
    "hazeworld": KnownSet(
        "HazeWorld, frames of outdoor video under synthetic haze",
        _part((), "SOURCE/VIDEO_A_beta/FRAME.jpg, clear under the same name", _hazeworld("train")),
        _part((), "SOURCE/VIDEO_A_beta/FRAME.jpg, clear under the same name", _hazeworld("test")),
        note="six sources, about 326,000 frames in all (second-hand); no count of a part is known",
    ),
}
