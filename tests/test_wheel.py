"""The wheel in an environment that has never seen the repository."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def call(*words, **settings):
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False, **settings
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    call(*pip, "--no-index", "--wheel-dir", folder, ROOT)
    (found,) = folder.glob("fslab-*.whl")
    return found


@pytest.fixture(scope="module")
def newcomer(wheel, tmp_path_factory):
    """Runs commands where fslab is what the wheel holds, and other packages are this one's."""
    home = tmp_path_factory.mktemp("newcomer")
    call(sys.executable, "-m", "venv", "--without-pip", home / "venv")
    (site,) = (home / "venv").rglob("site-packages")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(site)
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))
    python = home / "venv" / Path(sys.executable).parent.name / "python"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"FSLAB_STORE": str(home / "store"), "TQDM_DISABLE": "1"}

    def run(*words):
        return call(python, *words, cwd=home, env=environment)

    run.home = home
    return run


def test_the_wheel_is_what_runs(newcomer):
    place = newcomer("-c", "import fslab; print(fslab.__file__)").strip()
    assert Path(place).is_relative_to(newcomer.home)


def test_a_picture_is_segmented(newcomer):
    code = "import fslab; print(fslab.checkout('data/minivoc/JPEGImages/val_0000.png'))"
    picture = newcomer("-c", code).strip()
    assert Path(picture).is_relative_to(newcomer.home)
    newcomer("-m", "fslab", "segment", picture, "--out", "masks", "--method", "fslab")
    assert {path.suffix for path in (newcomer.home / "masks").iterdir()} == {".png", ".json"}


def test_notebooks_come_with_their_data(newcomer):
    said = newcomer("-m", "fslab", "notebooks", "mine")
    mine = newcomer.home / "mine"
    ours = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
    assert sorted(path.name for path in (mine / "notebooks").glob("*.ipynb")) == ours
    assert f"{len(ours) - 1} notebooks" in said  # Colab's is none of those with a number
    code = "import fslab, os; os.chdir('mine/notebooks'); print(fslab.checkout('data/minivoc'))"
    assert Path(newcomer("-c", code).strip()) == mine / "data" / "minivoc"


def test_nothing_of_the_repository_s_own_is_in_it(wheel):
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
    assert "fslab/py.typed" in names
    assert not [name for name in names if name.startswith(("tests", "docs")) or ".pyc" in name]


def test_notebooks_go_into_a_new_folder_only(run, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "thesis.txt").write_text("all of it")
    (tmp_path / "file").write_text("a file")
    for target in ("there", "file"):
        code, _, said = run("notebooks", tmp_path / target)
        assert code == 2
        assert "is there already; give a new folder, or an empty one" in said
    assert (tmp_path / "there" / "thesis.txt").read_text() == "all of it"
    code, _, said = run("notebooks", tmp_path / "file" / "below")
    assert code == 2
    assert "cannot be written (" in said


def test_notebooks_go_into_an_empty_folder_that_stays_what_it_is(run, tmp_path, monkeypatch):
    """Also where it is the working folder, or a link, neither of which can be replaced."""
    (tmp_path / "an empty one").mkdir()
    (tmp_path / "link").symlink_to("an empty one")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for target in (".", tmp_path / "link"):
        code, said, _ = run("notebooks", target)
        assert code == 0
        assert sorted(os.listdir(target)) == ["data", "notebooks"]
    assert (tmp_path / "link").is_symlink()
    code, said, _ = run("notebooks", "two words")
    assert said.endswith("jupyter lab 'two words/notebooks'\n")


def test_notebooks_that_cannot_be_written_leave_nothing(run, tmp_path, monkeypatch):
    import shutil

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", full)
    code, _, said = run("notebooks", tmp_path / "mine")
    assert code == 2
    assert "No space left on device" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["ipywidgets", "anywidget"])
def test_explorers_say_what_they_miss(name):
    code = (
        f"import sys; sys.modules[{name!r}] = None\n"
        "import fslab\n"
        "try:\n"
        "    import fslab.widgets\n"
        "except fslab.FslabError as error:\n"
        "    print(error)\n"
    )
    said = call(sys.executable, "-c", code)
    assert name in said
    assert "pip install 'fslab[lab]'" in said
