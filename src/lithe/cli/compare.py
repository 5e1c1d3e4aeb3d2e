"""lithe compare: where a smaller model leaves the float model, and why."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import click

from lithe.cli.output import print_json, remark, working


@click.command(
    "compare",
    epilog="""\b
Examples:
  lithe compare model.tflite model_int8.tflite --samples photos/
  lithe compare model.tflite model_int8.tflite --samples samples.npy --html report.html""",
)
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--samples", "data", type=click.Path(path_type=Path), metavar="DATA", required=True,
              help="What the models will be given: a folder of files, or .npy or .npz with samples along the first "
              "axis.")  # fmt: skip
@click.option("--html", "page", type=click.Path(path_type=Path), help="Write a report as one HTML file.")
@click.option("--most", default=50, show_default=True, type=click.IntRange(1), help="How many samples are used.")
@click.option("--least", default=10.0, show_default=True, help="Decibels; a layer with less goes wrong.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(a: Path, b: Path, data: Path, page: Path | None, most: int, least: float, as_json: bool) -> None:
    """Compare a float model A with a smaller one B that was made of it, by Lithe or by others.

    \b
    Both run on the samples. For each tensor that both have:
    SNR dB      power of the float values over that of the difference, in decibels
    own dB      the same of the layer alone: it is given the float model's values
    quarter     of the latter, what three quarters of the channels and of the samples are better than
    RMSE/scale  root mean square of the difference, in steps of the integers
    saturated   the share of the float values that the integers do not reach
    bits        how many the integers use

    The first layer that goes wrong by itself is named, why, and what to try.
    """
    from itertools import islice

    import lithe
    from lithe.cli.quantize import samples
    from lithe.optimize.comparison.comparing import compare

    first, second = (lithe.load(path, cache=False) for path in (a, b))
    with working(f"comparing {a.name} with {b.name}"):
        found = compare(first, second, islice(samples(first, data), most), least=least)
    if page is not None:
        from lithe.cli.comparison_page import comparison_page
        from lithe.cli.files import write_whole

        text = comparison_page(found).encode()

        def write(file: BinaryIO) -> None:
            file.write(text)

        write_whole(page, write)
    if as_json:
        print_json("compare", found.to_dict())
        return
    click.echo(str(found))
    if page is not None:
        remark(f"wrote {page}")
