"""The hooks that run inside: createContainer before the pivot, startContainer before the program (config.md#hooks).

Their paths resolve where they run: init executes them at the right moment. prestart and createRuntime are the runtime's
to run, at a sync.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from ocirt._native import lib
from ocirt.compile.context import CreateContext
from ocirt.ops import Op, RunHook, Sync
from ocirt.spec import Hook


def compile_create_hooks(ctx: CreateContext) -> Iterator[Op]:
    hooks = ctx.spec.hooks
    if not hooks:
        return
    if hooks.prestart or hooks.create_runtime:
        yield Sync("/hooks", lib.SYNC_RUNTIME_HOOKS)
    yield from _run("createContainer", hooks.create_container, ctx.request.state, "creating")


def compile_start_hooks(ctx: CreateContext) -> Iterator[Op]:
    if ctx.spec.hooks:
        yield from _run("startContainer", ctx.spec.hooks.start_container, ctx.request.state, "created")


def _run(kind: str, hooks: tuple[Hook, ...], state: Mapping[str, object], status: str) -> Iterator[Op]:
    head, tail = state_around_pid(state, status) if hooks else ("", "")
    for index, hook in enumerate(hooks):
        yield RunHook(
            f"/hooks/{kind}/{index}", hook.path, hook.args or (hook.path,), hook.env, head, tail, hook.timeout or 0
        )


def state_around_pid(state: Mapping[str, object], status: str) -> tuple[str, str]:
    """The state as JSON in two parts, between which the pid is to stand: init alone knows what it is in there."""
    before = {name: state[name] for name in ("ociVersion", "id") if name in state}
    after = {name: value for name, value in state.items() if name not in (*before, "status", "pid")}
    head = json.dumps({**before, "status": status})[:-1] + ', "pid": '
    tail = ", " + json.dumps(after)[1:] if after else "}"
    return head, tail
