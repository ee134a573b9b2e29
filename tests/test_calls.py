"""The functions that are called most have a calling convention of their own; they are called as any other."""

import inspect

import pytest
import thistledown as td


async def given(*args, **kwargs):
    return args, kwargs


@pytest.mark.parametrize("sleep", [lambda: td.sleep(0), lambda: td.sleep(0.0), lambda: td.sleep(seconds=0)])
def test_a_sleep_of_zero_is_written_in_any_way(sleep):
    async def main():
        await sleep()
        return "over"

    assert td.run(main) == "over"


@pytest.mark.parametrize("call", [lambda: td.sleep(), lambda: td.sleep(1, 2), lambda: td.sleep("0"), lambda: td.go()])
def test_a_wrong_call_is_a_type_error(call):
    with pytest.raises(TypeError):
        call()


def test_a_go_without_a_body_says_so():
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'body'"):
        td.go()


@pytest.mark.parametrize(
    "start",
    [
        lambda: td.go(given, 1, 2, name=3, body=4),
        lambda: td.go(given, *(1, 2), name=3, body=4),
        lambda: td.go(given(1, 2, name=3, body=4)),
    ],
)
def test_arguments_reach_the_body(start):
    async def main():
        return await start()

    assert td.run(main) == ((1, 2), {"name": 3, "body": 4})


def test_an_error_in_the_call_of_the_body_is_raised():
    async def main():
        with pytest.raises(TypeError, match="unexpected keyword argument 'wrong'"):
            td.go(main, wrong=1)

    td.run(main)


@pytest.mark.parametrize("number", [1, True, 2.5])
def test_a_message_is_one_argument(number):
    async def main():
        channel = td.Channel(1)
        await channel.send(number)
        assert await channel.recv() is number
        for wrong in (lambda: channel.send(), lambda: channel.send(1, 2), lambda: channel.recv(1)):
            with pytest.raises(TypeError):
                wrong()

    td.run(main)


@pytest.mark.parametrize("function", [td.go, td.sleep, td.Channel.send, td.Channel.recv])
def test_they_say_what_they_take(function):
    assert inspect.signature(function)
    assert inspect.getdoc(function)


def test_a_task_takes_attributes_and_weak_references():
    import weakref

    async def main():
        task = td.go(given)
        noted = weakref.ref(task)
        assert not hasattr(task, "note")
        task.note = "mine"
        await task
        assert (noted(), task.__dict__) == (task, {"note": "mine"})
        del task
        return noted

    assert td.run(main)() is None
