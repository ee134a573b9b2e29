"""OpenTelemetry: a span for each task, when somebody has asked for it."""

import subprocess
import sys
from importlib.metadata import entry_points

import pytest
import thistledown as td
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult
from thistledown import telemetry

from support import PATIENCE, settle


class ByName(Sampler):
    """Samples those whose parent has nothing to say, but for an outer one."""

    def should_sample(self, parent_context, trace_id, name, *_, **__):
        return SamplingResult(Decision.DROP if name.startswith("outer") else Decision.RECORD_AND_SAMPLE)

    def get_description(self):
        return "by name"


@pytest.fixture
def exported(request):
    """The spans that were ended, with telemetry on while the test lasts."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=getattr(request, "param", None))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry.instrument(provider)
    yield exporter
    telemetry.uninstrument()
    provider.shutdown()


def by_name(exported):
    return {span.name.rpartition("-")[0] or span.name: span for span in exported.get_finished_spans()}


async def child():
    await td.sleep(0)


async def parent():
    await td.go(child)


async def outer():
    await td.go(parent)
    await td.go(child)


async def fails():
    raise ValueError("no such account")


async def receives():
    await td.Channel().recv()


def test_tasks_are_spans_below_the_one_that_has_told_them_to_go(exported):
    td.run(parent)
    spans = by_name(exported)
    outer, inner = spans["parent"], spans["child"]
    assert inner.parent.span_id == outer.context.span_id
    assert outer.parent is None
    assert outer.attributes["thistledown.task.place"] == "here"
    assert outer.start_time <= inner.start_time <= inner.end_time <= outer.end_time


def test_what_was_current_is_the_parent_and_stays_current(exported):
    async def main():
        span = trace.NonRecordingSpan(trace.SpanContext(7, 9, False, trace.TraceFlags(1)))
        with trace.use_span(span):
            await td.go(child)
            assert trace.get_current_span() is span

    td.run(main)
    assert by_name(exported)["child"].parent.span_id == 9


@pytest.mark.parametrize("exported", [ParentBased(ByName())], indirect=True)
def test_what_a_task_that_is_not_sampled_tells_to_go_is_not_either(exported):
    """Trace API, "Sampling": the parent's decision reaches its children, whoever makes them."""
    td.run(outer)
    assert exported.get_finished_spans() == ()
    td.run(child)
    assert list(by_name(exported)) == ["child"]


def test_a_failure_and_a_cancellation_are_told(exported):
    async def main():
        failing, endless = td.go(fails), td.go(receives)
        with pytest.raises(ValueError, match="account"):
            await failing
        endless.cancel()
        await settle()

    td.run(main)
    spans = by_name(exported)
    assert spans["fails"].status.status_code is trace.StatusCode.ERROR
    assert spans["fails"].events[0].attributes["exception.message"] == "no such account"
    assert spans["receives"].attributes["thistledown.task.cancelled"] is True
    assert spans["receives"].status.status_code is trace.StatusCode.UNSET


def test_an_error_that_only_a_span_has_seen_is_not_lost(exported):
    async def main():
        td.go(fails)
        await settle()

    with pytest.raises(ValueError, match="account"):
        td.run(main)
    assert by_name(exported)["fails"].status.status_code is trace.StatusCode.ERROR


def test_tasks_of_workers_are_spans(exported):
    async def main():
        async with td.Workers(1) as pool:
            with pytest.raises(ZeroDivisionError):
                await pool.options(name="divide").go(divmod, 1, 0)
            assert await pool.options(name="count").go(len, "abc") == 3

    td.run(main)
    spans = {span.name: span for span in exported.get_finished_spans()}
    assert spans["count"].attributes["thistledown.task.place"] == "workers"
    assert spans["divide"].status.description == "ZeroDivisionError"


def test_nothing_is_made_before_it_is_asked_for_or_after(exported):
    telemetry.uninstrument()
    td.run(parent)
    assert exported.get_finished_spans() == ()
    program = "import sys, thistledown as td\ntd.run(td.sleep(0))\nassert 'opentelemetry' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=PATIENCE)


def test_without_opentelemetry_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ModuleNotFoundError, match="pip install opentelemetry-sdk"):
        telemetry.instrument()


def test_opentelemetrys_own_command_finds_it():
    [found] = [known for known in entry_points(group="opentelemetry_instrumentor") if known.name == "thistledown"]
    instrumentor = found.load()()
    assert instrumentor.instrument.__self__ is instrumentor
    assert found.load() is telemetry.ThistledownInstrumentor
