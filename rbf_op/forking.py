"""Whether this process is a forked child: compiled modules ask when they are loaded.

Each module watches for forks itself once it is loaded (c_code/threads.h); one that is loaded only
after a fork could not have seen it. Standard library only.
"""

import os

in_forked_child = False


def _after_in_child():
    global in_forked_child
    in_forked_child = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_in_child)
