"""What is known of published files of weights: how to recognise them, and how their authors measured.

`PROTOCOLS` is what `eval weights=FILE` takes unless told otherwise.

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
    "oknet": "sfnet",
    "promptir": "promptir",
    "rsdformer": "rsdformer",
    "sfnet": "sfnet",
    "uvmnet": "promptir",
    "vmambair": "basicsr",
}

# A tensor that all published files of a family hold and no other family's, numbers written as #. Families without one
# are told by their tensors alone.
MARKS: dict[str, str] = {
    "aodnet": "e_conv#.weight",
    "c2pnet": "pdu.td.#.weight",
    "casdyfnet": "Decoder.#.merger.#.bias",
    "convir": "Decoder.#.layers.#.main.#.convs.#.weight",
    "deanet": "down#.#.weight",
    "dehazeformer": "layer#.blocks.#.mlp.mlp.#.weight",
    "eamamba": "latent.#.mamba.A_logs",
    "edformer": "fhsd#.proj.weight",
    "ffanet": "g#.gp.#.palayer.pa.#.bias",
    "fourier_rwkv": "decoder.tail.weight",
    "fsnet": "Encoder.#.layers.down.bias",
    "gcanet": "gate.weight",
    "griddehazenet": "conv_in.weight",
    "gunet": "inconv.proj.bias",
    "lightdehazenet": "e_conv_layer#.weight",
    "mair": "latent.#.mlp.fc#.weight",
    "mambairv2": "layers.#.residual_group.layers.#.scale#",
    "mb_taylorformer": "latent.aggregate.fcs.#.weight",
    "mixdehazenet": "layer#.blocks.#.Wv.#.bias",
    "mma": "body.#.ffn.dwconv.weight",
    "msbdn": "convd#x.conv#d.bias",
    "nafnet": "intro.weight",
    "oknet": "bottelneck.conv.bias",
    "promptir": "prompt#.prompt_param",
    "restore_rwkv": "latent.#.gamma#",
    "rsdformer": "DGFB#.w",
    "uformer": "dowsample_#.conv.#.bias",
    "uvmnet": "inc.ub.model#.D",
    "vmambair": "latent.#.attn.Dsc",
}
