"""The texts of `--help`: plain data, so that help answers before anything heavy is imported."""

from __future__ import annotations

OVERVIEW = """\
dehaze-bench: train, evaluate and compare image-dehazing networks under one named protocol.

usage: dehaze-bench VERB [group=choice] [key=value] ...

runs
  train      one run, or many with -m: finished runs are skipped, interrupted ones resume
  eval       measure old weights on another test set or under another protocol
  sweep      all runs of an experiment file, then its table
  profile    parameters, MACs, time and memory over resolution
  restore    dehaze photographs and folders
  export     a trained network as one file: safetensors, torch.export, ONNX
results
  table      the table of an experiment, from the runs that are done
  report     a folder of runs as static pages: tables, curves, before and after
  publish    runs and tables to W&B, from their files
  ls         models, scans, datasets, testsets, protocols, experiments, runs, ...
looking and checking
  show       a composed config, or a scan over a grid: its numbers and its picture
  check      everything that can be known before a run starts
  verify     golden fixtures: our output against the published one
  data       data sets under a root: info, verify, prepare, synthesize
  env        versions, device, operator backends
adding
  new        the files of an own experiment, scan or model, and a test that fails until they are filled in
  completion a script that completes verbs, groups and choices in bash, zsh or fish

`dehaze-bench VERB --help` shows the options and examples of a verb. Exit codes: 0 done, 1 a job failed,
2 the request cannot be right, 75 stopped by a signal and saved (start it again to go on).
"""

VERBS: dict[str, str] = {
    "train": """\
usage: dehaze-bench train [-m] [--cfg job] [group=choice] [key=value] ...

Compose one run, train it, evaluate it, and write result.json last. The directory is runs/<slug>-<hash8>/, where the
hash is that of the scientific half of the config: the same command finds its directory again, skips a finished run
and resumes an interrupted one. With -m, comma-separated values make one run each, through any Hydra launcher.

A search of scan directions (model/backbone=localvim_search or localvmamba_search) ends with the override that trains
the network it found; its directory also holds directions.json with the weight of every direction in every layer.

examples
  dehaze-bench train                                            the default: U-Net with Mamba on dead leaves
  dehaze-bench train model/mixer=wkv scan=cross seed=1          choose the mixer and the scan
  dehaze-bench train model.match.params=150k train.steps=2000   solve the width for a budget
  dehaze-bench train -m scan=raster,cross,random seed=0,1       six runs
  dehaze-bench train dataset=its testset=sots_indoor paths.data=/data/RESIDE recipe=dehazeformer_its
  dehaze-bench train runtime.precision=bf16 track=wandb         mixed precision, offline W&B files
  dehaze-bench train --cfg job scan=cross                       print the config and stop
""",
    "data": """\
usage: dehaze-bench data info       [NAME ...] [--root DIR] [--json]
       dehaze-bench data verify     NAME ...   [--root DIR] [--json FILE] [--html FILE] [--workers N]
                                              [--sample N] [--fresh]
       dehaze-bench data prepare    NAME ...   [--root DIR] [--out DIR] [--png] [--workers N]
       dehaze-bench data synthesize RECIPE --clear DIR --depth DIR --out DIR [--workers N] [key=value] ...
       dehaze-bench data synthesize rshaze --clear DIR --cirrus DIR --out DIR [--workers N] [key=value] ...

info says which data sets and folder layouts lie under the root and compares counts with the published ones. verify
decodes every file, checks pairs, sizes and alignment and looks for duplicates; findings make the exit code 1.
prepare packs a set for fast random crops, or copies it as PNG, which no JPEG decoder can change. synthesize makes haze
from clear pictures and depth. The root is DEHAZE_DATA, or ./data, unless --root says otherwise; dataset.KEY=VALUE and
testset.KEY=VALUE change a set, and dataset.root may be a packed copy. --fresh forgets what was verified before.

examples
  dehaze-bench data info --root /data/RESIDE
  dehaze-bench data verify its sots_indoor --root /data/RESIDE --html report.html
  dehaze-bench data prepare its --root /data/RESIDE
  dehaze-bench data synthesize its --clear nyu/rgb --depth nyu/depth --out made margin=10
""",
    "eval": """\
usage: dehaze-bench eval run=ID [testset=NAME] [protocol=NAME] [key=value] ...
       dehaze-bench eval model=NAME weights=FILE [testset=NAME] [protocol=NAME] ...

Measure weights that exist: those of a finished run (by its id or directory name), or a file. The result is a run of
its own with its own directory; nothing of the old one changes.

examples
  dehaze-bench eval run=5b2c44cd protocol=full_y                the same weights on luminance
  dehaze-bench eval run=5b2c44cd testset=sots_indoor paths.data=/data/RESIDE
  dehaze-bench eval model=aodnet weights=dehazer.pth testset=sots_indoor protocol=dehazeformer
""",
    "sweep": """\
usage: dehaze-bench sweep EXPERIMENT [--dry-run] [rerun=failed] [hydra/launcher=NAME] [key=value] ...

Do every run of an experiment file (a path or a name; ./experiments is searched first), then print and write its
table. Finished runs are skipped, failed ones too unless rerun=failed; one failing row never stops the others.

examples
  dehaze-bench sweep experiments/demo.yaml                      the demonstration
  dehaze-bench sweep demo --dry-run                             what would be run, and what is done
  dehaze-bench sweep demo rerun=failed                          try failed rows again
  dehaze-bench sweep demo hydra/launcher=joblib                 several at a time (extra: sweep)
""",
    "table": """\
usage: dehaze-bench table EXPERIMENT [--format console|md|csv|tex|html|json] [--out FILE] [--sort COLUMN]
                          [--where CONDITION ...] [--baseline LABEL] [--compare METRIC]
                          [--plot FILE] [--cost COLUMN] [--ranks FILE] [--publish] [key=value] ...

Print the table of an experiment from the runs that are done. Missing and failed rows are shown as such. --sort and
--where take any column, also label, kind, n, testset, protocol, select and choices such as mixer or scan; --sort=-psnr
is worst first. --baseline adds to each row its difference to that row, image by image and averaged over seeds first:
bootstrap interval, p of Wilcoxon's test after Holm's correction, n, and what may be said of it (columns difference, p,
verdict). Experiments may name a baseline themselves (keys baseline, compare, unit). --plot draws quality against cost
with the Pareto front, --ranks the critical-difference diagram of Friedman's and Nemenyi's tests, as .svg, .png or .pdf
(extra: plots). --publish also writes the table as an offline W&B run under the tables folder.

examples
  dehaze-bench table demo
  dehaze-bench table demo --sort=-params --where 'psnr>15' --where scan=cross
  dehaze-bench table demo --baseline "Mamba, random" --ranks ranks.svg --plot cost.svg --cost params
  dehaze-bench table demo --format csv --out demo.csv           values, spread, n, protocol and run ids per cell
  dehaze-bench table experiments/sots_indoor.yaml --format tex
""",
    "report": """\
usage: dehaze-bench report [RUNS] [EXPERIMENT ...] [--out FOLDER] [key=value] ...

One static folder that works without a network: a leaderboard with sort and filter, a page per run (curves, config,
environment, images before and after), plots and tests. RUNS is the folder of runs (runs/ unless named), FOLDER is
report/ unless named; experiments add their tables.

examples
  dehaze-bench report runs/ --out report/
  dehaze-bench report runs/ demo
""",
    "publish": """\
usage: dehaze-bench publish RUN|RUNS|EXPERIMENT ... [--table] [track.mode=online|offline] [track.project=NAME]
                            [track.entity=NAME] [track.max_images=N] [track.patience=SECONDS] [paths.runs=DIR]

Replay finished, failed and interrupted runs (a directory, an id, or a folder of them) to W&B from what lies in their
directories: history, configuration, result, a table of images per test set, the scan. An experiment is its runs and
its table, with links to them and the plots beside it; --table leaves out the runs. A run keeps its id, and what the
server holds is not sent again, so publish as often as you like. Weights are not sent: their hash is.

online needs a server and a key (`wandb login`, WANDB_BASE_URL); offline writes files for `wandb sync`. What could not
be sent within track.patience seconds each (300) is named, and the exit code is 1.

examples
  dehaze-bench publish runs/                                    everything that is done or has failed
  dehaze-bench publish 5b2c44cd track.project=dehazing track.entity=my_team
  dehaze-bench publish demo                                     an experiment: its runs, then its table
""",
    "ls": """\
usage: dehaze-bench ls [models|mixers|scans|datasets|testsets|optimizers|schedules|losses|protocols|recipes|
                        experiments|runs] [--failed] [paths.runs=DIR]

Choices with the first line of their files. Scans also with their locality on 16x16 (volumes: 4x8x8), the mean distance
along the route between neighbours of the grid, in steps; and the same by the nearest of their routes.

examples
  dehaze-bench ls                                               what there is to list
  dehaze-bench ls scans
  dehaze-bench ls runs --failed
""",
    "check": """\
usage: dehaze-bench check [group=choice] [key=value] ...
       dehaze-bench check EXPERIMENT

Everything that can be known before a run starts: names, keys, values, compatibility, a forward pass without memory,
the data. Writes nothing.

examples
  dehaze-bench check model/mixer=mamba scan=cross train.crop=120
  dehaze-bench check experiments/demo.yaml
""",
    "show": """\
usage: dehaze-bench show [group=choice] [key=value] ...
       dehaze-bench show scan=NAME [grid=HxW|TxHxW] [out=FILE] [--json] [scan.key=value] ...

Print the composed config, its identity and what the network costs. Writes nothing.

With grid=, out= or --json: how a scan walks over a grid (8x8 or 3x4x4 unless given). Per route its length, padding,
visits per token, jumps between successive tokens, locality (the mean distance along the route between neighbours of
the grid, in steps), the share of neighbours at most 4 steps apart, and the directions of its moves. out= also draws
the routes, as .png, .svg or .pdf (extra: plots).

examples
  dehaze-bench show model/mixer=attention model.match.params=150k
  dehaze-bench show scan=cross grid=16x16 out=scan.png          statistics and a picture
  dehaze-bench show scan=random scan.order.seed=3 grid=8x8 --json
""",
    "verify": """\
usage: dehaze-bench verify FIXTURE... [--json] [--samples DIR]

Build what a golden fixture describes, run it, and print the relative error of every array beside its tolerance.
Exit code 1 if one is above, 2 if a fixture cannot be checked. --samples: real images and published weights.

examples
  dehaze-bench verify ../shared/golden/ops_selective_scan_*
  dehaze-bench verify ../shared/golden/scans/vmamba_cross_4x6.json --json
""",
    "profile": """\
usage: dehaze-bench profile model=NAME,NAME,... [size=N,N,...] [rule=NAME] [train=true] [batch=N] [repeats=N]
                            [limit=SECONDS] [device=cpu] [out=DIR] [key=value] ...
       dehaze-bench profile EXPERIMENT [size=N,N,...] [...]

What networks cost: parameters, multiply-accumulates (MACs) by our rule and by that of each network's paper, latency
(median and quartiles), images per second and peak memory, each size in a process of its own; train=true measures
training steps too. NAME is a model, or a backbone with its classifier. What fails at a size is a row that says so.
Table, CSV, JSON and plot go to out (tables/NAME unless given), with the exponent by which time and memory grow over
pixels. Memory is what a GPU had allocated, or how much the resident set grew on a CPU, there without weights.

For an experiment of runs: every row's network is measured once, at one size (256 unless given), and the answer kept
beside its finished runs, where the columns latency, memory and macs_paper of tables find it.

rule=NAME counts by another rule: ours, dense, mamba, fvcore, vmamba, vim, localvim, videomamba, vrwkv.
Experiments with `kind: profile` name networks and published figures: vim_cost_curve, backbones_imagenet.

examples
  dehaze-bench profile model=vim_t,deit_ti size=128,256,512     sequence model against attention
  dehaze-bench profile model=deit_ti size=512,1024 +model.backbone.fused=false
  dehaze-bench profile model=unet scan=hilbert train=true batch=2
  dehaze-bench profile backbones_imagenet                       parameters and MACs beside the published ones
  dehaze-bench profile demo size=256 device=cpu                 latency and memory for the tables of demo
""",
    "restore": """\
usage: dehaze-bench restore run=ID SOURCE OUT [tile=N] [overlap=N] [ensemble=true] [side_by_side=true]
                            [frames=N] [device=cpu]
       dehaze-bench restore model=NAME [weights=FILE] SOURCE OUT ...

Dehaze a photograph or a folder of them (the frames of a video, say) into PNG files. tile=N cuts large pictures into
blended tiles of N pixels; ensemble=true averages over the eight symmetries of a picture, at eight times the work. A
network of clips sees up to frames=N (5) files at once, in order of name.

examples
  dehaze-bench restore run=5b2c44cd photos/ restored/
  dehaze-bench restore run=5b2c44cd big.jpg restored/ tile=512 overlap=64
  dehaze-bench restore run=0c8a31f2 frames/ restored/ frames=8
  dehaze-bench restore model=dcp photos/ restored/
""",
    "export": """\
usage: dehaze-bench export run=ID FILE [size=N]
       dehaze-bench export model=NAME weights=FILE FILE [size=N]

Write a trained network as one file, whose ending says the format: .safetensors (weights with the config inside), .pt2
(torch.export) or .onnx (extra: onnx). The file is run and compared with the network before it is kept. Where a network
allows it the program takes any size that is a multiple of the network's own, else N x N alone (256).

examples
  dehaze-bench export run=5b2c44cd network.safetensors
  dehaze-bench export run=5b2c44cd network.onnx size=512
""",
    "env": """\
usage: dehaze-bench env [--json]

Versions, device, image decoder, and for every operator which backends are available or why one is off.

examples
  dehaze-bench env
  dehaze-bench env --json
""",
    "new": """\
usage: dehaze-bench new experiment|scan|model NAME

Write the files of an own experiment, scan or model into the working folder (./experiments, ./conf, a module beside
them) with a test that fails until they are filled in. Nothing that exists is overwritten. Code of yours that a config
names must be allowed by DEHAZE_TARGETS.

examples
  dehaze-bench new scan my_scan
  dehaze-bench new model my_network
  dehaze-bench new experiment my_table
""",
    "completion": """\
usage: dehaze-bench completion bash|zsh|fish

Print a script that completes verbs, options, groups, choices, experiments and run ids with the tab key.

examples
  eval "$(dehaze-bench completion bash)"                        for this shell; put it into ~/.bashrc to keep it
  dehaze-bench completion fish > ~/.config/fish/completions/dehaze-bench.fish
""",
}
