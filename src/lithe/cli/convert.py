"""lithe convert: a model of a framework becomes a .tflite file."""

from __future__ import annotations

import importlib
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click

from lithe.cli.output import print_json, remark, working
from lithe.errors import FileMissing, InputError

KINDS = ("auto", "keras", "jax", "torch", "onnx", "tensorflow", "savedmodel", "tflite")


@click.command("convert")
@click.argument("source")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Where the .tflite file is written."
)
@click.option("--from", "kind", type=click.Choice(KINDS), default="auto", show_default=True, help="What SOURCE is.")
@click.option(
    "--shape", "shapes", multiple=True, metavar="NAME=1,224,224,3",
    help="The shape of an input; a name in it is an open dimension: x=batch,224,224,3. Repeat for each input.",
)  # fmt: skip
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
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    source: str, output: Path, kind: str, shapes: tuple[str, ...], signatures: tuple[str, ...], allow_select_tf: bool,
    target_runtime: str | None, verify: bool, as_json: bool,
) -> None:  # fmt: skip
    """Convert a model to a .tflite file.

    SOURCE is a file (.keras, .onnx, .pt2, .pb), the folder of a SavedModel, a .tflite file that is to be cleaned up,
    or MODULE:NAME for a model or function in Python:

    \b
    lithe convert model.keras -o model.tflite --verify
    lithe convert nets.py:classifier --from torch --shape x=1,3,224,224 -o model.tflite
    lithe convert old.tflite -o better.tflite --target-runtime 2.5.0
    """
    from lithe.conversion.door import agreement, converted

    inputs = dict(_shape(text) for text in shapes) or None
    with working(f"converting {source}"):
        given = _named(source) if _is_name(source) else source
        model, conversion = converted(
            given, inputs=inputs, kind=kind, signatures=signatures, allow_select_tf=allow_select_tf,
            target_runtime=target_runtime,
        )  # fmt: skip
        agreed = agreement(model, conversion) if verify else None
    if agreed is not None:
        agreed.require()
    model.save(output)
    operators = Counter(n.op.name for graph in model.module.graphs for n in graph.nodes)
    if as_json:
        facts = {"source": source, "output": str(output), "bytes": output.stat().st_size, "operators": operators,
                 "difference": None if agreed is None else agreed.differences}  # fmt: skip
        print_json("convert", facts)
        return
    click.echo(
        f"{output}: {sum(operators.values())} operators, {output.stat().st_size / 1e6:.1f} MB, from {conversion.source}"
    )
    for name, info in model.inputs.items():
        click.echo(f"  takes  {name}: {info}")
    for name, info in model.outputs.items():
        click.echo(f"  gives  {name}: {info}")
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
        raise InputError(f"{module} has no '{name}'") from cause
