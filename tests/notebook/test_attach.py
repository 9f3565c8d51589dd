"""A notebook finds its runs again: ``%canvas attach``, and results kept with one setting."""

from __future__ import annotations

import sqlite3

import pytest

import nbcanvas
from nbcanvas import current_app
from nbcanvas.errors import ImproperlyConfigured, UnknownRun
from nbcanvas.notebook.errors import CellError


def test_attach_gives_the_run_back(shell):
    shell.run("%%canvas -o total --wait\nadd.s(1, 1)")
    total = shell["total"]
    shell.run("del total")
    assert shell.run("%canvas attach total") is total
    assert shell.run(f"%canvas attach {total.id[:9]}") is total
    assert shell.error("%canvas attach nothing").error.__class__ is UnknownRun
    assert isinstance(shell.error("%canvas attach").error, CellError)
    assert isinstance(shell.error("%canvas attach a b").error, CellError)


def test_what_can_be_attached_to_is_completed(shell):
    shell.run("%%canvas -o total --wait\nadd.s(1, 1)")
    run = shell["total"]
    assert shell.complete("%canvas attach to") == ["total"]
    assert shell.complete(f"%canvas attach {run.id[:10]}") == [run.id]


def test_one_setting_keeps_results_and_a_new_kernel_finds_the_run(bare, tmp_path):
    (tmp_path / "pyproject.toml").write_text('[tool.nbcanvas]\nresult_backend = "db+sqlite:///kept/results.sqlite"\n')
    (tmp_path / "kept").mkdir()
    work = tmp_path / "notebooks"
    work.mkdir()
    bare.run(f"%cd -q {work}")
    bare.run("%load_ext nbcanvas")  # the path is relative to the file that names it
    bare.run("from nbcanvas import *\n@task\ndef add(x, y): return x + y")
    bare.run("%%canvas -o total --wait\ngroup(add.s(i, i) for i in range(5))")
    assert str(tmp_path / "kept" / "results.sqlite") in repr(bare.run("%canvas status"))
    run_id = bare["total"].id
    current_app().backend.flush(60)
    with sqlite3.connect(tmp_path / "kept" / "results.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM celery_taskmeta").fetchone() == (5,)
    connection.close()
    with nbcanvas.App(backend=f"db+sqlite:///{tmp_path}/kept/results.sqlite"):
        found = bare.run(f"%canvas attach {run_id}")
        assert found.get(timeout=60) == [0, 2, 4, 6, 8]
        assert found is bare.run("%canvas last")
        assert run_id in bare.complete("%canvas attach ")


def test_config_keeps_results_too_and_a_bad_place_says_so(shell, tmp_path):
    shell.run('%config NBCanvas.result_backend = "db+sqlite:///results.sqlite"')
    assert str(tmp_path / "results.sqlite") in repr(current_app().backend)
    shell.run('%config NBCanvas.result_backend = "db+sqlite:///others.sqlite"')
    assert str(tmp_path / "others.sqlite") in repr(current_app().backend)
    told = shell.error(
        "from nbcanvas import current_app; current_app().conf.result_backend = 'db+sqlite:///no/w.sqlite'"
    )
    assert isinstance(told.error, ImproperlyConfigured)


@pytest.mark.parametrize("value", ['"db+sqlite://"', "5"])
def test_a_bad_setting_names_its_file(bare, tmp_path, value):
    (tmp_path / "pyproject.toml").write_text(f"[tool.nbcanvas]\nresult_backend = {value}\n")
    told = bare.error("%load_ext nbcanvas")
    assert "pyproject.toml" in str(told.error)
    assert "result_backend" in str(told.error)
    (tmp_path / "pyproject.toml").unlink()
