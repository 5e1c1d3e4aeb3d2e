"""lithe demo: two small models that the package carries, at work on digits they never saw."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lithe.cli.output import bytes_text, print_json, remark, table, working

if TYPE_CHECKING:
    import numpy as np

DATA = Path(__file__).resolve().parents[1] / "data"
MODELS = ("digits_float32", "digits_int8")
SHADES = " .:-=+*#%@"
RUNS = 300


@dataclass(frozen=True)
class Row:
    """One model's figures. official_ms is None where the official runtime is not installed."""

    model: str
    bytes: int
    digits: int
    right: int
    shown_as: int
    lithe_ms: float
    official_ms: float | None


@click.command("demo")
@click.option("--save", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Write the models and a digit to FOLDER, to try other commands on.")  # fmt: skip
@click.option("--number", default=None, type=click.IntRange(0), help="Which held-out digit to show. [default: any]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(save: Path | None, number: int | None, as_json: bool) -> None:
    """Classify handwritten digits with a float and an int8 model; works offline."""
    import random

    images, labels = held_out()
    if number is not None and number >= len(images):
        raise click.UsageError(f"there are {len(images)} held-out digits, number {number} is not one of them")
    chosen = random.randrange(len(images)) if number is None else number
    if save is not None:
        saved = save_files(save, images[chosen])
        if as_json:
            print_json("demo", {"saved": [str(path) for path in saved]})
        else:
            for path in saved:
                remark(f"wrote {path}")
        return
    with working("classifying"):
        rows = [measure(name, images, labels, chosen) for name in MODELS]
    if as_json:
        print_json("demo", {"digit": chosen, "label": int(labels[chosen]), "models": [asdict(row) for row in rows]})
        return
    click.echo(f"Held-out digit number {chosen} of {len(images)}, which neither model saw in training:\n")
    click.echo(art(images[chosen]))
    click.echo(f"\nIts label: {labels[chosen]}\n")
    click.echo(report(rows))
    click.echo("\nTry next:")
    for line in next_commands():
        click.echo(f"  {line}")


def next_commands() -> tuple[str, ...]:
    """What the demo proposes to try, with the command as it can be typed here."""
    beside = Path(sys.executable).with_name("lithe")
    lithe = str(beside) if shutil.which("lithe") is None and beside.is_file() else "lithe"
    if lithe.startswith(f"{Path.cwd()}{os.sep}"):
        lithe = lithe[len(str(Path.cwd())) + 1 :]
    return (
        f"{lithe} demo --save digits",
        f"{lithe} inspect digits/digits_int8.tflite",
        f"{lithe} run digits/digits_int8.tflite --input digits/digit.npy --top 3",
    )


def held_out() -> tuple[np.ndarray, np.ndarray]:
    """(images [n, 8, 8] of 0..16, labels [n])."""
    import numpy as np

    with np.load(DATA / "digits_held_out.npz", allow_pickle=False) as file:
        return file["image"], file["label"]


def measure(name: str, images: np.ndarray, labels: np.ndarray, chosen: int) -> Row:
    """Accuracy on all held-out digits and median latency, for one of the packaged models."""
    import numpy as np

    import lithe

    path = DATA / f"{name}.tflite"
    model = lithe.load(path)
    info = model.inputs["image"]
    real = (images[:, None, :, :, None] / 16).astype(np.float32)
    values = info.quantize(real) if info.quantization else real
    answers = np.array([int(np.asarray(model(value)).argmax()) for value in values])
    return Row(
        name,
        path.stat().st_size,
        len(images),
        int((answers == labels).sum()),
        int(answers[chosen]),
        model.benchmark(RUNS).median_ms,
        official_latency(path, values[chosen]),
    )


def official_latency(path: Path, value: np.ndarray) -> float | None:
    """Median milliseconds of the official runtime, None where it is not installed."""
    from lithe.runtime.benchmark import measure as timed

    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        return None
    with _silent():
        other = Interpreter(model_path=str(path), num_threads=1)
        other.allocate_tensors()
        other.set_tensor(other.get_input_details()[0]["index"], value)
        other.invoke()
    return timed(other.invoke, runs=RUNS).median_ms


@contextmanager
def _silent() -> Iterator[None]:
    """The official runtime greets on the error stream from C++; nobody asked for that here."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def art(image: np.ndarray) -> str:
    """A digit as text, two characters a pixel."""
    return "\n".join("    " + "".join(SHADES[int(v) * (len(SHADES) - 1) // 16] * 2 for v in row) for row in image)


def report(rows: list[Row]) -> str:
    """The table that the demo prints."""
    lines = [("model", "size", "right", "accuracy", "says", "lithe", "official runtime")]
    for row in rows:
        official = "not installed" if row.official_ms is None else f"{1000 * row.official_ms:.1f} µs"
        lines.append((
            row.model, bytes_text(row.bytes), f"{row.right}/{row.digits}", f"{100 * row.right / row.digits:.1f} %",
            str(row.shown_as), f"{1000 * row.lithe_ms:.1f} µs", official,
        ))  # fmt: skip
    return table(lines, right=range(1, 7))


def save_files(folder: Path, image: np.ndarray) -> list[Path]:
    """Copies the models into a folder, with one digit as the models take it before quantization."""
    import numpy as np

    from lithe.errors import InputError

    try:
        folder.mkdir(parents=True, exist_ok=True)
        saved: list[Any] = [shutil.copyfile(DATA / f"{name}.tflite", folder / f"{name}.tflite") for name in MODELS]
        np.save(folder / "digit.npy", (image[None, :, :, None] / 16).astype(np.float32))
    except OSError as error:
        raise InputError(f"cannot write to '{folder}': {error.strerror}", hint="name a folder of yours") from error
    return [*saved, folder / "digit.npy"]
