from __future__ import annotations

from pathlib import Path

import pytest

from dehaze_bench.errors import UsageError
from dehaze_bench.results.experiment import Experiment, find_experiment, list_experiments
from dehaze_bench.results.reference import ReferenceSet

TEXT = """
name: demo
title: A demo
note: "below"
base: [dataset=deadleaves, train.steps=400]
seeds: [0]
rows:
  - {label: hazy input, overrides: [model=identity]}
  - {label: "Mamba, cross", overrides: [model=unet, model/mixer=mamba, +a.b=1, ~c], seeds: [0, 7]}
columns: [params, macs, psnr]
sort: psnr
references: [references/r.yaml]
"""
REFERENCE = """
dataset: sots_indoor
macs_size: [256, 256]
note: about
rows:
  - {label: DehazeFormer-B, psnr: 37.84, ssim: .994, params: 2.514e6, macs: 25.79e9, protocol: dehazeformer,
     source: "arXiv 2204.03883, Table 1", provenance: second-hand}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "references").mkdir()
    (tmp_path / "references" / "r.yaml").write_text(REFERENCE)
    (tmp_path / "demo.yaml").write_text(TEXT)
    return tmp_path


def test_load_and_jobs(folder: Path) -> None:
    experiment = Experiment.load(folder / "demo.yaml")
    assert experiment.columns == ("params", "macs", "psnr")
    assert experiment.references == (folder / "references" / "r.yaml",)
    jobs = experiment.jobs()
    assert [(job.row, job.label, job.seed) for job in jobs] == [
        (0, "hazy input", 0),
        (1, "Mamba, cross", 0),
        (1, "Mamba, cross", 7),
    ]
    base = ("dataset=deadleaves", "train.steps=400")
    assert jobs[0].overrides == (*base, "model=identity", "seed=0")
    assert jobs[2].overrides == (*base, "model=unet", "model/mixer=mamba", "+a.b=1", "~c", "seed=7")


def test_only_name_rows_and_columns_are_needed(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text("name: small\nrows: [{label: a}]\ncolumns: [psnr]\n")
    experiment = Experiment.load(path)
    assert (experiment.title, experiment.note, experiment.sort) == ("small", "", None)
    assert [job.overrides for job in experiment.jobs()] == [("seed=0",)]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("columns:", "colums:", "unknown key 'colums'. Did you mean 'columns'"),
        ("name: demo", "name: a/b", "'name' must consist of"),
        ("name: demo\n", "", "'name' is missing"),
        (
            "overrides: [model=identity]",
            "override: []",
            "row 1: unknown key 'override'. Did you mean 'overrides'",
        ),
        ("[model=identity]", "[model: identity]", "row 1: field 'overrides' must hold texts"),
        ("[model=identity]", "[identity]", "'identity', which is not an override like"),
        ("[model=identity]", "[seed=3]", "sets 'seed=3': list seeds under 'seeds'"),
        ("[model=identity]", "model=identity", "'overrides' must be a list"),
        ("hazy input", '"Mamba, cross"', "repeats 'Mamba, cross'"),
        ("seeds: [0]\n", "seeds: [0, 0]\n", "'seeds' repeats a value"),
        ("seeds: [0]\n", "seeds: [yes]\n", "'seeds' must hold whole numbers, found True"),
        ("columns: [params, macs, psnr]", "columns: []", "'columns' must list at least one"),
        ("columns: [params, macs, psnr]", "columns: [psnr, psnr]", "repeats a column"),
        ("sort: psnr", "sort: psnrr", "'psnrr', which is not a column. Did you mean 'psnr'"),
        ("references/r.yaml", "references/s.yaml", "does not exist. Did you mean 'references/r.yaml'"),
        ("rows:", "rows: []\nx:", "unknown key 'x'"),
        ("seeds: [0]\n", "seeds: [0\n", "not valid YAML"),
    ],
)
def test_malformed_experiment_names_file_and_fault(folder: Path, old: str, new: str, message: str) -> None:
    path = folder / "demo.yaml"
    assert old in TEXT
    path.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(UsageError, match=message) as caught:
        Experiment.load(path)
    assert str(path) in str(caught.value)


def test_a_grid_makes_a_row_for_every_combination(folder: Path) -> None:
    path = folder / "demo.yaml"
    path.write_text(
        "name: demo\nrows: [{label: hazy, overrides: [model=identity]}]\n"
        "grid: {model/mixer: [mamba, wkv], model.patch: [4], scan: [raster, cross]}\ncolumns: [psnr]\nseeds: [0, 1]\n"
    )
    experiment = Experiment.load(path)
    labels = ["hazy", "mamba, raster", "mamba, cross", "wkv, raster", "wkv, cross"]
    assert [row.label for row in experiment.rows] == labels
    assert experiment.rows[2].overrides == ("model/mixer=mamba", "model.patch=4", "scan=cross")
    assert len(experiment.jobs()) == 10


@pytest.mark.parametrize("grid", ["[raster]", "{scan: raster}", "{scan: []}", "{seed: [0, 1]}", "{}"])
def test_a_malformed_grid_is_named(folder: Path, grid: str) -> None:
    path = folder / "demo.yaml"
    path.write_text(f"name: demo\ngrid: {grid}\ncolumns: [psnr]\n")
    with pytest.raises(UsageError, match="field 'grid'"):
        Experiment.load(path)


def test_what_rows_are_compared_with_and_by(folder: Path) -> None:
    path = folder / "demo.yaml"
    plain = Experiment.load(path)
    assert (plain.baseline, plain.compare, plain.unit) == (None, "psnr", "images")
    path.write_text(
        TEXT.replace("macs, psnr]", "macs, psnr, ssim]") + "baseline: hazy input\ncompare: ssim\nunit: scenes\n"
    )
    found = Experiment.load(path)
    assert (found.baseline, found.compare, found.unit) == ("hazy input", "ssim", "scenes")
    path.write_text("name: noref\nrows: [{label: a}]\ncolumns: [params, niqe, musiq]\n")
    assert Experiment.load(path).compare == "niqe"


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("baseline: hazy inpt", "'baseline' is 'hazy inpt'. Did you mean 'hazy input'"),
        ("compare: params", r"'compare' is 'params'\. Choices: psnr"),
        ("unit: image", "'unit' is 'image'. Did you mean 'images'"),
    ],
)
def test_malformed_comparisons_are_named(folder: Path, key: str, message: str) -> None:
    path = folder / "demo.yaml"
    path.write_text(f"{TEXT}{key}\n")
    with pytest.raises(UsageError, match=message):
        Experiment.load(path)


def test_own_folder_shadows_the_packaged_one(folder: Path, tmp_path: Path) -> None:
    packaged = tmp_path / "packaged"
    packaged.mkdir()
    for name in ("demo", "other"):
        (packaged / f"{name}.yaml").write_text(f"name: {name}\nrows: [{{label: a}}]\ncolumns: [psnr]\n")
    (packaged / "bad.yaml").write_text("name: [")
    directories = [folder, packaged, tmp_path / "nowhere"]
    assert find_experiment("demo", directories) == folder / "demo.yaml"
    assert find_experiment("other.yaml", directories) == packaged / "other.yaml"
    assert find_experiment(str(packaged / "demo.yaml"), directories) == packaged / "demo.yaml"
    with pytest.raises(UsageError, match=r"no experiment 'dema' .*Did you mean 'demo'"):
        find_experiment("dema", directories)
    listing = list_experiments(directories)
    assert [(entry.name, entry.title, bool(entry.error)) for entry in listing] == [
        ("bad", "", True),
        ("demo", "A demo", False),
        ("other", "other", False),
    ]


def test_reference_numbers_in_scientific_notation_are_numbers(folder: Path) -> None:
    references = ReferenceSet.load(folder / "references" / "r.yaml")
    assert (references.testset, references.macs_size, references.note) == ("sots_indoor", (256, 256), "about")
    (row,) = references.rows
    assert row.values == {"psnr": 37.84, "ssim": 0.994, "params": 2.514e6, "macs": 25.79e9}
    assert (row.protocol, row.provenance) == ("dehazeformer", "second-hand")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("second-hand", "second hand", "'provenance' is 'second hand'. Did you mean 'second-hand'"),
        ("protocol: dehazeformer,", "", "row 1: field 'protocol' is missing"),
        ("37.84", "n/a", "'psnr' must be a number"),
        ("dataset:", "data:", "unknown key 'data'"),
        ("[256, 256]", "256", r"'macs_size' must be \[height, width\]"),
    ],
)
def test_malformed_reference_names_file_and_fault(folder: Path, old: str, new: str, message: str) -> None:
    path = folder / "references" / "r.yaml"
    path.write_text(REFERENCE.replace(old, new, 1))
    with pytest.raises(UsageError, match=message) as caught:
        ReferenceSet.load(path)
    assert str(path) in str(caught.value)


ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["sots_indoor", "sots_outdoor"])
def test_shipped_references_name_existing_protocols_and_plausible_numbers(name: str) -> None:
    references = ReferenceSet.load(ROOT / "experiments" / "references" / f"{name}.yaml")
    protocols = {path.stem for path in (ROOT / "conf" / "protocol").glob("*.yaml")} | {"unstated"}
    assert references.testset == name
    assert len({row.label for row in references.rows}) == len(references.rows)
    for row in references.rows:
        assert row.protocol in protocols, row.label
        assert set(row.values) <= {"psnr", "ssim", "params", "macs"}, row.label
        assert 10 < row.values["psnr"] < 50, row.label
        assert 0.5 < row.values.get("ssim", 0.9) < 1, row.label
        assert row.values.get("macs", 1e9) > row.values.get("params", 0), row.label
