"""lithe run: a model on a picture, a sound, a table, arrays or text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from lithe.cli.files import read_bytes, write_whole
from lithe.cli.output import print_json, remark, working

if TYPE_CHECKING:
    import numpy as np

    from lithe.runtime.function import TensorInfo
    from lithe.runtime.model import Model
    from lithe.tasks.fitting import Wanted

MOST_VALUES = 1000  # in JSON; larger outputs belong into --output


Precision = Literal["strict", "bf16x3", "fast"]


@click.command(
    "run",
    epilog="""\b
Examples:
  lithe run mobilenet.tflite --input parrot.jpg
  lithe run iris.tflite --input flowers.csv --json
  lithe run add.tflite --input a=a.npy --input b=b.npy --output sum.npz
  cat digit.png | lithe run digits.tflite --input - --top 1""",
)
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="[NAME=]FILE",
    help="png, jpg, bmp, wav, npy, npz, csv or text; - is standard input. Once for each input.",
)
@click.option("--signature", metavar="KEY", help="Which function of the model to run. [default: the main graph]")
@click.option("--top", default=5, show_default=True, type=click.IntRange(1), help="How many classes to print.")
@click.option("--labels", type=click.Path(path_type=Path), help="Class names, one a line. [default: the model's own]")
@click.option("--mean", metavar="M[,M,M]", help="Taken from each pixel (0..255). [default: the model's own]")
@click.option("--std", metavar="S[,S,S]", help="Each pixel is then divided by it. [default: the model's own]")
@click.option("--output", type=click.Path(path_type=Path), help="Write all outputs to this .npz file, as stored.")
@click.option("--num-threads", "--num_threads", default=1, show_default=True, type=click.IntRange(1))
@click.option("--precision", default="strict", show_default=True, type=click.Choice(["strict", "bf16x3", "fast"]),
              help="Of products of floats; fast rounds their factors to bfloat16 where that is quicker, bf16x3 splits "
              "them into two.")  # fmt: skip
@click.option("--tune", is_flag=True, help="Look for the quickest code first, a minute at most; it is kept.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    model: Path, inputs: tuple[str, ...], signature: str | None, top: int, labels: Path | None,
    mean: str | None, std: str | None, output: Path | None, num_threads: int,
    precision: Precision, tune: bool, as_json: bool,
) -> None:  # fmt: skip
    """Run MODEL on files, and print what it says.

    Pictures are resized to the input and normalized as the model's metadata say; without metadata float
    inputs get -1..1, and a remark says so.
    """
    with working(f"loading {model.name}"):
        import lithe

        loaded = lithe.load(model, num_threads=num_threads, precision=precision, tune=tune)
    if tune:
        loaded.prepare()
    function: Any = loaded
    if signature is not None:
        if signature not in loaded.signatures:
            raise click.UsageError(f"no signature '{signature}'; there are: {', '.join(loaded.signatures) or 'none'}")
        function = loaded.signatures[signature]
    arrays = read_inputs(loaded, function, inputs, _numbers(mean, "--mean"), _numbers(std, "--std"))
    with working(f"running {model.name}"):
        result = function(arrays)
    outputs = result if isinstance(result, dict) else {next(iter(function.outputs)): result}
    names = read_bytes(labels).decode("utf-8", "replace") if labels else None
    answers = [answer(loaded, i, function.outputs[n], y, names, top) for i, (n, y) in enumerate(outputs.items())]
    if output is not None:
        import numpy as np

        write_whole(output, lambda file: np.savez(file, **outputs))
    if as_json:
        print_json("run", {"model": str(model), "outputs": answers, "saved": str(output) if output else None})
        return
    for one in answers:
        if len(answers) > 1:
            click.echo(f"{one['name']}  {one['type']}")
        click.echo(one["text"])
    if output is not None:
        remark(f"wrote {output}")


def read_inputs(
    model: Model, function: Any, files: tuple[str, ...], mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> dict[str, np.ndarray]:
    """{input name: tensor} from the command line's --input values."""
    from dataclasses import replace

    from lithe.tasks.described import wanted_inputs
    from lithe.tasks.fitting import fit
    from lithe.tasks.media import Arrays, decode

    wanted = wanted_inputs(model, function.inputs)
    if mean or std:
        wanted = {name: replace(w, mean=mean or (0.0,), std=std or (1.0,)) for name, w in wanted.items()}
    arrays: dict[str, np.ndarray] = {}
    bare: list[str] = []
    for text in files:
        name, sign, file = text.partition("=")
        if sign and name in wanted:
            arrays[name] = fit(decode(read_bytes(file), file), wanted[name], remark)
        else:
            bare.append(text)
    for file in bare:
        media = decode(read_bytes(file), file)
        left = [name for name in wanted if name not in arrays]
        if isinstance(media, Arrays) and len(media.arrays) > 1 and set(left) & set(media.arrays):
            arrays.update({name: fit(media, wanted[name], remark) for name in left if name in media.arrays})
        elif len(left) == 1 or (left and len(bare) == len(wanted)):
            arrays[left[0]] = fit(media, wanted[left[0]], remark)
        else:
            raise click.UsageError(f"which input is '{file}' for? Say --input NAME={file}.\n{_takes(wanted)}")
    missing = [name for name in wanted if name not in arrays]
    if missing:
        raise click.UsageError(f"no --input for '{missing[0]}'.\n{_takes(wanted)}")
    return arrays


def answer(
    model: Model, position: int, info: TensorInfo, stored: np.ndarray, labels: str | None, top: int
) -> dict[str, Any]:
    """One output as a record: the best classes if it looks like class scores, else its values."""
    from lithe.tasks.answers import best, is_class_scores, parse_labels, summary
    from lithe.tasks.described import class_names
    from lithe.tasks.fitting import dequantize
    from lithe.types import DTYPES, TensorType

    values = dequantize(stored, TensorType(DTYPES[info.dtype], stored.shape, info.quantization))
    record: dict[str, Any] = {"name": info.name, "type": f"{info.dtype}{list(stored.shape)}"}
    classes = stored.shape[-1] if stored.ndim else 0
    names = parse_labels(labels) if labels is not None else class_names(model, position, classes)
    if stored.dtype.kind in "fiu" and is_class_scores(stored.shape, len(names)):
        chosen = best(values, names, top)
        record["classes"] = [{"index": c.index, "label": c.label, "score": c.score} for c in chosen]
        record["text"] = "\n".join(map(str, chosen))
    else:
        record["values"] = values.tolist() if values.size <= MOST_VALUES else None
        record["text"] = summary(values)
    return record


def _numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    try:
        return tuple(float(part) for part in text.split(",")) if text else None
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not a number, or several with commas", param_hint=option) from error


def _takes(wanted: dict[str, Wanted]) -> str:
    return "The model takes:\n" + "\n".join(f"  {w}" for w in wanted.values())
