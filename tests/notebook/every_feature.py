"""A user's notebook that uses every feature: its cells, in order.  Cells that are meant to fail are in `FAILING`."""

import nbformat

#: Options of ``%%canvas`` and commands of ``%canvas`` are compared with what exists (test_every_feature).
CELLS = [
    """%load_ext nbcanvas
import time, random
import nbcanvas, nbcanvas.notebook
from nbcanvas import App, task, signature, group, chord, chain, StampingVisitor
""",
    '''@task
def add(x, y):
    """Add two numbers, not always in the same time."""
    time.sleep(random.random() / 200)
    return x + y

@task
def tsum(numbers):
    return sum(numbers)

@task
def fail(x):
    raise ValueError(f"no {x}")

@task(bind=True, default_retry_delay=0.01, max_retries=3)
def shaky(self, x):
    if self.request.retries < 2:
        raise self.retry(exc=OSError("the disk was busy"))
    return x

@task(bind=True)
def train(self, epochs):
    for epoch in self.track(range(epochs)):
        time.sleep(random.random() / 100)
    return epochs

@task(bind=True)
def report(self, parts):
    for part in range(parts):
        self.update_state(state="PROGRESS", meta={"current": part, "total": parts})
    return parts

@task
def nap(seconds):
    time.sleep(seconds)
    return seconds

@task(bind=True)
def grow(self, n):
    return self.replace(group(add.s(i, i) for i in range(n)) | tsum.s())

@task
def record(i):
    return {"i": i, "square": i * i}

@task
def told(request, exc, traceback):
    pass''',
    # -- the language
    "add.s(2, 2) | tsum.s()",
    "print(chain(add.s(2, 2), group(add.s(1), add.s(2)), tsum.s()))",
    "chord([add.s(i, i) for i in range(4)], tsum.s())",
    "(add.s(1, 1) | group(add.s(2), add.s(3)) | tsum.s()).explain()",
    "add.chunks(zip(range(10), range(10)), 3)",
    "%%canvas -w\nadd.chunks(zip(range(10), range(10)), 3)",
    "%%canvas -w\ntsum.map([range(3), range(4)])",
    "%%canvas -w\nadd.starmap([(1, 1), (2, 2)])",
    "(add.s(2, 2) | add.s(4)).delay().get()",
    "add(1, 2), add.apply((1, 2)).get(), add.s(1, 2).apply_async(countdown=0.01).get()",
    # -- running
    "%canvas",
    "%%canvas -o total\ngroup(add.s(i, i) for i in range(100)) | tsum.s()",
    "total",
    "total.get(), total.state, dict(total.counts), total.id, total.result.id, len(total)",
    "await total",
    "%canvas runs",
    "%canvas last",
    "%canvas worker start -c 3",
    "%%canvas -w\ngroup(add.s(i, i) for i in range(10))",
    "%%canvas --wait 60 --view graph\nchain(add.s(1, 2), group(add.s(i) for i in range(3)), tsum.s(), add.s(4))",
    "%%canvas --view table\ngroup(add.s(i, i) for i in range(6)) | tsum.s()",
    "%%canvas -w --view bars\ngroup(add.s(i, i) for i in range(6)) | tsum.s()",
    "%%canvas -w --view none\ngroup(add.s(i, i) for i in range(6)) | tsum.s()",
    "%%canvas --dry-run\ngroup(add.s(i, i) for i in range(10)) | tsum.s()",
    "%%canvas -n\nsignature('nobody.knows', (1,)) | add.s('x')",
    "%%canvas -e\ngroup(add.s(i, i) for i in range(3)) | tsum.s()",
    "%%canvas -w -q hipri --priority 3 --timeout 60\nadd.s(1, 1)",
    "%%canvas -w --countdown 0.05 --expires 600\nadd.s(1, 1)",
    "%%canvas -w --save kept\nadd.s(5, 5)",
    "%%canvas -w\nkept | add.s(1)",
    "%canvas list",
    "other = App('other', set_as_current=False)\ndouble = other.task(name='double')(lambda x: 2 * x)",
    "%%canvas -w --app other\ndouble.s(4)",
    "nbcanvas.submit(add.s(1, 1)).wait().get()",
    # -- progress, retries, replacement
    "%%canvas -w\ngroup(train.s(n) for n in (5, 10, 15)) | tsum.s()",
    "%%canvas -w -o made\ngroup(shaky.s(i) for i in range(4)) | tsum.s()",
    "made.frame()[['path', 'state', 'retries']]",
    "%%canvas -w\ngroup(report.s(3), report.s(4))",
    "%%canvas -w -o grown\ngroup(grow.s(3), grow.s(4)) | tsum.s()",
    "grown",
    # -- stamps and tables
    """class Parity(StampingVisitor):
    def on_signature(self, sig, **headers):
        return {"parity": sig.args[0] % 2} if sig.args else {}""",
    """%%canvas -o stamped -V Parity -s experiment=42 -s tag=a --stamp tag=b -f df
group(add.s(i, i) for i in range(6)) | tsum.s()""",
    "df",
    "df.dtypes",
    "stamped.frame(stamps='explode')",
    "(add.s(1, 1) | tsum.s()).stamp_preview(Parity())",
    "stamped.graph(color='parity')",
    "stamped.bars()",
    "stamped.timeline()",
    "stamped.table()",
    "print(stamped.graph().to_mermaid(), stamped.graph().to_dot())",
    "len(stamped.to_html()) > 10_000",
    "nbcanvas.frame([total, stamped])",
    "%%canvas -w --record total.json -o again\ngroup(add.s(i, i) for i in range(6)) | tsum.s()",
    "%%canvas --replay total.json -o shown -w --view graph",
    "%%canvas --replay total.json -f told_again",
    "shown, told_again.equals(again.frame())",
    "%%canvas --write totals.py -w\ngroup(add.s(i, i) for i in range(6)) | tsum.s()",
    "import pathlib\nprint(pathlib.Path('totals.py').read_text())",
    "%%canvas -n --write totals.py\nadd.s(1, 1)",
    "%%canvas --view timeline\ngroup(add.s(i, i) for i in range(6)) | tsum.s()",
    "nbcanvas.attach(total.id).get()",
    "nbcanvas.notebook.line(f'attach {total.id}')",
    "recorded = stamped.record('stamped.json')\nrecorded",
    "recorded.get(), recorded.values()",
    "group(record.s(i) for i in range(3)).delay().get()",
    "%%canvas -o squares\ngroup(record.s(i) for i in range(3))",
    "squares.values()",
    # -- failing
    "%%canvas -o broken\nchord([add.s(1, 1), fail.s(2), shaky.s(3)], tsum.s())",
    "broken.get()",
    "%canvas why broken",
    "broken.why().frame()[['path', 'kind', 'text']]",
    "broken.failed",
    "broken.failed[0].rerun()",
    "broken.frame()",
    "broken.frame().traceback[1]",
    "broken.wait().state, broken.result.parent.results[0].get()",
    "broken.values()",
    """@task
def fail(x):
    return x""",
    "mended = broken.rerun()\nmended.get()",
    "mended",
    "broken.diff(mended)",
    """@task
def fail(x):
    raise ValueError(f"no {x}")""",
    "%%canvas -w\ngroup(fail.s(i) for i in range(6))",
    "%%canvas -w\nadd.s(1, 1) | fail.s() | add.s(1)",
    "%%canvas -w\nfail.s(0).on_error(told.s())",
    "%%canvas -e\nadd.s(1, 1) | fail.s()",
    "%%canvas -w --timeout 0.2\nnap.s(5)",
    "%%canvas\n1 + 1",
    "%%canvas --wiat\nadd.s(1, 1)",
    "%%canvas\nadd.s(1)",
    "%%canvas\nsignature('nobody.knows')",
    "%%canvas -o later -w 0.3 --countdown 600\nadd.s(1, 1)",
    "later",
    "%canvas inspect scheduled",
    "%canvas why later",
    "%canvas cancel later",
    "later.wait().state",
    "%%canvas -o stopped -w 0.3 --countdown 600 -s batch=7\ngroup(add.s(1, 1), add.s(2, 2))",
    "%canvas revoke --stamp batch=7",
    "stopped.wait()",
    "%canvas revoke --terminate stopped",
    # -- the panel
    "%canvas tasks",
    "%canvas inspect registered",
    "%canvas inspect active",
    "%canvas inspect reserved",
    "%canvas inspect revoked",
    "%canvas inspect stats",
    "%canvas inspect active_queues",
    "%canvas inspect conf",
    "%canvas inspect ping",
    "%canvas inspect query_task nobody",
    "%canvas inspect report",
    "%canvas inspect clock",
    "%canvas control rate_limit add 100/s",
    "%canvas cluster",
    "%canvas worker start -c 2 --pool processes",
    "%%canvas -w\ngroup(add.s(i, i) for i in range(10)) | tsum.s()",
    "%%canvas -w\nfail.s(9)",
    "%canvas status",
    "%canvas worker stop",
    "%canvas runs",
    "%canvas connect redis://localhost:1/0",
    "%canvas disconnect",
    "%canvas shipped",
    "%canvas attach nobody-knows-this-id",
    "%canvas wroker",
]

#: Beginnings of cells that are meant to fail.
FAILING = (
    "broken.get",
    "broken.failed[0].rerun()",
    "%%canvas -w\ngroup(fail",
    "%%canvas -w\nadd.s(1, 1) | fail",
    "%%canvas -w\nfail",
    "%%canvas -e\nadd.s(1, 1) | fail",
    "%%canvas -w --timeout 0.2",
    "%%canvas\n1 + 1",
    "%%canvas --wiat",
    "%%canvas\nadd.s(1)",
    "%%canvas\nsignature",
    "%%canvas -o later",
    "%%canvas -o stopped",
    "%canvas connect",
    "%canvas shipped",
    "%canvas attach nobody",
    "%canvas wroker",
)


def notebook():
    """Return the notebook, not yet executed."""
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    for number, cell in enumerate(made.cells):
        cell["id"] = f"cell-{number}"
        if cell.source.startswith(FAILING):
            cell.metadata["tags"] = ["raises-exception"]
    return made
