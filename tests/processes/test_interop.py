"""The real libraries over the loopback: aiohttp, httpx, and FastAPI on uvicorn, both ways round.

Either they run in asyncio, and their handlers wait for what is ours; or `td.run(main, loop=...)` runs weightless tasks
that wait for what is theirs.
"""

import asyncio
import contextlib
import socket

import aiohttp
import httpx
import pytest
import thistledown as td
import uvicorn
import work
from aiohttp import web
from fastapi import FastAPI

from support import PATIENCE

COUNT = 20


@contextlib.asynccontextmanager
async def aiohttp_server(**handlers):
    """An aiohttp server whose handlers run in tasks of asyncio's; gives its address."""
    app = web.Application()
    for name, handler in handlers.items():
        app.router.add_get(f"/{name}", handler)
    # A client that goes away cancels its handler.
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def uvicorn_server(app):
    """A server of uvicorn's for an app; gives its address. It leaves signals and logging to the test."""

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self):
            yield

    server = Server(uvicorn.Config(app, log_config=None, lifespan="off", loop="none"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.ensure_future(server.serve(sockets=[listener]))
        try:
            while not server.started:
                await asyncio.sleep(0.001)
            host, port = listener.getsockname()
            yield f"http://{host}:{port}"
        finally:
            server.should_exit = True
            await serving


def fast_app(pool, gate=None):
    app = FastAPI()

    @app.get("/double/{number}")
    async def double(number: int):
        return await pool.go(work.double, number)

    @app.get("/pass")
    async def pass_gate():
        return await pool.go(work.pass_gate, gate.path)

    @app.get("/ping")
    async def ping():
        return "pong"

    return app


# --- weightless tasks that use them -------------------------------------------------------------------------


def test_aiohttp_client_and_server(loop_factory, pool):
    async def double(request):
        return web.json_response(await pool.go(work.double, int(request.query["number"])))

    async def ask(session, address, number):
        async with session.get(f"{address}/double", params={"number": number}) as response:
            return await response.json()

    async def main():
        async with aiohttp_server(double=double) as address, aiohttp.ClientSession() as session:
            async with td.TaskGroup() as group:
                tasks = [group.go(ask, session, address, number) for number in range(COUNT)]
            return [task.result() for task in tasks]

    assert td.run(main, loop=loop_factory) == list(range(0, 2 * COUNT, 2))


@pytest.mark.parametrize("limit", ["ours", "asyncio's", "aiohttp's"])
def test_requests_of_aiohttp_that_take_too_long(loop_factory, limit):
    async def never(request):
        await td.sleep(3600)

    async def main():
        async with aiohttp_server(never=never) as address:
            total = aiohttp.ClientTimeout(total=0.01 if limit == "aiohttp's" else 3600)
            async with aiohttp.ClientSession(timeout=total) as session:
                with pytest.raises(TimeoutError):
                    with td.timeout(0.01 if limit == "ours" else 3600):
                        async with asyncio.timeout(0.01 if limit == "asyncio's" else 3600):
                            await session.get(f"{address}/never")

    td.run(main, loop=loop_factory)


def test_a_cancelled_request_of_aiohttp_ends(loop_factory):
    async def main():
        reached, left = td.Channel(1), td.Channel(1)

        async def never(request):
            await reached.send("reached")
            try:
                await td.sleep(3600)
            finally:
                left.send_nowait("left")

        async def ask(session, address):
            await session.get(f"{address}/never")

        async with aiohttp_server(never=never) as address:
            async with aiohttp.ClientSession() as session:
                task = td.go(ask, session, address)
                await reached.recv()
                task.cancel()
                with pytest.raises(td.TaskCancelled):
                    await task
        return await left.recv()

    assert td.run(main, loop=loop_factory) == "left"


def test_a_web_socket_of_aiohttp(loop_factory):
    async def echo(request):
        stream = web.WebSocketResponse()
        await stream.prepare(request)
        async for message in stream:
            await stream.send_str(message.data.upper())
        return stream

    async def main():
        async with aiohttp_server(echo=echo) as address, aiohttp.ClientSession() as session:
            async with session.ws_connect(f"{address}/echo") as stream:
                answers = []
                for word in ("one", "two"):
                    await stream.send_str(word)
                    answers.append((await stream.receive()).data)
                return answers

    assert td.run(main, loop=loop_factory) == ["ONE", "TWO"]


def test_httpx_and_fastapi(loop_factory, pool):
    async def ask(client, number):
        return (await client.get(f"/double/{number}")).json()

    async def main():
        async with uvicorn_server(fast_app(pool)) as address:
            async with httpx.AsyncClient(base_url=address, timeout=PATIENCE, trust_env=False) as client:
                async with td.TaskGroup() as group:
                    tasks = [group.go(ask, client, number) for number in range(COUNT)]
        return [task.result() for task in tasks]

    assert td.run(main, loop=loop_factory) == list(range(0, 2 * COUNT, 2))


@pytest.mark.parametrize("limit", ["ours", "httpx's"])
def test_requests_of_httpx_that_take_too_long(loop_factory, limit):
    async def never(request):
        await td.sleep(3600)

    async def main():
        async with aiohttp_server(never=never) as address:
            limits = httpx.Timeout(PATIENCE, read=0.01 if limit == "httpx's" else 3600)
            async with httpx.AsyncClient(base_url=address, timeout=limits, trust_env=False) as client:
                expected = httpx.ReadTimeout if limit == "httpx's" else TimeoutError
                with pytest.raises(expected), td.timeout(0.05 if limit == "ours" else 3600):
                    await client.get("/never")
            await td.sleep(0.001)

    td.run(main, loop=loop_factory)


# --- their handlers wait for what is ours -------------------------------------------------------------------


def test_a_fastapi_app_answers_while_its_handlers_wait_for_heavy_work(run, pool, gate):
    """No measure: the heavy requests end when the light ones have been answered, and not before."""

    async def main():
        async with uvicorn_server(fast_app(pool, gate)) as address:
            async with httpx.AsyncClient(base_url=address, timeout=PATIENCE, trust_env=False) as client:
                heavy = [asyncio.ensure_future(client.get("/pass")) for _ in range(2)]
                await asyncio.to_thread(gate.wait_for_arrivals, 2)
                light = [(await client.get("/ping")).json() for _ in range(COUNT)]
                assert not any(request.done() for request in heavy)
                gate.open(2)
                assert {(await request).json() for request in heavy} == {gate.path}
        return light

    assert run(main) == ["pong"] * COUNT


def test_a_handler_uses_groups_channels_and_timeouts(run):
    async def handler(request):
        channel = td.Channel()

        async def produce(number):
            await channel.send(number)

        async with td.TaskGroup() as group:
            for number in range(3):
                group.go(produce, number)
            received = [await channel.recv() for _ in range(3)]
        with td.move_on_after(0.001):
            await channel.recv()
        return web.json_response(sorted(received))

    async def main():
        async with aiohttp_server(handler=handler) as address, aiohttp.ClientSession() as session:

            async def ask():
                async with session.get(f"{address}/handler") as response:
                    return await response.json()

            return await asyncio.gather(*(ask() for _ in range(COUNT)))

    assert run(main) == [[0, 1, 2]] * COUNT


def test_a_client_that_goes_away_cancels_what_its_handler_waits_for(run):
    async def main():
        reached, left = td.Channel(1), td.Channel(1)

        async def wait(request):
            async def work():
                try:
                    await reached.send("reached")
                    await td.sleep(3600)
                finally:
                    left.send_nowait("left")

            async with td.TaskGroup() as group:
                group.go(work)

        app = web.Application()
        app.router.add_get("/wait", wait)
        runner = web.AppRunner(app, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        reader, writer = await asyncio.open_connection(*runner.addresses[0])
        writer.write(b"GET /wait HTTP/1.1\r\nHost: here\r\n\r\n")
        await reached.recv()
        writer.close()
        await writer.wait_closed()
        del reader
        assert await left.recv() == "left"
        await runner.cleanup()

    run(main)
