"""``%canvas why``: why a run is not done, or did not succeed."""


def test_why_a_run_failed(shell):
    shell.run("%%canvas -o total\ngroup(add.s(1, 1), fail.s(7)) | tsum.s()")
    shell["total"].wait(timeout=60)
    told = shell.run("%canvas why total")
    assert repr(told).splitlines()[1:] == [
        "✗ chord.header[1] fail: ValueError: no 7",
        "✗ chord.body tsum: it never ran: chord.header[1] failed (ValueError: no 7)",
    ]
    assert repr(shell.run("%canvas why")) == repr(told)  # the latest
    assert len(shell.run("w = %canvas why total\nw")) == 2


def test_why_nothing(shell):
    assert "no canvas has run" in str(shell.error("%canvas why"))
    assert "%canvas runs lists them" in str(shell.error("%canvas why nobody"))
    assert "usage" in str(shell.error("%canvas why a b"))


def test_why_completes_runs(shell):
    shell.run("%%canvas -o total\nadd.s(1, 1)")
    assert shell.complete("%canvas wh") == ["why"]
    assert shell.complete("%canvas why to") == ["total"]
