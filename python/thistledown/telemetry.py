"""OpenTelemetry: a span for each task.

``pip install opentelemetry-sdk``, then ``telemetry.instrument()`` once; or ``opentelemetry-instrument python
program.py``, which finds this by itself. A span begins when a task is told to go, and ends with it; it has the
task's name and place, and the error that it failed with. Its parent is what was current where the task was told to
go; in a weightless task the task's own span is current, so its tasks are below it. A task in a worker process is
seen from this program: the span has the time that it stood in the queue in it, and spans that its body begins in
there are none of its children.

Nothing of it runs before ``instrument`` was called.

Source: https://opentelemetry.io/docs/specs/otel/trace/api/
"""

import contextvars
import functools
from typing import Any

from thistledown._observer import observe
from thistledown._task import Task

__all__ = ["ThistledownInstrumentor", "instrument", "uninstrument"]


def instrument(tracer_provider: Any = None) -> None:
    """Has a span made for each task that is told to go from now on, in this process.

    Args:
        tracer_provider: of ``opentelemetry``; None for the global one.

    Raises:
        ModuleNotFoundError: ``opentelemetry`` is not installed.
    """
    try:
        from opentelemetry import trace
    except ModuleNotFoundError as error:
        words = "spans need OpenTelemetry, which is not installed here: pip install opentelemetry-sdk"
        raise ModuleNotFoundError(words, name=error.name) from None
    from thistledown import __version__

    tracer = trace.get_tracer("thistledown", __version__, tracer_provider)
    observe(functools.partial(_begin, trace, tracer))


def uninstrument() -> None:
    """Has no more spans made. Those of tasks that have not ended are still ended."""
    observe(None)


class ThistledownInstrumentor:
    """What ``opentelemetry-instrument`` looks for: ``instrument`` and ``uninstrument`` as methods."""

    def instrument(self, *, tracer_provider: Any = None, **_: Any) -> None:
        """Has a span made for each task; see ``instrument`` of this module."""
        instrument(tracer_provider)

    def uninstrument(self, **_: Any) -> None:
        """Has no more spans made."""
        uninstrument()


def _begin(trace: Any, tracer: Any, task: Task[Any], place: str, context: contextvars.Context | None) -> None:
    """A task was told to go. The engine calls this."""
    span = tracer.start_span(
        task.name, attributes={"thistledown.task.id": task.id, "thistledown.task.place": place}, record_exception=False
    )
    # Also one that is not sampled, so that those below it are not either.
    if context is not None and span.get_span_context().is_valid:
        context.run(_make_current, trace, span)
    task.add_done_callback(functools.partial(_end, trace, span))


def _make_current(trace: Any, span: Any) -> None:
    from opentelemetry import context

    context.attach(trace.set_span_in_context(span))


def _end(trace: Any, span: Any, task: Task[Any]) -> None:
    if task.cancelled():
        span.set_attribute("thistledown.task.cancelled", True)
    elif (error := task._failure()) is not None:
        span.record_exception(error)
        span.set_status(trace.Status(trace.StatusCode.ERROR, type(error).__name__))
    span.end()
