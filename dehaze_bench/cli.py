"""argv to one function per verb. Heavy imports happen inside the verbs, so help, `ls` and `table` answer at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from dehaze_bench import arguments, help
from dehaze_bench.arguments import Arguments
from dehaze_bench.errors import BenchError, UsageError, nearest


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point; exits with 0, or with the code of the error: 2 usage, 1 failed job, 75 requeue."""
    # Must stand before torch is imported. OpenMP's threads otherwise spin while they wait, and on a machine that others
    # use too a training step then takes five to ten times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(run(list(sys.argv[1:] if argv is None else argv)))


def run(argv: Arguments) -> int:
    """Do one verb and return the exit code."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        if len(argv) > 1 and argv[1] not in help.VERBS:
            return _fail(UsageError(f"Unknown verb '{argv[1]}'. {nearest(argv[1], VERBS)}"))
        print(help.VERBS[argv[1]] if len(argv) > 1 else help.OVERVIEW, end="")
        return 0 if argv else 2
    if argv[0] in ("-V", "--version"):
        from dehaze_bench import __version__

        print(f"dehaze-bench {__version__}")
        return 0
    verb, rest = argv[0], argv[1:]
    if verb not in VERBS:
        return _fail(UsageError(f"Unknown verb '{verb}'. {nearest(verb, VERBS)}"))
    if any(text in ("-h", "--help") for text in rest):
        print(help.VERBS[verb], end="")
        return 0
    try:
        return VERBS[verb](rest)
    except BenchError as error:
        return _fail(error)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output closed it: `| head`
        sys.stderr.close()
        return 0
    except OSError as error:  # a file that cannot be read or written, most often a path that the user gave
        if error.filename is None:
            raise
        return _fail(UsageError(f"{error.filename}: {error.strerror}. Check the path, and that you may write there."))


def _fail(error: BenchError) -> int:
    print(f"dehaze-bench: {error}", file=sys.stderr)
    return error.exit_code


def train(argv: Arguments) -> int:
    """One run, or many with -m."""
    many, argv = arguments.flag(argv, "-m", "--multirun")
    shown, argv = arguments.option(argv, "--cfg")
    arguments.only_overrides("train", argv)
    if many:
        return _train_many(argv)
    from dehaze_bench.compose import compose_run

    composed = compose_run(argv)
    if shown is not None:
        from omegaconf import OmegaConf

        if shown != "job":
            raise UsageError(f"--cfg {shown} is unknown: use --cfg job.")
        print(OmegaConf.to_yaml(composed.cfg), end="")
        return 0
    from dehaze_bench import run

    return _report(run.train(composed))


def _train_many(argv: Arguments) -> int:
    from dehaze_bench.compose import expand
    from dehaze_bench.launch import label_rows, launch, split_launcher

    launcher, overrides = split_launcher(argv)
    if any(text.startswith("weights=") for text in overrides):
        raise UsageError("train starts from nothing: weights=FILE is for eval and restore. Leave it out.")
    rows = expand(overrides)
    return _summary(launch(label_rows(overrides, rows), rows, launcher))


def evaluate(argv: Arguments) -> int:
    """Old weights on a test set, under a protocol."""
    run_id, argv = arguments.assignment(argv, "run")
    arguments.only_overrides("eval", argv)
    from dehaze_bench import run, source

    return _report(run.evaluate(source.compose_for(argv, run_id), run_id))


def sweep(argv: Arguments) -> int:
    """Every run of an experiment, then its table."""
    dry, argv = arguments.flag(argv, "--dry-run", "-n")
    rerun, argv = arguments.assignment(argv, "rerun")
    if rerun not in (None, "failed"):
        raise UsageError(f"rerun={rerun} is unknown: use rerun=failed, or leave it out.")
    name, argv = arguments.positional(argv, "sweep", "an experiment")
    arguments.only_overrides("sweep", argv)
    from dehaze_bench import sweep as sweeps
    from dehaze_bench.launch import check_launcher, split_launcher

    launcher, overrides = split_launcher(argv)
    check_launcher(launcher)
    plan = sweeps.plan(name, overrides)
    wanted = [p for p in plan.runs if p.state != "done" and (p.state != "failed" or rerun == "failed")]
    done = sum(p.state == "done" for p in plan.runs)
    print(f"{plan.experiment.name}: {len(plan.runs)} runs, {done} done, {len(wanted)} to do", file=sys.stderr)
    if dry:
        for planned in plan.runs:
            print(f"{planned.state:12}{planned.name}  {planned.label}")
        return 0
    code = 0
    if wanted:
        from dehaze_bench.launch import launch

        sweeps.check_columns(plan)
        if not launcher:  # other machines may see other data
            sweeps.check_data(wanted)
        ready = [p for p in wanted if p.state != "waiting"]
        statuses = launch([p.label for p in ready], [p.overrides for p in ready], launcher) if ready else []
        plan = sweeps.plan(name, overrides)
        if waiting := {p.job for p in wanted if p.state == "waiting"}:  # rows that measure what was just trained
            ready = [p for p in plan.runs if p.job in waiting and p.state not in ("waiting", "done")]
            statuses += launch([p.label for p in ready], [p.overrides for p in ready], launcher) if ready else []
            plan = sweeps.plan(name, overrides)
        code = _summary(statuses)
    for planned in plan.runs:
        if planned.state == "failed" and planned.id not in {p.id for p in wanted}:
            print(
                f"failed before: {planned.label}: {planned.reason} (rerun=failed tries again)",
                file=sys.stderr,
            )
            code = max(code, 1)
    table = sweeps.table_of(plan)
    _print_table(table)
    tables = sweeps.write_table(table, plan.tables_dir)
    _print_tracked(plan, table)
    print("table:   ", *tables)
    return code


def table(argv: Arguments) -> int:
    """The table of an experiment."""
    from dehaze_bench import tabling

    return tabling.run(argv)


def report(argv: Arguments) -> int:
    """A folder of runs as static pages."""
    from dehaze_bench import reporting

    return reporting.run(argv)


def publish(argv: Arguments) -> int:
    """Runs and tables to W&B, from their files."""
    from dehaze_bench import publication

    return publication.run(argv)


def ls(argv: Arguments) -> int:
    """What there is to choose from."""
    failed, argv = arguments.flag(argv, "--failed")
    what = argv[0] if argv and "=" not in argv[0] and not argv[0].startswith("-") else None
    arguments.only_overrides("ls", argv[1:] if what else argv)
    from dehaze_bench import listing

    print(listing.lines(what, argv[1:] if what else argv, failed))
    return 0


def check(argv: Arguments) -> int:
    """Everything that can be known before a run starts."""
    if argv and "=" not in argv[0] and not argv[0].startswith(("-", "~")):
        from dehaze_bench import sweep as sweeps

        name, argv = arguments.positional(argv, "check", "an experiment")
        print(sweeps.check(name, argv))
        return 0
    arguments.only_overrides("check", argv)
    from dehaze_bench import build
    from dehaze_bench.compose import compose_run

    build.check_all(compose_run(argv).cfg)
    print("sound")
    return 0


def show(argv: Arguments) -> int:
    """A composed config, its identity and its cost; or a scan on a grid."""
    as_json, argv = arguments.flag(argv, "--json")
    grid, argv = arguments.assignment(argv, "grid")
    out, argv = arguments.assignment(argv, "out")
    arguments.only_overrides("show", argv)
    if as_json or grid is not None or out is not None:
        return _show_scan(argv, grid, out, as_json)
    from omegaconf import OmegaConf

    from dehaze_bench import build, config, counting
    from dehaze_bench.compose import compose_run

    composed = compose_run(argv)
    build.check(composed.cfg)
    identity = config.identify(config.scientific(composed.cfg), composed.choices)
    network = build.meta_model(composed.cfg)
    print(OmegaConf.to_yaml(composed.cfg), end="")
    print(f"# run {identity.name}")
    print(f"# parameters {counting.count_params(network):,}")
    if build.trainable(network):
        print(f"# multiply-adds at 256x256 {counting.count_macs(network):,.0f}")
    return 0


def _show_scan(argv: Arguments, grid: str | None, out: str | None, as_json: bool) -> int:
    if not any(text.startswith("scan=") for text in argv):
        raise UsageError("grid=, out= and --json need a scan to show: dehaze-bench show scan=cross grid=16x16.")
    for text in argv:
        if not text.lstrip("+~").startswith(("scan=", "scan.")):
            raise UsageError(f"A scan on a grid takes scan=NAME and scan.KEY=VALUE only, not '{text}'.")
    from omegaconf import OmegaConf

    from dehaze_bench.compose import compose_run
    from dehaze_bench.registry import list_choices
    from dehaze_bench.scans import catalogue, sheet

    composed = compose_run(argv)
    name = composed.choices["scan"]
    node = OmegaConf.to_container(composed.cfg.scan, resolve=True)
    print(sheet.look(catalogue.from_node(name, node, list_choices("scan")[name]), grid, out, as_json))
    return 0


def verify(argv: Arguments) -> int:
    """Golden fixtures."""
    as_json, argv = arguments.flag(argv, "--json")
    samples, argv = arguments.option(argv, "--samples")
    for text in argv:
        if text.startswith("-"):
            raise UsageError(f"Unknown option '{text}' of verify. {nearest(text, ['--json', '--samples'])}")
    if not argv:
        raise UsageError("verify needs fixture folders or scan files, for example ../shared/golden/ops_bi_wkv.")
    from dehaze_bench import verify as verifying

    default = Path("..") / "shared" / "samples"
    folder = Path(samples) if samples else (default if default.is_dir() else None)
    report = verifying.verify([Path(text) for text in argv], folder)
    print(verifying.to_json(report) if as_json else verifying.render(report))
    return report.exit_code


def data(argv: Arguments) -> int:
    """Data sets: what is there, whether it is sound, packed copies, synthetic haze."""
    from dehaze_bench import datasets

    return datasets.run(argv)


def profile(argv: Arguments) -> int:
    """Cost over resolution."""
    from dehaze_bench import profile as profiles

    return profiles.run(argv)


def restore(argv: Arguments) -> int:
    """Photographs and folders."""
    from dehaze_bench import restoration

    return restoration.run(argv)


def env(argv: Arguments) -> int:
    """Versions, device, backends."""
    as_json, argv = arguments.flag(argv, "--json")
    arguments.only_overrides("env", argv)
    from dehaze_bench import environment

    print(environment.to_text(environment.describe_environment("cpu"), as_json))
    return 0


def export(argv: Arguments) -> int:
    """A trained network as one file."""
    from dehaze_bench import exporting

    return exporting.run(argv)


def new(argv: Arguments) -> int:
    """The files of an own experiment, scan or model."""
    from dehaze_bench import scaffold

    return scaffold.run(argv)


def completion(argv: Arguments) -> int:
    """Shell completion."""
    from dehaze_bench import completion as completing

    return completing.run(argv)


VERBS: dict[str, Callable[[Arguments], int]] = {
    "train": train,
    "eval": evaluate,
    "sweep": sweep,
    "table": table,
    "report": report,
    "publish": publish,
    "profile": profile,
    "restore": restore,
    "export": export,
    "ls": ls,
    "show": show,
    "check": check,
    "verify": verify,
    "data": data,
    "env": env,
    "new": new,
    "completion": completion,
}


NO_TRUTH = "no clear pictures to compare with: see images/"


def _report(outcome: object) -> int:
    from dehaze_bench.run import Outcome, is_first

    assert isinstance(outcome, Outcome)
    if not is_first():  # of the processes that torchrun started one speaks for all
        return 0
    found = outcome.record.evaluation
    values = "  ".join(f"{name} {value.mean:.4f}" for name, value in found.metrics.items())
    how = "was done before" if outcome.skipped else "done"
    print(f"{outcome.path} {how}: {found.testset} ({found.protocol}, n={found.n})  {values or NO_TRUTH}")
    if (directions := outcome.directions()) is not None:
        print(f"found {directions}")
    return 0


def _summary(statuses: Sequence[object]) -> int:
    """List what did not succeed, last; the exit code is 1 if a row failed, else 75 if one was stopped."""
    from dehaze_bench.launch import Status

    found = [status for status in statuses if isinstance(status, Status)]
    counts = {state: sum(s.state == state for s in found) for state in ("done", "skipped", "failed", "requeue")}
    print(", ".join(f"{n} {state}" for state, n in counts.items() if n) or "nothing to do", file=sys.stderr)
    for status in found:
        if status.state in ("failed", "requeue"):
            print(f"{status.state}: {status.label}: {status.message}  [{status.run}]", file=sys.stderr)
    return 1 if counts["failed"] else 75 if counts["requeue"] else 0


def _print_table(made: object) -> None:
    from dehaze_bench.results.cells import Table
    from dehaze_bench.results.renderers import print_table

    assert isinstance(made, Table)
    print_table(made)


def _print_tracked(plan: object, made: object) -> None:
    from dehaze_bench import sweep as sweeps
    from dehaze_bench.results.cells import Table

    assert isinstance(plan, sweeps.Plan)
    assert isinstance(made, Table)
    if plan.track == "disabled":
        return
    for path in sweeps.tracked(plan):
        print("W&B run: ", path)
    for place in sweeps.publish(made, plan):
        print("W&B table:", place)
