"""lithe deflex: builtins in place of TensorFlow's operators."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from lithe.cli.output import print_json


@click.command("deflex")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Where the new model is written.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(context: click.Context, model: Path, output: Path, as_json: bool) -> None:
    """Rewrite operators of TensorFlow ("Flex") into builtins; exit code 4 if some are left."""
    import lithe
    from lithe.cli.files import read_bytes
    from lithe.passes.deflex import remaining

    before = lithe.load(read_bytes(model) if str(model) == "-" else model, cache=False)
    after = lithe.deflex(before)
    after.save(output)
    left = Counter(remaining(after.module))
    rewritten = Counter(remaining(before.module)) - left
    if as_json:
        print_json("deflex", {"model": str(model), "output": str(output), "rewritten": rewritten, "remaining": left})
    else:
        click.echo(f"{output}: {_listed(rewritten) or 'no operator of TensorFlow'} rewritten")
        if left:
            click.echo(f"still operators of TensorFlow: {_listed(left)}")
    context.exit(4 if left else 0)


def _listed(names: Counter[str]) -> str:
    return ", ".join(f"{name} ({count})" if count > 1 else name for name, count in sorted(names.items()))
