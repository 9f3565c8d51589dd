"""The pool ``processes``: each slot of the worker owns one child process, and tasks run there.

Why not a library: pebble, loky and ``concurrent.futures`` (round trips of 175, 290 and 140 µs, ours 185, in one
run) move a function and its value, and nothing else.  None can raise a soft limit in a task, hear progress from it, or
let it send tasks and ask for results; loky and ``concurrent.futures`` lose every task when one child dies; ``spawn``
runs a script's ``__main__`` again.  What is left to write is one conversation over a pipe: ``subprocess`` starts
the child, ``multiprocessing.connection`` frames what is said, ``cloudpickle`` ships the tasks of a notebook.

Modules: `child` (the kernel's hold on one process), `executor` (what a slot does with it), `desk` (what a running
task may ask of the kernel), `shipping` (tasks by reference or by value), `wire` (messages and outcomes as plain data);
on the other side of the pipe `inside` (the loop), `stand_ins` (the app a task sees there), `modules` (what changed on
disk).

What a child prints goes where the kernel's own file descriptors 1 and 2 go; the conversation has a pipe of its own, so
nothing printed can disturb it.  Names a notebook binds again are seen by the next task; an object that is changed in
place is not, a process has its own copy.
"""

from __future__ import annotations

__all__: list[str] = []
