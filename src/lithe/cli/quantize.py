"""lithe quantize: a float model becomes one of integers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from lithe.cli import searching
from lithe.cli.output import bytes_text, print_json, working

if TYPE_CHECKING:
    from lithe.runtime.model import Model

RANGES = ("min_max", "moving_average", "percentile", "mean_squared_error", "guarded_error", "entropy")
ENDS = ("float32", "int8", "uint8", "int16")


def show_recipes(context: click.Context, parameter: click.Parameter, asked: bool) -> None:
    """Prints the recipes that have names, and ends."""
    if not asked:
        return
    from lithe.optimize.recipes import RECIPES

    for name, recipe in RECIPES.items():
        click.echo(f"{name:24} {recipe}")
    context.exit()


@click.command(
    "quantize",
    epilog="""\b
Examples:
  lithe quantize model.tflite --calibrate photos/ -o model_int8.tflite
  lithe quantize model.tflite --calibrate samples.npz --recipe int16x8 -o model_16x8.tflite
  lithe quantize model.tflite --recipe weights_int4_block32 -o model_4bit.tflite
  lithe quantize model.tflite --calibrate samples.npy --recipe mine.json -o model_mixed.tflite
  lithe quantize model.tflite --calibrate samples.npy --inputs uint8 --outputs uint8 -o model_u8.tflite
  lithe quantize model.tflite --calibrate samples.npy --keep accuracy=0.99 --labels labels.npy -o small.tflite""",
)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--calibrate", "data", type=click.Path(path_type=Path), metavar="DATA",
              help="Samples of what the model will be given: a folder of files, or .npy or .npz with samples along the "
              "first axis. int8 and int16x8 need them.")  # fmt: skip
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Where the new model is written.")
@click.option("--recipe", default="int8", show_default=True, metavar="NAME|FILE.json",
              help="What is stored in how many bits: a name, or a file of rules for operators.")  # fmt: skip
@click.option("--list-recipes", is_flag=True, is_eager=True, expose_value=False, callback=show_recipes,
              help="Print the recipes that have names.")  # fmt: skip
@click.option("--ranges", type=click.Choice(RANGES), help="How a tensor's range comes from what it held.")
@click.option("--repairs", metavar="NAMES",
              help="Which repairs are made, with commas between (narrowing, folding, equalization, bias, rounding), "
              "or none; default: all that help.")  # fmt: skip
@click.option("--inputs", type=click.Choice(ENDS), default="float32", show_default=True, help="Type of real inputs.")
@click.option("--outputs", type=click.Choice(ENDS), default="float32", show_default=True, help="Type of real outputs.")
@click.option("--most", default=200, show_default=True, type=click.IntRange(1), help="How many samples are used.")
@searching.options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    model: Path, data: Path | None, output: Path, recipe: str, ranges: str | None, inputs: str, outputs: str, most: int,
    as_json: bool, keep: tuple[str, float] | None, labels: Path | None, labelled: Path | None, cost: str,
    seconds: float | None, state: Path | None, picture: Path | None, workers: str | None, repairs: str | None,
) -> None:  # fmt: skip
    """Make MODEL smaller, and quicker where it then computes on integers.

    \b
    int8      weights and values in 8 bits: a quarter of the size
    int16x8   values in 16 bits, weights in 8: nearer to the float model
    dynamic   weights in 8 bits, values quantized while the model runs: needs no samples
    weights   weights in 8 bits, values stay real numbers: needs no samples
    float16   weights in 16 bits: half the size, needs no samples

    There are dynamic_int4 and weights_int4 too, and int2, all in blocks as well (weights_int4_block32); the names and
    files of ai-edge-quantizer are taken. A recipe of one's own is a file of rules; the last that applies counts:

    \b
    {"rules": [{"values": "int8", "weights": "int8"}, {"scope": "head", "operators": ["FULLY_CONNECTED"]}]}

    Ranges of values are found by running the model on samples, a hundred of which do. Pictures in a folder are fitted
    to the input as with `lithe run`. With --keep the recipe is searched for (docs/search.md).
    """
    from itertools import islice

    import lithe

    before = lithe.load(model, cache=False)
    used = 0

    def count(done: int) -> None:
        nonlocal used
        used = done

    mended = None if repairs is None else () if repairs == "none" else repairs.split(",")
    given = None if data is None else islice(samples(before, data), most)
    outcome = None
    if keep is None:
        searching.refuse({"--labels": labels, "--labelled": labelled, "--seconds": seconds, "--state": state,
                          "--picture": picture})  # fmt: skip
    elif click.get_current_context().get_parameter_source("recipe") == ParameterSource.COMMANDLINE:
        raise click.UsageError("--keep searches for a recipe: leave --recipe out")
    else:
        outcome = searching.find(
            before, given, lambda path: samples(before, path), data, keep, labels, labelled, picture, state, cost=cost,
            seconds=seconds, ranges=ranges or "min_max", repairs=mended, inputs=inputs, outputs=outputs,
            workers=workers,
        )  # fmt: skip
        after = outcome.model
    if outcome is None:
        with working(f"quantizing {model.name}"):
            after = lithe.quantize(
                before, given, recipe, ranges=ranges or "", inputs=inputs, outputs=outputs, workers=workers,
                repairs=mended, progress=count,
            )  # fmt: skip
    after.save(output)
    if outcome is not None and picture is not None:
        searching.draw(outcome, picture, model.name)
    sizes = model.stat().st_size, output.stat().st_size
    real = [n.op.name for graph in after.module.graphs for n in graph.nodes if _computes_reals(n)]
    if as_json:
        facts = {"model": str(model), "output": str(output), "samples": used, "bytes_before": sizes[0],
                 "bytes": sizes[1], "operators": len(after.module.main.nodes), "operators_of_reals": real}  # fmt: skip
        print_json("quantize", facts if outcome is None else {**facts, "search": searching.facts(outcome)})
        return
    ranges_from = f"; ranges from {used} sample{'s' * (used != 1)}" if used else ""
    click.echo(f"{output}: {bytes_text(sizes[1])}, was {bytes_text(sizes[0])}{ranges_from}")
    if outcome is not None:
        click.echo(str(outcome))
    if real and used:
        click.echo(f"still computed with real numbers: {', '.join(sorted(set(real)))}")


def samples(model: Model, data: Path) -> Iterator[Any]:
    """What the model is called with, from a folder of files, or from arrays along whose first axis samples lie."""
    import numpy as np

    from lithe.cli.files import read_bytes
    from lithe.cli.run import read_inputs
    from lithe.errors import InputError
    from lithe.tasks.media import Arrays, decode

    if data.is_dir():
        for file in sorted(p for p in data.rglob("*") if p.is_file() and not p.name.startswith(".")):
            yield read_inputs(model, model, (str(file),), None, None)
        return
    media = decode(read_bytes(data), str(data))
    if not isinstance(media, Arrays):
        raise InputError(f"'{data}' holds one sample", hint="name a folder of such files, or .npy or .npz")
    names = list(model.inputs)
    arrays = (
        dict(zip(names, media.arrays.values(), strict=True)) if len(media.arrays) == len(names) == 1 else media.arrays
    )
    missing = [name for name in names if name not in arrays]
    if missing:
        raise InputError(f"'{data}' has no array '{missing[0]}'", hint=f"the model takes {', '.join(names)}")
    for i in range(min(len(arrays[name]) for name in names)):
        yield {name: _one(np.asarray(arrays[name][i]), model.inputs[name]) for name in names}


def _one(array: Any, info: Any) -> Any:
    """A sample as the input wants it: with a batch of one in front where that is missing."""
    array = array.astype(info.dtype)
    return array[None] if array.ndim == len(info.shape) - 1 else array


def _computes_reals(node: Any) -> bool:
    if node.op.name in ("QUANTIZE", "DEQUANTIZE"):
        return False
    return any(t is not None and t.type.dtype.is_float for t in (*node.inputs, *node.outputs))
