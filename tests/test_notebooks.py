"""What holds for every notebook, and for the tool that runs them."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import sys
from base64 import b64decode
from io import BytesIO
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from fslab.plots import described
from fslab.records import FslabError

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("[0-9]*_*.ipynb"))
SOLUTIONS = sorted((FOLDER / "solutions").glob("*.ipynb"))
FIGURE = "application/vnd.plotly.v1+json"
DRAWING = "image/svg+xml"

every = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
solved = pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)


def cells_of(path):
    return nbformat.read(path, as_version=4).cells


def code_of(path):
    return [cell for cell in cells_of(path) if cell.cell_type == "code"]


def outputs_of(path):
    return [output for cell in code_of(path) for output in cell.outputs]


def test_there_are_notebooks():
    numbers = [path.stem[:2] for path in NOTEBOOKS]
    assert numbers == [f"{number:02d}" for number in range(16)]


def test_the_readme_speaks_of_every_notebook_and_of_no_other():
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    told = re.findall(r"\(notebooks/(\w+\.ipynb)\)", readme)
    assert sorted(set(told)) == [path.name for path in NOTEBOOKS]


@every
def test_cells_ran_from_first_to_last(path):
    counts = [cell.execution_count for cell in code_of(path)]
    assert counts == list(range(1, len(counts) + 1))


@every
def test_outputs_hold_no_error_and_no_warning(path):
    for output in outputs_of(path):
        assert output.output_type != "error"
        assert output.get("name") != "stderr"
        assert "Warning" not in output.get("text", "")


@every
def test_cells_are_short_and_few(path):
    cells = cells_of(path)
    assert len(cells) <= 45
    assert max(len(cell.source.splitlines()) for cell in cells if cell.cell_type == "code") <= 20


@every
def test_outputs_are_small(path):
    stills = [output for output in outputs_of(path) if is_still(output)]
    others = [output for output in outputs_of(path) if not is_still(output)]
    assert sum(len(json.dumps(output)) for output in others) <= 300_000
    assert sum(len(json.dumps(output)) for output in stills) <= 60_000


def is_still(output):
    """Whether an output is the picture of an explorer."""
    words = output.get("data", {}).get("text/plain", "")
    return re.match(r"<(\w+Explorer|ResultBrowser|SegmentYours): ", words) is not None


@every
def test_first_cells_follow_the_pattern(path):
    first, imports, parameters = cells_of(path)[:3]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
    for words in ("Question", "At the end", "Needs"):
        assert words in first.source
    assert "import fslab" in imports.source
    (printed,) = imports.outputs
    assert len(printed.text.strip().splitlines()) == 1
    for words in ("fslab ", "torch ", "mini", "device "):
        assert words in printed.text
    assert parameters.metadata.tags == ["parameters"]
    assert 'preset = "mini"' in parameters.source
    assert "#" in parameters.source
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in cells_of(path)) == 1


@every
def test_figures_stand_between_words_and_are_static_too(path):
    cells = cells_of(path)
    for place, cell in enumerate(cells):
        shown = [
            out for out in cell.get("outputs", []) if {FIGURE, DRAWING} & {*out.get("data", ())}
        ]
        assert len(shown) <= 1
        if shown:
            assert cells[place - 1].cell_type == "markdown"
            assert cells[place + 1].cell_type == "markdown"
            assert {"image/png", DRAWING} & {*shown[0].data}


@every
def test_sources_name_no_place_and_no_device(path):
    for cell in cells_of(path):
        assert not re.search(r"""["'`(\s](/|~/|[A-Z]:\\)\w""", cell.source)
        if cell.cell_type == "code":
            assert not re.search(r"""^\s*[!%]|sys\.path|["']cuda""", cell.source, re.MULTILINE)


@every
def test_outputs_name_no_place(path):
    texts = [output.get("text", "") for output in outputs_of(path)]
    assert not re.search(r"/(home|root|work|tmp|usr|Users)/", "".join(texts))


@every
def test_metadata_holds_nothing_of_a_run(path):
    notebook = nbformat.read(path, as_version=4)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)


@every
def test_ends_with_a_way_on(path):
    last = cells_of(path)[-1]
    assert last.cell_type == "markdown"
    assert "way on" in last.source.lower()


@every
def test_figures_say_in_words_what_is_on_them(path, execute):
    for output in outputs_of(path):
        if FIGURE in output.get("data", {}):
            words = output.metadata["image/png"]["alt"]
            assert words == described(output.data[FIGURE])
            assert len(words) > 12
        if DRAWING in output.get("data", {}):
            assert "<title>" in output.data[DRAWING]


@every
def test_the_contents_list_has_every_section(path, execute):
    notebook = nbformat.read(path, as_version=4)
    before = notebook.cells[0].source
    execute.add_contents(notebook)
    assert notebook.cells[0].source == before
    titles = [line[3:] for line in prose_of(path).splitlines() if line.startswith("## ")]
    assert re.findall(r"\]\(#([^)]*)\)", before) == [execute.anchor(title) for title in titles]
    assert len({*titles}) == len(titles)


@every
def test_it_ends_with_exercises_a_way_on_and_references(path):
    last = cells_of(path)[-1].source
    parts = re.split(r"^## (.*)$", last, flags=re.MULTILINE)
    assert parts[1::2] == ["Exercises", "A way on", "References"]
    exercises, _, references = parts[2::2]
    assert f"(solutions/{path.name})" in exercises
    assert re.findall(r"^(\d)\. \*\*[^*]+\.\*\* ", exercises, re.MULTILINE) == ["1", "2", "3"]
    listed = references.strip().split("\n- ")
    assert len(listed) >= 3
    assert all(re.search(r"\]\(https://[^)\s]+\)", each) for each in listed)


def test_every_notebook_has_its_solutions_and_no_other():
    assert [path.name for path in SOLUTIONS] == [path.name for path in NOTEBOOKS]


@solved
def test_solutions_answer_the_exercises_and_assert_themselves(path):
    asked = cells_of(FOLDER / path.name)[-1].source
    titles = re.findall(r"^\d\. \*\*([^*]+)\.\*\* ", asked, re.MULTILINE)
    cells = cells_of(path)
    assert f"(../{path.name})" in cells[0].source
    headings = [cell.source.splitlines()[0] for cell in cells[2::2]]
    assert headings == [f"## {n}. {title}" for n, title in enumerate(titles, 1)]
    for question, answer in zip(cells[2::2], cells[3::2], strict=True):
        assert " ".join(question.source.splitlines()[2:]) in " ".join(asked.split())
        assert "assert " in answer.source
        assert len(answer.source.splitlines()) <= 20
        assert answer.outputs


@solved
def test_solutions_ran_from_first_to_last_and_name_no_place(path):
    counts = [cell.execution_count for cell in code_of(path)]
    assert counts == list(range(1, len(counts) + 1))
    for output in outputs_of(path):
        assert output.output_type != "error"
        assert output.get("name") != "stderr"
        assert not re.search(r"/(home|root|work|tmp|usr|Users)/", output.get("text", ""))


def prose_of(path):
    return "\n\n".join(cell.source for cell in cells_of(path) if cell.cell_type == "markdown")


def without_code(text):
    return re.sub(r"```.*?```|\$\$.*?\$\$", "", text, flags=re.DOTALL)


@pytest.mark.parametrize(
    "path",
    [*NOTEBOOKS, *SOLUTIONS, FOLDER / "colab.ipynb"],
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_links_lead_somewhere(path, execute):
    for target, place in re.findall(
        r"\]\(([^)\s#:]*)(?:#([^)\s]+))?\)", without_code(prose_of(path))
    ):
        file = path.parent / target if target else path
        assert file.exists(), target
        if place and file.suffix == ".ipynb":
            titles = re.findall(r"^#+ (.*)$", prose_of(file), re.MULTILINE)
            assert place in map(execute.anchor, titles), f"{target}#{place}"


@every
def test_every_other_notebook_that_is_named_is_a_link(path):
    linked = re.sub(r"\[[^\]]*\]\([^)]*\)", "", without_code(prose_of(path)))
    stems = "|".join(other.stem for other in NOTEBOOKS)
    assert not re.findall(rf"{stems}|\bnotebooks? \d\d\b|docs/\w+\.md", linked)


NOT_PLAIN = re.compile(
    r"\b(heard|hears?|spoilt|louder|speaks?|dearest|dearer|by a hair|has a say|goes round)\b",
    re.IGNORECASE,
)
"""Figures of speech that readers stumbled over, in what notebooks say and print."""


@pytest.mark.parametrize(
    "path",
    [*NOTEBOOKS, *SOLUTIONS, FOLDER / "colab.ipynb"],
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_words_are_plain(path):
    said = [prose_of(path), *(cell.source for cell in code_of(path))]
    said += [output.get("text", "") for output in outputs_of(path)]
    assert not NOT_PLAIN.findall("\n".join(said))


BUILT_BY_HAND = {
    "00": r"\mathrm{IoU}_c", "01": r"\sqrt{a_t}", "02": r"\sqrt{a_t}", "03": r"q\, k^\top",
    "04": r"\lVert x_i - c_{l_i} \rVert^2", "07": r"\mathrm{softmax}_l", "08": r"\exp(q \cdot k_t",
    "11": r"\mathrm{IoU}_c", "13": r"q\, k^\top", "14": r"\exp(c_p / \tau)",
}  # fmt: skip


@pytest.mark.parametrize("number", BUILT_BY_HAND)
def test_what_is_built_by_hand_has_its_formula(number):
    (path,) = FOLDER.glob(f"{number}_*.ipynb")
    assert BUILT_BY_HAND[number] in prose_of(path)
    assert r"\mathrm{cost}(A, B)" in prose_of(FOLDER / "04_clustering.ipynb")


def test_text_is_brought_up_to_date_without_a_run(execute, tmp_path):
    path = written(tmp_path, "0_t.ipynb", "1 / 0")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(1, new_markdown_cell("## `b` of (c)\n\nwords\n\n## d"))
    figure = {"data": [{"type": "bar", "y": [1], "x": ["k"]}], "layout": {"title": {"text": "t"}}}
    shown = new_output("display_data", data={FIGURE: figure, "image/png": "x"})
    notebook.cells[-1].outputs = [shown]
    nbformat.write(notebook, path)
    for _ in range(2):
        assert execute.main([str(path), "--text"]) == 0
        done = nbformat.read(path, as_version=4)
        assert done.cells[0].source == "# t\n\n**Contents.** [b of (c)](#b-of-%28c%29) ·\n[d](#d)"
        assert done.cells[-1].outputs[0].metadata["image/png"]["alt"] == "t. Bars: k 1."
        assert done.cells[-1].execution_count is None
    with pytest.raises(SystemExit):
        execute.main([str(path), "--text", "--out", str(tmp_path), "-p", "n", "1"])


WRONG = {
    "preset": ("mimi", "there is no preset and no folder 'mimi'.*did you mean mini"),
    "picture": ("no_such.png", "'no_such.png' does not exist; check the path"),
    "method": ("freeseg", "there is no method 'freeseg'.*did you mean freeseg-diff"),
}


def parameters_of(path):
    return set(re.findall(r"^(\w+) = ", code_of(path)[1].source, re.MULTILINE))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        pytest.param(path, name, id=f"{path.stem}-{name}")
        for path in NOTEBOOKS
        for name in WRONG
        if name in parameters_of(path)
    ],
)
def test_bad_parameters_fail_in_the_first_cells(path, name):
    cells = code_of(path)
    value, sentence = WRONG[name]
    names: dict = {}
    with contextlib.chdir(FOLDER):
        exec(cells[0].source, names)
        exec(cells[1].source, names)
        names[name] = value
        with pytest.raises(FslabError, match=sentence) as caught:
            exec(cells[2].source, names)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def execute():
    spec = importlib.util.spec_from_file_location("execute", FOLDER / "execute.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def written(folder, name, *sources):
    cells = [new_code_cell(source) for source in sources]
    cells[0].metadata = {"tags": ["parameters"], "collapsed": True}
    path = folder / name
    nbformat.write(new_notebook(cells=[new_markdown_cell("# t"), *cells]), path)
    return path


def test_execute_runs_beside_the_notebook_and_leaves_the_original(execute, tmp_path, capsys):
    (tmp_path / "word.txt").write_text("here")
    path = written(tmp_path, "0_a.ipynb", "n = 1", "n += 1\nprint(open('word.txt').read(), n)")
    before = path.read_bytes()
    assert execute.main([str(path), "--out", str(tmp_path / "out")]) == 0
    assert path.read_bytes() == before
    done = nbformat.read(tmp_path / "out" / "0_a.ipynb", as_version=4)
    assert [cell.execution_count for cell in done.cells[1:]] == [1, 2]
    assert done.cells[2].outputs[0].text == "here 2\n"
    assert done.cells[1].metadata == {"tags": ["parameters"]}
    assert set(done.metadata) == {"kernelspec", "language_info"}
    assert "0_a.ipynb" in capsys.readouterr().out


def test_execute_takes_parameters_and_sees_files_from_the_working_folder(
    execute, tmp_path, monkeypatch, capsys
):
    source = "picture, count, words = 'a', 1, []"
    path = written(tmp_path, "0_p.ipynb", source, "print(open(picture).read(), count + 1, words)")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "my.txt").write_text("mine")
    monkeypatch.chdir(tmp_path / "elsewhere")
    given = ["-p", "picture", "my.txt", "-p", "count", "4", "-p", "words", "['cow']"]
    assert execute.main([str(path), "--out", str(tmp_path / "out"), *given]) == 0
    done = nbformat.read(tmp_path / "out" / "0_p.ipynb", as_version=4)
    assert done.cells[-1].outputs[0].text == "mine 5 ['cow']\n"
    assert execute.main([str(path), "--out", str(tmp_path / "no"), "-p", "pictures", "x"]) == 1
    assert "no parameter 'pictures'; it has picture, count, words" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
    with pytest.raises(SystemExit):
        execute.main([str(path), "-p", "count", "4"])
    assert "-p needs --out" in capsys.readouterr().err


def test_execute_fails_loudly_and_writes_nothing(execute, tmp_path, capsys):
    path = written(tmp_path, "0_b.ipynb", "1 / 0", "print(1)")
    before = path.read_bytes()
    assert execute.main([str(path), str(tmp_path / "none.ipynb")]) == 2
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["0_b.ipynb"]
    said = capsys.readouterr().err
    assert "0_b.ipynb: FAILED" in said
    assert "ZeroDivisionError" in said
    assert "there is no notebook" in said


def test_execute_keeps_figures_as_data_without_a_browser(execute, monkeypatch):
    monkeypatch.delenv("BROWSER_PATH", raising=False)
    monkeypatch.setattr(execute.shutil, "which", lambda name: None)
    bundle = {FIGURE: {"data": [], "layout": {}}}
    execute.add_pictures([bundle])
    assert set(bundle) == {FIGURE}


def test_execute_says_when_the_browser_fails(execute, monkeypatch, capsys):
    async def broken(figures):
        raise RuntimeError("it would not start")

    monkeypatch.setenv("BROWSER_PATH", "chromium")
    monkeypatch.setattr(execute, "_drawn", broken)
    bundle = {FIGURE: {"data": [], "layout": {}}}
    execute.add_pictures([bundle])
    assert set(bundle) == {FIGURE}
    assert "it would not start" in capsys.readouterr().err


def noisy_png():
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    pixels[:, :40] = (0, 114, 178)
    encoded = BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG")
    return pixels, encoded.getvalue()


def test_execute_puts_a_small_picture_beside_each_figure(execute, monkeypatch):
    pixels, picture = noisy_png()

    async def drawn(figures):
        return [picture for _ in figures]

    monkeypatch.setenv("BROWSER_PATH", "chromium")
    monkeypatch.setattr(execute, "_drawn", drawn)
    bundle = {FIGURE: {"data": [], "layout": {}}}
    execute.add_pictures([bundle])
    stored = b64decode(bundle["image/png"])
    assert len(stored) < len(picture) / 2
    small = np.asarray(Image.open(BytesIO(stored)).convert("RGB")).astype(int)
    assert small.shape == (60, 80, 3)
    assert np.abs(small[:, :40] - pixels[:, :40]).max() < 12


def test_execute_finds_figures_and_only_them(execute):
    outputs = [
        new_output("display_data", data={FIGURE: {"data": []}}),
        new_output("stream", text="words"),
        new_output("display_data", data={"text/plain": "x"}),
    ]
    notebook = new_notebook(cells=[new_markdown_cell("# t"), new_code_cell("x", outputs=outputs)])
    assert [out.data[FIGURE] for out in execute.figures_of(notebook)] == [{"data": []}]


@pytest.mark.parametrize("where", ["the repository's root", "another folder", "a folder in it"])
def test_notebooks_find_their_data_in_any_folder(where, tmp_path):
    places = {"the repository's root": FOLDER.parent, "a folder in it": FOLDER / "experiments"}
    with contextlib.chdir(places.get(where, tmp_path)):
        for path in NOTEBOOKS:
            names: dict = {}
            exec(code_of(path)[0].source, names)
            exec(code_of(path)[1].source, names)
            for name in {"picture", "dataset", "data"} & names.keys():
                assert Path(names[name]).exists(), f"{path.name}: {name}"


@every
def test_what_lies_in_the_repository_is_asked_of_it(path):
    for cell in code_of(path):
        asked = cell.source.replace('checkout("', "").replace('checkout(f"', "")
        assert not re.search(r"""["'](\.{0,2}/|data/|notebooks/|experiments/)""", asked)


def test_a_package_without_its_repository_looks_upwards(tmp_path, monkeypatch):
    from fslab.datasets import checkout, load, read

    module = sys.modules["fslab.datasets.checkout"]
    monkeypatch.setattr(module, "_PACKAGE", tmp_path / "lib" / "fslab")
    inside = tmp_path / "clone"
    for folder in ("data/minivoc", "notebooks/experiments", "docs/deep"):
        (inside / folder).mkdir(parents=True)
    with contextlib.chdir(tmp_path):
        assert checkout("data/minivoc") == "../data/minivoc"
        with pytest.raises(FslabError, match=r"python -m fslab.mini.minivoc \.\./data/minivoc` wr"):
            read(checkout("data/minivoc/JPEGImages/val_0000.png"))
        with pytest.raises(FslabError, match=r"python -m fslab.mini.minivoc data/minivoc` writes"):
            load("data/minivoc")
    with contextlib.chdir(inside / "docs" / "deep"):
        assert Path(checkout("data/minivoc")).resolve() == (inside / "data/minivoc").resolve()
        with pytest.raises(FslabError, match=r"it is '.*clone/data/minivoc' here, and `python"):
            load("data/minivoc")


def test_execute_leaves_of_an_explorer_its_picture(execute):
    figure = {"data": [], "layout": {"title": {"text": "a scene"}}}
    drawn = {execute.FIGURE: figure, execute.WIDGET: {}, "image/png": "", "text/plain": "explorer"}
    undrawn = {name: value for name, value in drawn.items() if name != "image/png"}
    outputs = [new_output("display_data", data) for data in (drawn, undrawn)]
    notebook = new_notebook(cells=[new_code_cell("explorer", outputs=outputs)])
    outputs = notebook.cells[0].outputs
    execute.settle_explorers(notebook)
    assert set(outputs[0].data) == {"image/png", "text/plain"}
    assert "a scene" in outputs[0].metadata["image/png"]["alt"]
    assert set(outputs[1].data) == {execute.WIDGET, "text/plain"}
