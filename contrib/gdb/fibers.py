# SPDX-License-Identifier: MIT
"""gdb command "fibers": the live fibers of the current thread, their state and backtrace.

    (gdb) source contrib/gdb/fibers.py
    (gdb) fibers          name and state of each
    (gdb) fibers bt       with backtraces (live processes on x86-64 with the assembly switch)

A suspended fiber's registers lie on its stack, where src/fiber/switch_x86_64.S
put them; for the backtrace they are loaded into the thread's and then put back.
"""

import gdb

SAVED = ("r15", "r14", "r13", "r12", "rbx", "rbp", "rip")


def list_entries(head, type_name, member):
    fiber_type = gdb.lookup_type(type_name)
    offset = next(f.bitpos // 8 for f in fiber_type.fields() if f.name == member)
    byte = gdb.lookup_type("char").pointer()
    node = head["next"]
    while node != head.address:
        yield (node.cast(byte) - offset).cast(fiber_type.pointer())
        node = node["next"]


def backtrace(fiber):
    stack = fiber["context"]["sp"].cast(gdb.lookup_type("unsigned long").pointer())
    frame = gdb.selected_frame()
    gdb.newest_frame().select()
    before = {name: int(gdb.parse_and_eval("(unsigned long)$" + name)) for name in SAVED + ("rsp",)}
    try:
        for index, name in enumerate(SAVED):
            gdb.execute("set $%s = %d" % (name, int(stack[index])))
        gdb.execute("set $rsp = %d" % (int(stack) + 8 * len(SAVED)))
        gdb.execute("bt")
    finally:
        for name, value in before.items():
            gdb.execute("set $%s = %d" % (name, value))
        gdb.newest_frame().select()
        if frame.is_valid():
            frame.select()


class Fibers(gdb.Command):
    """List the fibers of the current thread; "fibers bt" adds backtraces."""

    def __init__(self):
        super().__init__("fibers", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        sched = gdb.parse_and_eval("'fiber.c'::sched")
        if not sched:
            print("this thread has no fibers")
            return
        for fiber in list_entries(sched["live"]["head"], "struct Fiber", "live_node"):
            name = fiber["name"].string()
            state = str(fiber["state"]).replace("FIBER_", "").lower()
            print("%s  %-9s %s" % (fiber, state, name))
            if argument == "bt" and state != "running":
                backtrace(fiber)


Fibers()
