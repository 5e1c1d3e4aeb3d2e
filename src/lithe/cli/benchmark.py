"""lithe benchmark: how long one inference of a model takes on this machine, alone or against other runtimes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from lithe.cli.output import print_json, table, working


def _numbers(_context: click.Context, _parameter: click.Parameter, text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise click.BadParameter(f"{text!r} is not a list of numbers from 1, as in 1,2")
    return numbers


@click.command("benchmark")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--num-runs", "--num_runs", default=50, show_default=True, type=click.IntRange(1), help="Inferences that count."
)
@click.option("--warmup-runs", "--warmup_runs", default=3, show_default=True, type=click.IntRange(0),
              help="Inferences before, which do not count.")  # fmt: skip
@click.option("--threads", "--num-threads", "--num_threads", default="1", show_default=True, callback=_numbers,
              help="One number, or with --against several, as in 1,2.")  # fmt: skip
@click.option("--against", default="", metavar="PEERS", help="In turns with these: official,openvino,onnxruntime.")
@click.option(
    "--seconds", default=4.0, show_default=True, type=click.FloatRange(0.01), help="Of turns, with --against."
)
@click.option("--fresh", is_flag=True, help="With --against: start-up and memory too, in processes of their own.")
@click.option("--layers", is_flag=True, help="Every step of the program: its time and the least possible.")
@click.option("--tune", is_flag=True, help="Look for the quickest code first, a minute at most; it is kept.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    model: Path, num_runs: int, warmup_runs: int, threads: tuple[int, ...], against: str, seconds: float, fresh: bool,
    layers: bool, tune: bool, as_json: bool,
) -> None:  # fmt: skip
    """Time MODEL on random input: start-up, then inference (median and spread)."""
    if tune and (against or layers):
        raise click.UsageError("--tune goes with neither --against nor --layers")
    if against:
        compare(model, against, threads, seconds, fresh, layers, as_json)
    elif layers:
        steps(model, as_json)
    else:
        if len(threads) > 1 or fresh:
            raise click.UsageError("several numbers of --threads, and --fresh, go with --against")
        alone(model, num_runs, warmup_runs, threads[0], tune, as_json)


def alone(model: Path, runs: int, warmup: int, threads: int, tune: bool, as_json: bool) -> None:
    if tune:  # before: what is found is kept, and starting takes its time without it
        import lithe

        lithe.load(model, num_threads=threads, tune=True).prepare()
    with working(f"measuring {model.name}"):
        facts = measure(model, runs, warmup, threads, tune)
    if as_json:
        print_json("benchmark", facts)
        return
    click.echo(f"{model}, {threads} thread(s), {facts['runs']} runs")
    click.echo(f"  load + first inference  {facts['first_ms']:9.3f} ms")
    click.echo(f"  inference, median       {facts['median_ms']:9.3f} ms")
    click.echo(f"  10 % .. 90 %            {facts['p10_ms']:9.3f} .. {facts['p90_ms']:.3f} ms")
    click.echo(f"  least                   {facts['min_ms']:9.3f} ms")


def measure(path: Path, runs: int, warmup: int, threads: int, tune: bool = False) -> dict[str, Any]:
    """Milliseconds: first_ms (load and first inference), and the distribution of the later ones."""
    import lithe

    started = time.perf_counter()
    model = lithe.load(path, num_threads=threads, tune=tune)
    model.benchmark(1, warmup=0)
    first = (time.perf_counter() - started) * 1e3
    timing = model.benchmark(runs, warmup=warmup)
    return {"model": str(path), "num_threads": threads, "first_ms": first, **timing.to_dict()}


def compare(
    model: Path, against: str, threads: tuple[int, ...], seconds: float, fresh: bool, layers: bool, as_json: bool
) -> None:
    """Lithe and others in turns."""
    from lithe.bench.peers import peers
    from lithe.bench.report import Plan, heading, measure_model, text

    found = peers([name.strip() for name in against.split(",") if name.strip()])
    with working(f"measuring {model.name}"):
        entry = measure_model(model, Plan(tuple(found), threads, seconds, 5 if fresh else 0, layers))
    if as_json:
        facts = {**heading(found), "models": [entry]}
        print_json("bench", {key: value for key, value in facts.items() if key != "schema"})
        return
    click.echo(text(entry))
    if layers:
        show_steps(entry["layers"])


def steps(model: Path, as_json: bool) -> None:
    """Every step of the program."""
    from lithe.bench.layers import measure_layers

    with working(f"measuring {model.name}"):
        facts = measure_layers(model).to_dict()
    if as_json:
        print_json("layers", facts)
    else:
        show_steps(facts)


def show_steps(facts: dict[str, Any]) -> None:
    from lithe.bench.report import layer_rows

    if "note" in facts:
        click.echo(facts["note"])
        return
    peaks = facts["peaks"]
    rates = [f"{kind} {rate / 1e9:.0f} GMAC/s" for kind, rate in peaks["macs"].items()]
    rates += [f"{level['name']} {level['bytes_a_second'] / 1e9:.0f} GB/s" for level in peaks["levels"]]
    click.echo(f"measured peaks of one core: {', '.join(rates)}")
    click.echo(f"all steps in one call: {facts['whole_us']:.1f} us")
    click.echo(f"working memory: {facts['arena_bytes']} bytes; {facts['least_bytes']} live together at the worst step")
    click.echo(table(layer_rows(facts), right=(2, 3, 4, 5, 6, 8)))
