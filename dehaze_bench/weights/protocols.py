"""Which protocol the authors of published weights measured with: what `eval weights=FILE` takes unless told otherwise.

Read in the evaluation code of each repository; those without a metric script are not listed, nor are networks that were
never evaluated on haze. Names are those of conf/protocol.
"""

from __future__ import annotations

PROTOCOLS: dict[str, str] = {
    "aecrnet": "ffanet",
    "c2pnet": "ffanet",
    "casdyfnet": "sfnet",
    "convir": "convir",
    "deanet": "ffanet",
    "dehamer": "dehamer",
    "dehazeformer": "dehazeformer",
    "eamamba": "eamamba",
    "edformer": "dehazeformer",
    "ffanet": "ffanet",
    "fourier_rwkv": "sfnet",
    "fsnet": "sfnet",
    "griddehazenet": "griddehazenet",
    "gunet": "dehazeformer",
    "irnext": "convir",
    "mair": "mair",
    "mambair": "basicsr",
    "mambairv2": "basicsr",
    "mb_taylorformer": "mb_taylorformer",
    "mixdehazenet": "dehazeformer",
    "mma": "basicsr",
    "msbdn": "ffanet",
    "oknet": "convir",
    "promptir": "promptir",
    "rsdformer": "rsdformer",
    "sfnet": "sfnet",
    "uvmnet": "promptir",
    "vmambair": "basicsr",
}
