"""A space of some tuples, and what tests do with one."""

from thistledown import testing

from spaces import new_space


def space_of(*tuples):
    space = new_space()
    for one in tuples:
        space.write_nowait(one)
    return space


async def take_into(log, name, space, template, **options):
    log.append((name, await space.take(template, **options)))


def virtual(test):
    def run():
        testing.run(test)

    run.__name__ = test.__name__
    return run
