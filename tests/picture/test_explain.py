"""A canvas in words."""

from nbcanvas.canvas import Signature, chain, chunks, group
from nbcanvas.ids import seeded_ids
from nbcanvas.picture.explain import explain, explanation_html
from nbcanvas.plan import Call, Chain, Fan, freeze
from nbcanvas.protocol.payload import pack_args, size_of, unpack_args


def sig(task, *args, **options):
    return Signature(task, args=args, **options)


def told(canvas):
    node = freeze(canvas, seeded_ids(1), pack_args)
    return explain(
        node,
        canvas,
        args_of=lambda call: unpack_args(call.payload),
        queue_of=lambda _: "celery",
        size_of=lambda call: size_of(call.payload),
        items=lambda call: len(unpack_args(call.payload)[1]["it"]),
    )


def test_the_tours_chord():
    assert (
        str(told(group(sig("add", i, i) for i in range(100)) | sig("tsum")))
        == """\
101 tasks: add ×100, tsum ×1.
  1. add ×100, side by side.
  2. tsum(), given the list of all 100 values in call order, once they are there (a chord).
Shape:
  a chord starts its body with the list of its header's values, once all of them are there.
Messages:
  101 messages: 100 at once, 1 later.
  queue celery: 101 of about 18 bytes each, about 1.8 kB together, before what is given."""
    )


def test_which_argument_comes_from_where():
    said = str(told(chain(sig("add", 2, 2), sig("mul", 8), sig("log", immutable=True))))
    assert "1. add(2, 2)." in said
    assert "2. mul(8), given the value of add before its own arguments." in said
    assert "3. log(), immutable: it is not given the value of mul." in said


def test_what_is_flattened_and_unrolled():
    said = told(group(group(sig("a"), sig("b")), sig("c"))).shape
    assert said == ("a group inside a group is unrolled into it.",)
    assert told(sig("a")).shape == ()


def test_chunks_are_told_in_items():
    said = told(chunks(sig("add"), [(i, i) for i in range(100)], 10))
    assert said.shape == ("chunks become a group of starmaps, a message each.",)
    assert said.steps == ((0, "starmap of add ×10, side by side, over 100 items."),)
    assert said.messages[0] == "10 messages: 10 at once."


def test_links_and_errbacks():
    first = sig("add", 1)
    first.link(sig("log"))
    first.link_error(sig("mail"))
    assert "add(1); its value goes on to log; if it fails, tell mail." in str(told(first))


def test_it_is_short_for_anything():
    big = Fan("g", [Chain([Call(f"a{i}", f"t{i % 50}", ()), Call(f"b{i}", "x", ())]) for i in range(10_000)])
    assert len(str(explain(big)).splitlines()) < 80
    deep = Call("bottom", "x", ())
    for i in range(1000):
        deep = Chain([Fan(f"g{i}", [deep, Call(f"m{i}", "m", ())]), Call(f"c{i}", "c", ())])
    assert len(str(explain(deep)).splitlines()) < 80


def test_sizes_of_many_are_measured_of_few():
    asked = []
    explain(Fan("g", [Call(f"a{i}", "t", ()) for i in range(10_000)]), size_of=lambda call: asked.append(call) or 10)
    assert len(asked) < 200


def test_an_empty_canvas():
    assert str(told(group())) == "Nothing to run."


def test_html_is_escaped():
    html = explanation_html(explain(Call("a", "<b>", ("<i>",)), args_of=lambda _: (("<i>",), {})))
    assert "&lt;b&gt;(&#x27;&lt;i&gt;&#x27;)" in html
    assert "<i>" not in html


def test_tasks_nobody_registered_are_marked():
    node = freeze(group(sig("a.load"), sig("b.load")) | sig("b.sum"), seeded_ids(1), pack_args)
    said = str(explain(node, known={"a.load", "b.sum"}))
    assert said.splitlines()[0].endswith("Not registered: b.load.")
    assert "- b.load (not registered)." in said
    assert "- a.load." in said
    assert str(explain(node, known={"a.load", "b.load", "b.sum"})).count("registered") == 0


def test_names_that_would_be_alike_are_told_in_full():
    said = str(told(sig("a.load") | sig("b.load") | sig("c.sum")))
    assert "1. a.load()." in said
    assert "2. b.load(), given the value of a.load." in said
    assert "3. sum(), given the value of b.load." in said


def test_its_repr_is_its_words():
    explanation = told(sig("a"))
    assert repr(explanation) == str(explanation)
