"""Scans by their public names."""

from __future__ import annotations

from hydra.utils import instantiate
from omegaconf import OmegaConf

from dehaze_bench.scans import Scan
from tests.models.backbones.building import CONF


def scan_of(name: str) -> Scan:
    """Return the scan of conf/scan/NAME.yaml."""
    scan: Scan = instantiate(OmegaConf.load(CONF.parents[1] / "scan" / f"{name}.yaml"), _convert_="all")
    return scan
