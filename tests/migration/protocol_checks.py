"""What must hold in the world of `protocol_model`: at every moment, and when nothing more is on its way."""

from __future__ import annotations

from migration.protocol_model import (
    BEFORE_COMMIT,
    DEAD,
    FROZEN,
    RUNS,
    SERVING,
    WHOLE,
    Broken,
    E,
    World,
)
from omtools.migration.protocol import GuestSide, Home, HomeSide


def with_effects(world: World) -> list[str]:
    """The copies that run, and whose system calls have an effect."""
    found = ["home"] if world.copy == RUNS else []
    for index, away in enumerate(world.aways):
        served = world.home in SERVING and world.keeper and index == world.current and away.home_end
        if served and away.copy == RUNS:
            found.append(str(index))
    return found


def end_is_near(world: World) -> bool:
    """Home will hear that it is over, or has heard."""
    away = world.aways[world.current]
    news = {*world.local, *away.to_home}
    return (
        world.copy == DEAD
        or away.broken
        or not away.guest_end
        or bool(news & {E.LOST, E.EXITED, E.DIED})
        or E.EXITED in away.local
        or away.copy == DEAD
    )


def check(world: World) -> None:
    """What must hold at every moment; raises Broken."""
    running = with_effects(world)
    if len(running) > 1:
        raise Broken(f"two copies run with effects: {running}")
    if not world.keeper:
        if world.copy not in (RUNS, DEAD):
            raise Broken(f"the keeper is dead, the process at home is {world.copy}")
        return
    if world.home in BEFORE_COMMIT and world.copy not in (RUNS, FROZEN, DEAD):
        raise Broken(f"before the commit the process at home is {world.copy}")
    if world.home in (Home.HOME, Home.FAILED) and world.copy not in (RUNS, DEAD):
        raise Broken(f"{world.home.name}, and the process at home is {world.copy}")
    if world.home is Home.ENDED and world.copy != DEAD:
        raise Broken(f"ENDED, and the process at home is {world.copy}")
    copies = [world.copy, world.aways[world.current].copy]
    if world.home not in HomeSide.final and not set(copies) & set(WHOLE) and not end_is_near(world):
        raise Broken(f"no copy is whole: {copies}")


def at_rest(world: World) -> bool:
    """Nothing is on its way or being done; only new wishes or mishaps can change anything."""
    if world.keeper and world.home not in HomeSide.final and (world.busy or world.local):
        return False
    if world.keeper and world.home not in HomeSide.final and world.copy == DEAD:
        return False
    for index, away in enumerate(world.aways):
        if away.state not in GuestSide.final and (away.busy or away.local or away.to_guest):
            return False
        heard = world.keeper and world.home not in HomeSide.final and index in (world.current, world.next)
        if heard and away.to_home:
            return False
    return True


def check_rest(world: World) -> None:
    """What must hold when all has been said: every ending is one, and nothing is left behind."""
    over = not world.keeper or world.home in HomeSide.final
    guests = [away for away in world.aways if away.state not in GuestSide.final]
    if over and guests:
        raise Broken(f"it is over, and a guest is {guests[0].state.name}")
    if over:
        return
    if world.home is not Home.AWAY:
        raise Broken(f"at rest in {world.home.name}")
    if [away.copy for away in guests] != [RUNS]:
        raise Broken(f"away are {[away.copy for away in guests]}")
