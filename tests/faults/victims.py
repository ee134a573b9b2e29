"""What tasks do in the tests of faults: functions that a worker imports by name."""

import ctypes
import os
import random
import signal
import socket
import sys
import threading
import time

FOREVER = 3600


def square(number):
    return number * number


def process():
    return os.getpid()


# --- to be seen -----------------------------------------------------------------------------------------------


def arrive(address):
    """Says at a meeting that this has begun; gives the connection."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(address)
    connection.sendall(str(os.getpid()).encode())
    return connection


def stay(address):
    """Waits at a meeting until it is over."""
    with arrive(address) as connection:
        connection.recv(1)
    return os.getpid()


def begin(address, function, *args):
    arrive(address).close()
    return function(*args)


# --- to die ---------------------------------------------------------------------------------------------------


def kill_itself(number):
    os.kill(os.getpid(), number)
    time.sleep(FOREVER)


def exit_at_once(code):
    os._exit(code)


def segfault():
    ctypes.string_at(0)


def abort():
    os.abort()


def last_words(text, code):
    print(text, file=sys.stderr, flush=True)
    os._exit(code)


# --- to go on for ever ------------------------------------------------------------------------------------------


def spin(*_):
    while True:
        pass


def sleep():
    time.sleep(FOREVER)


def swallow():
    """Refuses to be stopped."""
    while True:
        try:
            time.sleep(FOREVER)
        except BaseException:
            continue


def deaf():
    """In a C call, with all signals blocked. Other threads could run."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    ctypes.CDLL(None).sleep(FOREVER)


def deaf_with_lock():
    """The same, and it holds the interpreter lock."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    ctypes.PyDLL(None).sleep(FOREVER)


ENDLESS = [spin, sleep, swallow, deaf, deaf_with_lock]


# --- to take much -----------------------------------------------------------------------------------------------


def grow(size_bytes):
    """Takes memory, and gives it back after all when nobody minds."""
    return len(bytearray(b"x") * size_bytes)


def grow_for_ever():
    kept = []
    while True:
        kept.append(bytearray(b"x") * (1 << 20))


def hold(size_bytes):
    """Takes memory and keeps it, after this task as well."""
    global held
    held = bytearray(b"x") * size_bytes
    return os.getpid()


def large(size_bytes):
    return bytes(size_bytes)


def chatter(size_bytes):
    line = "x" * 99 + "\n"
    for _ in range(size_bytes // len(line)):
        sys.stderr.write(line)
    sys.stderr.write("the end of it\n")
    return "said"


# --- to leave something behind ------------------------------------------------------------------------------------


def close_all():
    """Closes every descriptor that its worker has, and goes on."""
    os.closerange(3, 1024)
    return "closed"


def scribble(pattern):
    """Writes over the memory that this worker shares with its parent."""
    with open("/proc/self/maps") as maps:
        lines = [line.split() for line in maps if "memfd:thistledown-region" in line]
    dice = random.Random(pattern)
    for first, last in [line[0].split("-") for line in lines]:
        start, size = int(first, 16), int(last, 16) - int(first, 16)
        if isinstance(pattern, int):
            ctypes.memset(start, pattern, size)
        else:
            ctypes.memmove(start, dice.randbytes(size), size)
    return len(lines)


def scribble_on(value, pattern):
    """Does so again and again, also beside the tasks that come; gives the value."""

    def go_on():
        while True:
            scribble(pattern)

    threading.Thread(target=go_on, daemon=True).start()
    return value


def fork_and_leave(address):
    """Forks a process that outlives the task; gives its id."""
    child = os.fork()
    if child == 0:
        stay(address)
        os._exit(0)
    return child


def start_threads(count, address):
    """Starts threads that outlive the task."""
    for _ in range(count):
        threading.Thread(target=stay, args=(address,), daemon=True).start()
    return os.getpid()


# --- to start tasks of their own ----------------------------------------------------------------------------------


def descend(pool, depth):
    if depth == 0:
        return 0
    return 1 + pool.submit(descend, pool, depth - 1).result()


def descend_and_die(pool, depth):
    if depth == 0:
        os._exit(3)
    return pool.submit(descend_and_die, pool, depth - 1).result()


def fan(pool, width, depth):
    if depth == 0:
        return 1
    return sum(task.result() for task in [pool.submit(fan, pool, width, depth - 1) for _ in range(width)])


def tower(pool, address, depth):
    """Whoever is stopped stops what he waits for."""
    if depth == 0:
        return begin(address, sleep)
    task = pool.submit(tower, pool, address, depth - 1)
    try:
        return task.result()
    finally:
        task.cancel()


def start_and_die(pool, address):
    for _ in range(5):
        pool.submit(stay, address)
    arrive(address)
    os._exit(4)


# --- values that do not travel ------------------------------------------------------------------------------------


class Unpicklable:
    def __reduce__(self):
        raise ValueError("this one stays here")


class TwoArguments(Exception):
    """Its class cannot be called with what ``Exception`` keeps."""

    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code = code


class WithLock(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


class BadText(Exception):
    def __init__(self):
        super().__init__("nobody sees this")
        self.lock = threading.Lock()

    def __str__(self):
        raise ValueError("and this neither")

    __repr__ = __str__


class BombOnArrival:
    """Can be pickled; its pickle cannot be opened."""

    def __reduce__(self):
        return explode, ()


def explode():
    raise RuntimeError("opened")


def crash_on_arrival():
    """What, when it is opened, kills the process that opens it unless it is the one that made it."""
    return BombOnArrival()


def give(make):
    return make()


def give_lock():
    return threading.Lock()


def fail_with(make, *args):
    raise make(*args)


def fail_unknown(text):
    """With an exception whose class exists nowhere but in this process."""
    lock = threading.Lock()

    class Unknown(Exception):
        def held(self):
            return lock

    raise Unknown(text)


def fail_deep():
    try:
        raise ValueError("the first")
    except ValueError as error:
        raise TwoArguments(7, "the second") from error


def leave(*args):
    sys.exit(*args)


def interrupt():
    raise KeyboardInterrupt("in a task")


def stop_generator():
    raise StopIteration("out of nothing")


def read_input():
    return sys.stdin.read()


# --- to be counted ------------------------------------------------------------------------------------------------


def note(path, number):
    """Leaves its number where each that has begun leaves it, and gives it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(descriptor, number.to_bytes(8, "little"))
    finally:
        os.close(descriptor)
    return number


def note_and_sleep(path, number, seconds):
    note(path, number)
    time.sleep(seconds)
    return number


def note_and_give(path, number, data):
    note(path, number)
    return data


def note_and_nest(path, number, pool):
    note(path, number)
    return pool.submit(square, number).result()


def note_and_exit(path, number):
    note(path, number)
    os._exit(3)


async def rest(number):
    import thistledown

    await thistledown.sleep(0.001)
    return number
