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

from leaks import eventually
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


class Account:
    """Holds money, and hands it on."""

    def __init__(self, balance=0):
        self.balance = balance

    def deposit(self, amount):
        self.balance += amount
        return self.balance

    async def later(self):
        await td.sleep(0)
        return self.balance

    def fails(self):
        raise ValueError("no such account")

    def pays_into(self, other):
        return other.deposit(1).result()


def names(exported):
    return sorted(span.name.rpartition("-")[0] for span in exported.get_finished_spans())


@pytest.fixture
def pool():
    with td.Workers(2) as pool:
        yield pool


def until(exported, *expected):
    """Who has asked to hear of ends in other processes hears a moment after them."""
    eventually(lambda: names(exported) == sorted(expected), f"there are not just spans of {expected}")


def test_calls_of_actors_in_workers_are_spans(exported, pool):
    account = pool.options(name="joint").actor(Account, 5)
    assert account.deposit(1).result(PATIENCE) == 6
    assert account.later().result(PATIENCE) == 6
    assert account.balance.result(PATIENCE) == 6
    with pytest.raises(ValueError, match="account"):
        account.fails().result(PATIENCE)
    account.stop().result(PATIENCE)
    until(exported, "joint.balance", "joint.deposit", "joint.fails", "joint.later")
    spans = by_name(exported)
    assert {span.attributes["thistledown.task.place"] for span in spans.values()} == {"workers"}
    assert spans["joint.fails"].status.description == "ValueError"
    assert spans["joint.deposit"].status.status_code is trace.StatusCode.UNSET


def test_a_call_of_an_actor_in_a_worker_is_below_the_task_that_makes_it(exported, pool):
    async def calls():
        async with pool.options(name="joint").actor(Account) as account:
            await account.deposit(1)

    td.run(calls)
    eventually(lambda: "joint.deposit" in by_name(exported), "there is no span of the call")
    spans = by_name(exported)
    [outer] = [span for name, span in spans.items() if name.endswith("calls")]
    assert spans["joint.deposit"].parent.span_id == outer.context.span_id


def spans_of_a_call(account):
    """In a worker: what is exported there when a task of it calls an actor of the pool."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry.instrument(provider)
    try:
        account.deposit(1).result(PATIENCE)
        until(exporter, "joint.deposit")
    finally:
        telemetry.uninstrument()


def test_a_call_that_is_made_in_a_worker_is_a_span_there_when_somebody_asks_there(exported, pool):
    account, other = (pool.options(name=name).actor(Account) for name in ("joint", "other"))
    pool.go(spans_of_a_call, account).result(PATIENCE)
    assert other.pays_into(account).result(PATIENCE) == 2
    until(exported, "other.pays_into", "spans_of_a_call")


def test_how_a_weightless_actor_is_stopped_and_moved_is_no_span(exported):
    async def main():
        account = td.here.actor(Account)
        await account.move(td.here)
        await account.deposit(1)
        await account.stop()

    td.run(main)
    assert [name for name in names(exported) if not name.endswith("main")] == ["Account.deposit"]


def test_what_supervisors_do_for_themselves_is_no_span(exported, pool):
    here = td.child(Account).options(name="shallow", place=td.here)

    async def main():
        deep = td.Supervisor([here.options(name="deep")], name="inner")
        async with td.Supervisor([here, deep]) as supervisor:
            await supervisor["shallow"].deposit(1)
            await supervisor["inner"]["deep"].deposit(1)

    td.run(main)
    assert [name for name in names(exported) if not name.endswith("main")] == ["Account.deposit"] * 2
    exported.clear()
    with td.Supervisor([td.child(Account).options(name="joint", place=pool)]) as supervisor:
        supervisor["joint"].deposit(1).result(PATIENCE)
    until(exported, "joint.deposit")


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
