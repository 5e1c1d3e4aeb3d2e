"""lithe compare."""

from __future__ import annotations

import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import lithe as package
from tests.optimize.test_quantization import convolution, floats, model

DATA = Path(package.__file__).parent / "data"
FLOAT, SMALL = DATA / "digits_float32.tflite", DATA / "digits_int8.tflite"


@pytest.fixture
def samples(tmp_path):
    images = (np.load(DATA / "digits_held_out.npz")["image"][:10, ..., None] / 16).astype(np.float32)
    np.save(tmp_path / "samples.npy", images)
    return tmp_path / "samples.npy"


def test_two_models_are_compared_as_a_table_and_as_json(lithe, samples):
    text = lithe("compare", FLOAT, SMALL, "--samples", samples)
    assert (text.code, text.err) == (0, "")
    assert "outputs: 'probability' " in text.out
    assert "no layer goes wrong" in text.out
    head, rule, *rows = [line for line in text.out.splitlines() if line][2:]
    assert head.split()[:3] == ["tensor", "operator", "type"]
    assert set(rule) == {"-", " "}
    assert [row.split()[0] for row in rows] == ["image", "conv1_out", "conv2_out", "logits", "probability"]
    facts = lithe("compare", FLOAT, SMALL, "--samples", samples, "--json", "--most", 4).json
    assert (facts["schema"], facts["samples"], facts["first"]) == ("lithe.compare/1", 4, None)
    assert [layer["name"] for layer in facts["layers"]] == [row.split()[0] for row in rows]
    assert all(layer["snr"] > 25 for layer in facts["layers"])


def test_what_goes_wrong_is_named(lithe, samples, tmp_path):
    dark = [array[None] / 50 for array in np.load(samples)]
    package.quantize(FLOAT, dark).save(tmp_path / "dark.tflite")
    found = lithe("compare", FLOAT, tmp_path / "dark.tflite", "--samples", samples, "--json").json
    first = found["layers"][0]
    assert (found["first"], first["causes"][0]["name"]) == ("image", "clipped range")
    assert first["wrong"]
    assert "first to go wrong: 'image'" in found["verdict"]
    kinder = lithe("compare", FLOAT, tmp_path / "dark.tflite", "--samples", samples, "--least", -100, "--json").json
    assert kinder["first"] is None


class Page(HTMLParser):
    """The page's tags, the texts of its table, and what it would load."""

    def __init__(self, text):
        super().__init__()
        self.open, self.cells, self.loaded, self.polylines = [], [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "br"):
            self.open.append(tag)
        self.polylines += tag == "polyline"
        self.loaded += [value for name, value in attributes if name in ("src", "href") and not value.startswith("#")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] == "td":
            self.cells.append(data)


def broken(tmp_path):
    """A float model with a name that HTML must not take for a tag, and one with wrong weights."""
    module = model(lambda b, x: {"y": convolution(b, convolution(b, x))})
    module.main.nodes[0].outputs[0].name = "<script>alert('x')</script>"
    package.Model(module).save(tmp_path / "a.tflite")
    other = module.copy()
    other.main.nodes[0].inputs[1].data = -other.main.nodes[0].inputs[1].data
    package.Model(other).save(tmp_path / "b.tflite")
    np.save(tmp_path / "x.npy", floats(3, 8, 8, 4))
    return tmp_path / "a.tflite", tmp_path / "b.tflite", "--samples", tmp_path / "x.npy"


def test_the_report_is_one_file_that_needs_no_other(lithe, tmp_path):
    page = tmp_path / "report.html"
    ended = lithe("compare", *broken(tmp_path), "--html", page)
    assert (ended.code, ended.err) == (0, f"wrote {page}\n")
    text = page.read_text()
    assert "alert('x')</script>" not in text
    parsed = Page(text)
    assert parsed.open == []
    assert parsed.loaded == []
    assert re.findall(r"https?:|@import|url\(", text) == []
    titles = re.findall(r"<h2>(.*?)</h2>", text)
    assert titles == ["Verdict", "Signal-to-noise along the graph", "Tensors", "The worst tensors"]
    assert text.index("first to go wrong") < text.index(f"<h2>{titles[1]}")
    assert "wrong" in parsed.cells
    assert {"x", "y", "input", "CONV_2D"} <= set(parsed.cells)
    assert parsed.polylines == 2 * 3
    assert list(tmp_path.glob(".*")) == []


SORTED = """
const cell = (text, value) => ({textContent: text, dataset: value === undefined ? {} : {value}});
const rows = [["0", "b", "5.0"], ["1", "a", "40.0"], ["2", "c", ""]]
  .map(texts => ({cells: texts.map(t => cell(t, t))}));
const heads = [0, 1, 2].map(cellIndex => ({cellIndex, dataset: {}}));
let order = rows;
const table = {tHead: {rows: [{cells: heads}]}, tBodies: [{get rows() { return order; }, append: (...r) => order = r}]};
for (const head of heads) head.closest = () => table;
globalThis.document = {querySelectorAll: () => heads};
SCRIPT
const seen = () => order.map(row => row.cells[0].textContent).join("");
const found = [];
for (const column of [1, 1, 2, 2, 0]) { heads[column].onclick(); found.push(seen()); }
console.log(found.join(" "));
"""


def test_a_click_on_a_title_sorts(lithe, tmp_path):
    import shutil

    if shutil.which("node") is None:
        pytest.skip("there is no node to run the page's script")
    page = tmp_path / "report.html"
    assert lithe("compare", *broken(tmp_path), "--html", page).code == 0
    (script,) = re.findall(r"<script>(.*?)</script>", page.read_text(), re.DOTALL)
    ran = subprocess.run(
        ["node", "-"], input=SORTED.replace("SCRIPT", script), capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["102", "201", "012", "210", "012"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([FLOAT, SMALL], 2, "--samples"),
        ([FLOAT, SMALL, "--samples", "none.npy"], 4, "none.npy"),
        ([FLOAT, SMALL, "--samples", "empty"], 4, "there are no samples"),
        ([FLOAT, SMALL, "--samples", "nan.npy"], 4, "sample 0 gives NaN or infinity in"),
        ([FLOAT, SMALL, "--samples", "other.npz"], 4, "has no array"),
        ([FLOAT, SMALL, "--samples", "narrow.npy"], 4, "sample 0: "),
        ([FLOAT, "none.tflite", "--samples", "x.npy"], 4, "none.tflite"),
        ([FLOAT, "damaged.tflite", "--samples", "x.npy"], 4, "error: "),
        (
            [FLOAT, "other.tflite", "--samples", "x.npy"],
            4,
            "different inputs: image: float32[?, 8, 8, 1] and x",
        ),
        (["integers.tflite", "integers.tflite", "--samples", "x.npy"], 4, "no computed tensor of real numbers"),
        ([FLOAT, SMALL, "--samples", "x.npy", "--most", "0"], 2, "--most"),
    ],
)
def test_a_mistake_is_one_error_and_no_file(arguments, code, message, lithe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = np.zeros((2, 8, 8, 1), np.float32)
    (tmp_path / "empty").mkdir()
    np.save("x.npy", images)
    np.save("nan.npy", images + np.nan)
    np.save("narrow.npy", images[:, :4])
    np.savez("other.npz", a=images, b=images)
    Path("damaged.tflite").write_bytes(FLOAT.read_bytes()[:3000])
    package.Model(model(lambda b, x: {"y": b("NEG", x)})).save("other.tflite")
    package.quantize(FLOAT, [images[:1] + 0.5], inputs="int8", outputs="int8").save("integers.tflite")
    ended = lithe("compare", *arguments, "--html", "report.html")
    assert ended.code == code
    assert message in ended.err
    assert ended.err.count("error: ") <= 1
    assert "Traceback" not in ended.err
    assert not Path("report.html").exists()
    assert list(tmp_path.glob(".*")) == []


def test_a_report_that_cannot_be_written_leaves_nothing(lithe, samples, tmp_path):
    ended = lithe("compare", FLOAT, SMALL, "--samples", samples, "--html", tmp_path / "none" / "report.html")
    assert (ended.code, "cannot be written" in ended.err) == (4, True)
    assert not (tmp_path / "none").exists()
