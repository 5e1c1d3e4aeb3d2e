"""lithe cluster: a layer's weights become a few numbers, stored as indices into a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lithe.cli.prune import JSON, MOST, OUTPUT, SAMPLES, SCOPE, smaller

if TYPE_CHECKING:
    from lithe.runtime.model import Model


@click.command(
    "cluster",
    epilog="""\b
Examples:
  lithe cluster model.tflite --clusters 16 --samples photos/ -o model_16.tflite
  lithe cluster model.tflite --clusters 16 --form micro -o model_micro.tflite""",
)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--clusters", default=16, show_default=True, type=click.IntRange(2, 256), help="Numbers of a layer.")
@click.option("--start", default="kmeans++", show_default=True,
              type=click.Choice(("kmeans++", "linear", "density", "random")), help="Where they start.")  # fmt: skip
@click.option("--form", default="table", show_default=True, type=click.Choice(("table", "rows", "micro")),
              help="How they are stored.")  # fmt: skip
@SAMPLES
@SCOPE
@MOST
@OUTPUT
@JSON
def command(
    model: Path, clusters: int, start: str, form: str, data: Path | None, scope: str, most: int, output: Path,
    as_json: bool,
) -> None:  # fmt: skip
    """Make each layer's weights in MODEL a few numbers, without training; the file holds indices and a table.

    \b
    table  indices of 4 bits (16 clusters or fewer) or 8: the smallest file that the official runtime reads. Lithe
           makes the weights once, when it loads; the official runtime at each run
    rows   indices of 16 bits, each of several weights: the official runtime too makes the weights once
    micro  for TensorFlow Lite Micro, indices of 1 to 7 bits; the official runtime for phones does not read it

    Lithe's latency stays what it was. The official runtime's does not: it computes such weights with slower kernels.
    Weights that are zero stay zero, so a pruned model can be clustered.
    """
    from lithe.optimize.clustering import cluster

    def work(before: Model, given: Iterator[Any] | None, count: Callable[[int], None]) -> Model:
        return cluster(before, clusters, given, start=start, form=form, scope=scope, progress=count)

    smaller("cluster", model, output, data, most, as_json, work)
