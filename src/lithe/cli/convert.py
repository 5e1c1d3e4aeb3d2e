"""lithe convert: a model of a framework becomes a .tflite file."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from lithe.cli.output import print_json, remark, working
from lithe.errors import FileMissing, InputError, LitheError

KINDS = ("auto", "keras", "jax", "torch", "onnx", "tensorflow", "savedmodel", "tflite")


@click.command(
    "convert",
    epilog="""\b
Examples:
  lithe convert model.keras -o model.tflite --verify
  lithe convert nets.py:classifier --shape x=1,3,224,224 -o model.tflite
  lithe convert model.onnx --shape image=batch,3,224,224 -o model.tflite --verify-layers
  lithe convert model.keras -o model.tflite --mean 127.5 --std 127.5 --labels labels.txt
  lithe run model.tflite --input parrot.jpg""",
)
@click.argument("source")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Where the .tflite file is written."
)
@click.option("--from", "kind", type=click.Choice(KINDS), default="auto", show_default=True, help="What SOURCE is.")
@click.option(
    "--shape", "shapes", multiple=True, metavar="NAME=1,224,224,3",
    help="The shape of an input; a name in it is an open dimension: x=batch,224,224,3. Repeat for each input.",
)  # fmt: skip
@click.option("--unroll", is_flag=True, help="Write recurrent layers step by step, also where a builtin says the same.")
@click.option(
    "--signature", "signatures", multiple=True, metavar="KEY",
    help="A signature of a SavedModel that is wanted; without it, all are. Repeat for several.",
)  # fmt: skip
@click.option("--allow-select-tf", is_flag=True, help="What has no builtin stays an operator of TensorFlow (Flex).")
@click.option(
    "--target-runtime", metavar="VERSION",
    help="The release of the official runtime that the file is for, as 2.5.0; operators that it lacks are spelled out.",
)  # fmt: skip
@click.option("--verify", is_flag=True, help="Run source and result on random inputs; exit code 4 where they differ.")
@click.option("--verify-data", type=click.Path(path_type=Path), metavar="FILE.npz",
              help="Run both on these inputs, arrays by name (SIGNATURE/NAME where there are several).")  # fmt: skip
@click.option("--verify-layers", is_flag=True, help="Compare layer by layer, and name the first that differs.")
@click.option(
    "--labels", multiple=True, metavar="[OUTPUT=]FILE", help="Class names, one a line, that the file carries."
)
@click.option("--mean", multiple=True, metavar="[INPUT=]M[,M,M]", help="Taken from each pixel (0..255) of an input.")
@click.option("--std", multiple=True, metavar="[INPUT=]S[,S,S]", help="Each pixel is then divided by it.")
@click.option("--input-kind", multiple=True, metavar="[INPUT=]KIND", help="What an input is: image, audio or features.")
@click.option("--sample-rate", multiple=True, metavar="[INPUT=]HZ", help="Samples a second of a sound.")
@click.option("--model-name", help="What the model calls itself.")
@click.option("--description", help="What it does.")
@click.option("--model-version", help="Which one it is.")
@click.option("--author", help="Who made it.")
@click.option("--license", help="Under which terms it is given away.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    source: str, output: Path, kind: str, shapes: tuple[str, ...], unroll: bool, signatures: tuple[str, ...],
    allow_select_tf: bool, target_runtime: str | None, verify: bool, verify_data: Path | None, verify_layers: bool,
    as_json: bool, **about: Any,
) -> None:  # fmt: skip
    """Convert a model to a .tflite file.

    SOURCE is a file (.keras, .onnx, .pt2, .pb, or a .tflite to be cleaned up), the folder of a SavedModel,
    or MODULE:NAME (FILE.py:NAME) for a model or function in Python. What comes out has builtin operators
    alone, and runs in every runtime of the format. Shapes are asked for where the source has none (PyTorch,
    JAX); a name in a shape is a dimension that stays open.
    """
    from lithe.conversion.door import agreement, converted, differences

    inputs = dict(_shape(text) for text in shapes) or None
    metadata = _metadata(about) or None
    given = None if verify_data is None else _arrays(verify_data)
    if not output.parent.is_dir():
        raise InputError(f"'{output}' cannot be written: there is no folder {output.parent}")
    with working(f"converting {source}"):
        found = _named(source) if _is_name(source) else source
        model, conversion = converted(
            found, inputs=inputs, kind=kind, unroll=unroll,
            signatures=signatures, allow_select_tf=allow_select_tf, target_runtime=target_runtime,
            metadata=metadata, watch=verify_layers,
        )  # fmt: skip
    with working(f"running {source} and what it became"):
        layers = differences(model, conversion, given) if verify_layers else None
        if layers is not None:
            layers.require()
        agreed = agreement(model, conversion, given) if verify or verify_layers or given is not None else None
    if agreed is not None:
        agreed.require()
    model.save(output)
    operators = Counter(n.op.name for graph in model.module.graphs for n in graph.nodes)
    if as_json:
        facts = {"source": source, "output": str(output), "bytes": output.stat().st_size, "operators": operators,
                 "difference": None if agreed is None else agreed.differences,
                 "layers": None if layers is None else {"merged": layers.merged,
                     "compared": [{"where": one.where, "difference": one.difference} for one in layers.compared]},
                 }  # fmt: skip
        print_json("convert", facts)
        return
    click.echo(
        f"{output}: {sum(operators.values())} operators, {output.stat().st_size / 1e6:.1f} MB, from {conversion.source}"
    )
    for name, info in model.inputs.items():
        click.echo(f"  takes  {name}: {info}")
    for name, info in model.outputs.items():
        click.echo(f"  gives  {name}: {info}")
    if layers is not None:
        worst = max((one.difference for one in layers.compared), default=0.0)
        remark(f"{len(layers.compared)} layers agree to {worst:.2g}; {layers.merged} were merged into others")
    if agreed is not None:
        bound = f"differs by at most {agreed.worst:.2g} of the largest value"
        remark(f"agrees with {conversion.source} in {agreed.runs} runs: {bound}")


def _shape(text: str) -> tuple[str, tuple[int | str, ...]]:
    """x=1,224,batch  ->  ("x", (1, 224, "batch"))"""
    name, equals, dims = text.partition("=")
    parts = [part.strip() for part in dims.split(",") if part.strip()]
    if not equals or not name or (not parts and dims.strip()):
        raise InputError(f"--shape {text} is not understood", hint="write --shape x=1,224,224,3")
    return name.strip(), tuple(int(p) if p.lstrip("-").isdigit() else p for p in parts)


TEXTS = {"model_name": "name", "description": "description", "model_version": "version", "author": "author",
         "license": "license"}  # fmt: skip


def _metadata(about: dict[str, Any]) -> dict[str, Any]:
    """The options about the model as `lithe.convert` takes them."""
    found: dict[str, Any] = {name: about[option] for option, name in TEXTS.items() if about[option]}
    readers: dict[str, Callable[[str], Any]] = {
        "labels": str,
        "mean": _numbers,
        "std": _numbers,
        "input_kind": str,
        "sample_rate": _whole,
    }
    for option, read in readers.items():
        by_name: dict[str, Any] = {}
        for text in about[option]:
            name, equals, value = text.rpartition("=")
            by_name[name if equals else ""] = read(value)
        if by_name:
            found[option] = by_name[""] if list(by_name) == [""] else by_name
    return found


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as cause:
        raise InputError(f"{text!r} is not a number, or several with commas", hint="--mean 127.5") from cause


def _whole(text: str) -> int:
    if not text.isdigit():
        raise InputError(f"{text!r} is not a number of samples a second", hint="--sample-rate 16000")
    return int(text)


def _arrays(path: Path) -> dict[str, Any]:
    """The arrays of an .npz file by name; those named SIGNATURE/NAME by signature."""
    from lithe.cli.files import read_bytes
    from lithe.tasks.media import Arrays, decode

    media = decode(read_bytes(path), str(path))
    if not isinstance(media, Arrays):
        raise InputError(f"'{path}' holds no arrays", hint="numpy.savez(path, x=array)")
    found: dict[str, Any] = {}
    for name, array in media.arrays.items():
        key, slash, inner = name.partition("/")
        if slash:
            found.setdefault(key, {})[inner] = array
        else:
            found[name] = array
    return found


def _is_name(source: str) -> bool:
    module, colon, name = source.rpartition(":")
    return bool(colon and module and name.isidentifier()) and not os.path.exists(source)


def _named(source: str) -> Any:
    """The object that MODULE:NAME (or FILE.py:NAME) names, made by the user's own code."""
    module, _, name = source.rpartition(":")
    path = Path(module)
    if path.suffix == ".py":
        if not path.exists():
            raise FileMissing(f"there is no file {path}")
        sys.path.insert(0, str(path.resolve().parent))
        module = path.stem
    else:
        sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as cause:
        raise InputError(f"{module} cannot be imported: {cause}", hint="SOURCE is a file or MODULE:NAME") from cause
    except AttributeError as cause:
        if cause.name != name:
            raise _broken(module, cause) from cause
        raise InputError(f"{module} has no '{name}'") from cause
    except LitheError:
        raise
    except (Exception, SystemExit) as cause:  # the user's own code may raise anything
        raise _broken(module, cause) from cause


def _broken(module: str, cause: BaseException) -> InputError:
    """The error for a module that raises while it is imported: what, and the line of it."""
    if isinstance(cause, SyntaxError):
        return InputError(f"{module} is no Python: {cause.msg}", where=f"{cause.filename}, line {cause.lineno}")
    last = traceback.extract_tb(cause.__traceback__)[-1]
    said = next((line for line in str(cause).splitlines() if line.strip()), "")
    return InputError(f"{module} cannot be imported: it raises {type(cause).__name__} ({said})",
                      where=f"{last.filename}, line {last.lineno}")  # fmt: skip
