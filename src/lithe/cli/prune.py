"""lithe prune: weights become zero, and are left out of the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lithe.cli.output import bytes_text, print_json, table, working

if TYPE_CHECKING:
    from lithe.runtime.model import Model

SAMPLES = click.option(
    "--samples", "data", type=click.Path(path_type=Path), metavar="DATA",
    help="What the model will be given: a folder of files, or .npy or .npz with samples along the first axis. With "
    "them, the weights that are left make up for what is lost.",
)  # fmt: skip
OUTPUT = click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Where the new model is written."
)
SCOPE = click.option(
    "--scope", default="", metavar="REGEX", help="Only layers with this in the name of a result; `lithe inspect`."
)
MOST = click.option("--most", default=200, show_default=True, type=click.IntRange(1), help="How many samples are used.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.command(
    "prune",
    epilog="""\b
Examples:
  lithe inspect model.tflite --sparsity
  lithe prune model.tflite --sparsity 0.8 --samples photos/ -o model_80.tflite
  lithe prune model.tflite --sparsity 0.5 --structure 2:4 -o model_24.tflite""",
)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--sparsity", type=float, default=0.5, show_default=True, help="The share of weights that become zero.")
@click.option("--structure", default="unstructured", show_default=True, metavar="S",
              help="Where zeros lie: unstructured, 1x4, 1x16, 4x1, 2:4.")  # fmt: skip
@click.option("--together", is_flag=True, help="Rank the weights of all layers together: some lose more than others.")
@SAMPLES
@SCOPE
@MOST
@OUTPUT
@JSON
def command(
    model: Path, sparsity: float, structure: str, together: bool, data: Path | None, scope: str, most: int,
    output: Path, as_json: bool,
) -> None:  # fmt: skip
    """Make weights of MODEL zero, without training, and leave them out of the file.

    Files get smaller from about a third of zeros in float32 on. Lithe computes pointwise layers of float32 without the
    zeros, which is quicker from about two thirds on: `lithe inspect MODEL --sparsity` says where. The official runtime
    reads the file too.

    \b
    unstructured  zeros lie anywhere: the best accuracy
    1x4, 1x16     4 or 16 neighbours at a time: fewer bytes to say where
    4x1           the same input of 4 outputs
    2:4           two of each four neighbours

    Without samples, the smallest weights go. With a hundred or two, those that change the outputs least, and the others
    are solved for anew: 70 % of zeros then often cost little. For more, train: `lithe.optimize.prune` for Keras.
    """
    from lithe.optimize.pruning import prune

    def work(before: Model, given: Iterator[Any] | None, count: Callable[[int], None]) -> Model:
        return prune(before, sparsity, structure, given, scope=scope, together=together, progress=count)

    smaller("prune", model, output, data, most, as_json, work)


def smaller(
    verb: str, path: Path, output: Path, data: Path | None, most: int, as_json: bool,
    work: Callable[[Model, Iterator[Any] | None, Callable[[int], None]], Model],
) -> None:  # fmt: skip
    """Does the work on the model, writes the result, and says what became of its size and its layers."""
    import lithe
    from lithe.cli.quantize import samples

    used = 0

    def count(number: int) -> None:
        nonlocal used
        used = number

    before = lithe.load(path, cache=False)
    with working(f"{verb}: {path.name}"):
        after = work(before, None if data is None else islice(samples(before, data), most), count)
    after.save(output)
    sizes = path.stat().st_size, output.stat().st_size
    rows = layers(after)
    if as_json:
        facts = {"model": str(path), "output": str(output), "samples": used, "bytes_before": sizes[0],
                 "bytes": sizes[1], "layers": rows}  # fmt: skip
        print_json(verb, facts)
        return
    click.echo(table([("layer", "weights", "zeros", "values", "stored"),
                      *((r["layer"], f"{r['weights']:,}", f"{r['zeros']:.0%}", f"{r['values']:,}", r["stored"])
                        for r in rows)], right=(1, 2, 3)))  # fmt: skip
    seen = f"; {used} sample{'s' * (used != 1)}" if used else ""
    click.echo(f"{output}: {bytes_text(sizes[1])}, was {bytes_text(sizes[0])}{seen}")


def layers(model: Model) -> list[dict[str, Any]]:
    """What became of the layers that may be pruned or clustered."""
    import numpy as np

    from lithe.optimize.moments import layers as found
    from lithe.optimize.storage import form_of, unfolded

    forms = {node.outputs[0].name: form_of(model.module.main, node) for node in model.module.main.nodes}
    rows = []
    for layer in found(unfolded(model.module), integers=True):
        data, name = layer.weights.data, layer.node.outputs[0].name
        assert data is not None
        rows.append({
            "layer": name, "weights": data.size, "zeros": float(np.mean(data == 0)), "values": len(np.unique(data)),
            "stored": forms.get(name, ""),
        })  # fmt: skip
    return rows
