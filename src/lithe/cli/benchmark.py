"""lithe benchmark: how long one inference of a model takes on this machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from lithe.cli.output import print_json, working


@click.command("benchmark")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--num-runs", "--num_runs", default=50, show_default=True, type=click.IntRange(1), help="Inferences that count."
)
@click.option("--warmup-runs", "--warmup_runs", default=3, show_default=True, type=click.IntRange(0),
              help="Inferences before, which do not count.")  # fmt: skip
@click.option("--num-threads", "--num_threads", default=1, show_default=True, type=click.IntRange(1))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(model: Path, num_runs: int, warmup_runs: int, num_threads: int, as_json: bool) -> None:
    """Time MODEL on random input: start-up, then inference (median and spread)."""
    with working(f"measuring {model.name}"):
        facts = measure(model, num_runs, warmup_runs, num_threads)
    if as_json:
        print_json("benchmark", facts)
        return
    click.echo(f"{model}, {num_threads} thread(s), {facts['runs']} runs")
    click.echo(f"  load + first inference  {facts['first_ms']:9.3f} ms")
    click.echo(f"  inference, median       {facts['median_ms']:9.3f} ms")
    click.echo(f"  10 % .. 90 %            {facts['p10_ms']:9.3f} .. {facts['p90_ms']:.3f} ms")
    click.echo(f"  least                   {facts['min_ms']:9.3f} ms")


def measure(path: Path, runs: int, warmup: int, threads: int) -> dict[str, Any]:
    """Milliseconds: first_ms (load and first inference), and the distribution of the later ones."""
    import lithe

    started = time.perf_counter()
    model = lithe.load(path, num_threads=threads)
    model.benchmark(1, warmup=0)
    first = (time.perf_counter() - started) * 1e3
    timing = model.benchmark(runs, warmup=warmup)
    return {"model": str(path), "num_threads": threads, "first_ms": first, **timing.to_dict()}
