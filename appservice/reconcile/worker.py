"""Make an agent real: user, room, storage, gateway consumer, workspace, sandbox; each a condition on the object.

    MatrixUser ---> Room
    Storage -----.
    Workspace ----+--> Sandbox started ---> Ready
    Consumer ----'      (created meanwhile)

Deletion is the same pass with nothing wanted, in reverse. Steps look at the world, never at what we remember.
"""

import asyncio
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from time import time
from typing import Any

import structlog

from appservice.backends.door import Door, door
from appservice.backends.protocol import Observed, Sandbox
from appservice.errors import OpsroomError, Unavailable
from appservice.homeserver.client import readable
from appservice.policy.roster import Agent
from appservice.reconcile import given
from appservice.reconcile.lives import Lives
from appservice.reconcile.recording import save
from appservice.reconcile.rooms import KIND as ROOM
from appservice.reconcile.steps import Done, Step, Waiting, Want, blocked, sandbox_steps, told, unbroken, wanted
from appservice.reconcile.tokens import Tokens
from appservice.reconcile.world import World, effective
from appservice.resources.worker import WorkerSpec
from appservice.rooms import own
from appservice.rooms.desired import own_room
from appservice.store import meta, objects, rooms, status, turns
from appservice.store.changes import Key
from appservice.store.database import Connection
from appservice.store.objects import Stored
from appservice.store.status import SETTLED, Condition, Status, is_current
from appservice.workspace import publish
from appservice.workspace.names import CARD, prefix

PULL_LOOK_S = 5.0  # how long a pass waits for an image; the next one looks again
_STATES = {"absent": "not_found", "created": "starting", "running": "running", "exited": "stopped"}
PULLING = "Pulling"
RESTING = "CrashLoopBackOff"

log = structlog.get_logger()


class WorkerReconciler:
    def __init__(self, world: World) -> None:
        self._w = world
        self._pulls: dict[str, asyncio.Task[None]] = {}
        self._lives = Lives()
        self._tokens = Tokens(world)

    # -- up -----------------------------------------------------------------------------------------------------

    async def build(self, stored: Stored) -> float | None:
        """One pass; seconds until the next look. Raises the first step's error."""
        declared = WorkerSpec.model_validate(stored.document["spec"])
        spec = declared.model_copy(update={"model": self._w.keeper.model(declared.model)})
        old = await status.get(self._w.store, stored.key)
        awake_until = await self._awake_until(stored.name)
        want = wanted(spec.state, awake=awake_until > time())
        await self._progress(stored, old)
        kept = {name: fact for name, fact in old.facts.items() if name != "model"}
        facts = {**kept, "matrixUserID": self._user(stored.name), "restart": stored.restart, "exposedPorts": []}
        facts |= {"model": spec.model} if spec != declared else {}
        conditions, errors = await self._steps(stored, spec, want, facts)
        fresh = replace(
            old,
            phase=phase(
                want,
                conditions,
                old.phase,
                current=is_current(stored, old),
                runs=facts["containerState"] in ("running", "ready"),
            ),
            observed_generation=stored.generation,
            facts=facts,
        ).with_conditions((*conditions, effective(stored)), now=time())
        await save(self._w.store, self._w.changes, stored.key, old, fresh)
        if errors:
            raise errors[0]
        pulls = any(condition.reason == PULLING for condition in conditions)
        return PULL_LOOK_S if pulls else self._next_look(stored.name, spec, awake_until)

    async def keep(self, stored: Stored) -> float:
        """Of one that is left as it is: it goes on having access. Seconds until the next look."""
        await self._tokens.keep(stored.name)
        return self._tokens.look_s

    async def _steps(
        self, stored: Stored, spec: WorkerSpec, want: Want, facts: dict[str, Any]
    ) -> tuple[list[Condition], list[OpsroomError]]:
        name = stored.name
        agent = (await self._w.declared.roster()).agents[name]
        sandbox = given.sandbox(stored, spec, agent, settings=self._w.settings, image=self._w.image)

        async def identity() -> list[tuple[Condition, OpsroomError | None]]:
            user = await told("MatrixUser", lambda: self._ensure_user(name))
            if user[1]:
                return [user, (blocked("Room", "the Matrix user"), None)]
            return [user, await told("Room", lambda: self._ensure_room(name, facts))]

        async with asyncio.TaskGroup() as tasks:
            made = tasks.create_task(identity())
            before = [
                tasks.create_task(told("Storage", lambda: self._ensure_storage(name, spec, agent))),
                tasks.create_task(told("Workspace", lambda: self._ensure_workspace(stored, spec, facts))),
                tasks.create_task(told("Consumer", lambda: self._ensure_consumer(name, spec.model, want))),
            ]
            created = tasks.create_task(told("Sandbox", lambda: self._prepare_sandbox(sandbox, want, facts)))
        found = [*made.result(), *(task.result() for task in before)]
        missing = [condition for condition, error in found[2:] if error]
        last = created.result()
        if last[0].status == "True":
            first_took = last[0].took_s
            last = await told("Sandbox", lambda: self._run_sandbox(sandbox, want, facts, missing))
            last = (replace(last[0], took_s=last[0].took_s + first_took), last[1])
        found.append(last)
        return [condition for condition, _ in found], [error for _, error in found if error]

    async def _ensure_user(self, name: str) -> Done:
        user = self._user(name)
        try:
            await self._w.identities.ensure(name)
        except Exception as error:
            raise readable(error, f"make the Matrix user {user}") from error
        return Done("Registered", user)

    async def _ensure_room(self, name: str, facts: dict[str, Any]) -> Done:
        alias = await self._own_room(name)
        facts["roomID"] = await self._w.rooms.bring(alias)
        return self._w.rooms.told(alias, Done("Joined", facts["roomID"]))

    async def _ensure_storage(self, name: str, spec: WorkerSpec, agent: Agent) -> Done:
        await self._w.objects.ensure_bucket()
        await self._w.users.ensure(name, given.access(spec, agent))
        return Done("Granted", f"{self._w.objects.bucket}/{prefix(name)}")

    async def _ensure_workspace(self, stored: Stored, spec: WorkerSpec, facts: dict[str, Any]) -> Done:
        await self._w.objects.ensure_bucket()
        wanted_files = given.workspace(stored.name, spec, await self._w.declared.roster())
        await publish.publish(self._w.objects, prefix(stored.name), wanted_files)
        facts["workspace"] = json.loads(wanted_files[CARD])["revision"]
        return Done("Published", f"{len(wanted_files)} files")

    async def _ensure_consumer(self, name: str, model: str, want: Want) -> Done:
        """A token, and a gateway that knows the consumer; of a stopped one, no token that it would take."""
        if want is Want.ABSENT:
            await self._tokens.end(name)
        else:
            await self._tokens.ensure(name)
        await self._w.keeper.sync()
        self._w.keeper.check(model)
        if want is Want.ABSENT:
            return Done("Revoked", "Stopped, as declared: its token was revoked.")
        return Done("Known", f"{self._w.gateway.name} gateway")

    async def _prepare_sandbox(self, sandbox: Sandbox, want: Want, facts: dict[str, Any]) -> Done:
        """What takes long and changes nothing that runs."""
        have = await self._observe(sandbox.name, facts)
        if want is Want.RUNNING and Step.CREATE in sandbox_steps(want, sandbox.spec_hash, have):
            await self.image(sandbox.image)
            if have.state == "absent":
                await self._w.backend.create(sandbox)
        return Done("Prepared")

    async def image(self, image: str) -> None:
        """One pull of an image at a time, which goes on when the pass that asked for it has ended."""
        pull = self._pulls.get(image)
        if pull is None:
            pull = self._pulls[image] = asyncio.create_task(self._w.backend.ensure_image(image), name=f"pull {image}")
        await asyncio.wait({pull}, timeout=PULL_LOOK_S)
        if not pull.done():
            raise Waiting(PULLING, f"The image {image} is being pulled.")
        self._pulls.pop(image, None)
        await pull

    async def _observe(self, name: str, facts: dict[str, Any]) -> Observed:
        """See how a sandbox is; one that was ready, and that nobody here has ended, has died."""
        facts["containerState"] = "unknown"
        have = await self._w.backend.observe(name)
        facts["container"], facts["containerState"] = have.id, _STATES[have.state]
        if have.state == "exited" and self._lives.died(name, now=time()):
            reason = "OutOfMemory" if have.detail == "out of memory" else "Died"
            said = f"Its sandbox died: {have.detail or 'it ended by itself'}."
            await self._w.store.write(lambda db: status.record(db, Key("Worker", name), reason, said, now=time()))
        return have

    async def _run_sandbox(
        self, sandbox: Sandbox, want: Want, facts: dict[str, Any], missing: Sequence[Condition]
    ) -> Done:
        """`missing`: what a sandbox needs before it is made. To stop one needs nothing of it, nor does one that runs;
        one that ended is not held up by what it did without before."""
        backend = self._w.backend
        have = await self._observe(sandbox.name, facts)
        if want is Want.RUNNING and (have.state != "running" or have.spec_hash != sandbox.spec_hash):
            ended = have.state == "exited" and have.spec_hash == sandbox.spec_hash
            needs = [one.type.lower() for one in missing if not ended or one.reason == "Unavailable"]
            if needs:
                raise Waiting("Waiting", f"Waits for {' and '.join(needs)}.")
        steps = sandbox_steps(want, sandbox.spec_hash, have)
        if steps == (Step.START,):
            await self._rest(sandbox.name)
        elif steps:
            self._lives.ended(sandbox.name)
        for step in steps:
            match step:
                case Step.CREATE:
                    await backend.create(sandbox)
                case Step.START:
                    await unbroken(backend.start(sandbox.name))
                case Step.STOP:
                    await backend.stop(sandbox.name)
                case Step.REMOVE:
                    await backend.remove(sandbox.name)
        await self._observe(sandbox.name, facts)
        if want is Want.STOPPED:
            return Done("Asleep", "Asleep; a mention wakes it.")
        if want is Want.ABSENT:
            return Done("Stopped", "Stopped, as declared; nothing wakes it.")
        await self._until_ready(sandbox, facts)
        return Done("Ready", f"Answers in its {backend.name} sandbox.")

    async def _rest(self, name: str) -> None:
        """Raise Waiting for one that dies over and over, unless somebody asks it something."""
        if self._lives.rest_s(name, now=time()) and not await self._is_asked(name):
            raise Waiting(
                RESTING,
                f"It died {self._lives.deaths(name)} times in a row, each time soon after it was ready. It rests before"
                f" it is started again; a mention starts it at once. See why with `!logs {name}`.",
            )

    async def _until_ready(self, sandbox: Sandbox, facts: dict[str, Any]) -> None:
        agent, limit_s = self._w.agent(sandbox.name), self._w.settings.agents.silent_s
        deadline = time() + limit_s
        while (said := await agent.ready()) is None:
            have = await self._observe(sandbox.name, facts)
            if have.state != "running":
                raise Unavailable(
                    f"{sandbox.name} ended while it started: {have.detail or have.state}",
                    fix=f"See why with `!logs {sandbox.name}`; it is started again by itself.",
                )
            if time() > deadline:
                self._lives.ended(sandbox.name)
                await self._w.backend.stop(sandbox.name, grace_s=1.0)
                await self._observe(sandbox.name, facts)
                raise Unavailable(
                    f"{sandbox.name} ran and did not answer for {limit_s} s",
                    fix=f"See why with `!logs {sandbox.name}`; it is started again by itself.",
                )
            await asyncio.sleep(0.05)
        self._lives.up(sandbox.name, now=time())
        facts |= {"containerState": "ready", "version": str(said.get("version", ""))}

    # -- down ---------------------------------------------------------------------------------------------------

    async def tear_down(self, stored: Stored) -> None:
        """Undo in reverse, access first: what is away keeps no other part from ending, and the agent's files and rooms
        until it has. The next pass begins again, and each step is repeatable. A deletion that is taken back ends
        before the next step; the pass that takes it back builds anew."""
        errors: list[Exception] = []
        for undo in (self._end_access, self._end_sandbox, self._w.keys.delete_user):
            if not await self._is_ending(stored):
                return
            try:
                await undo(stored.name)
            except Exception as error:  # noqa: BLE001 - raised once the others had their turn
                errors.append(error)
        for other in errors[1:]:
            log.warning("not ended, either", worker=stored.name, problem=str(other))
        if errors:
            raise errors[0]
        for undo in (self._end_files, self._end_rooms, self._forget):
            if not await self._is_ending(stored):
                return
            await undo(stored.name)

    async def _is_ending(self, stored: Stored) -> bool:
        now = await objects.get(self._w.store, stored.key)
        return now is not None and now.deleting

    async def _end_sandbox(self, name: str) -> None:
        self._lives.ended(name)
        await self._w.backend.remove(name)

    async def _end_access(self, name: str) -> None:
        await self._tokens.end(name)
        await self._w.keeper.sync()

    async def _end_files(self, name: str) -> None:
        if not await meta.get(self._w.store, meta.KEEP_FILES + name):
            stored_files = await self._w.objects.list(prefix(name))
            await self._w.objects.delete([item.key for item in stored_files])
        await asyncio.to_thread(_remove_folders, door(self._w.settings, name))

    async def _end_rooms(self, name: str) -> None:
        for room in await self._rooms_of(name):
            if room.purpose in ("worker", "manager"):
                await self._w.rooms.reconcile(Key(ROOM, room.alias))
        try:
            for room_id in await self._w.homeserver.joined_rooms(user=self._user(name)):
                await self._w.homeserver.leave(room_id, user=self._user(name))
        except Exception as error:
            raise readable(error, f"let {name} leave its rooms") from error

    async def _forget(self, name: str) -> None:
        self._w.identities.forget(name)
        direct = [room for room in await self._rooms_of(name) if room.purpose == "direct"]
        readers = await self._readers(name, direct)

        async def forget(db: Connection) -> None:
            if not await objects.forget(db, Key("Worker", name)):
                return
            await meta.put(db, meta.KEEP_FILES + name, "")
            for room in direct:
                if owner := readers[room.room_id]:
                    await rooms.put(db, replace(room, owner=owner))
                else:
                    await rooms.remove(db, room.room_id)

        await self._w.store.write(forget)
        self._w.changes.publish(Key("Worker", name))
        log.info("worker gone", worker=name)

    async def _readers(self, name: str, direct: Sequence[rooms.Room]) -> dict[str, str]:
        """Which agent reads each of these rooms of people's own now that this one has left them."""
        roster, user = await self._w.declared.roster(), self._user(name)
        try:
            states = {room.room_id: await self._w.homeserver.state(room.room_id, user=user) for room in direct}
        except Exception as error:
            raise readable(error, f"read who is in the rooms that {name} has left") from error
        return {room_id: own.reader(roster, state, user) for room_id, state in states.items()}

    async def _rooms_of(self, name: str) -> list[rooms.Room]:
        return [room for room in await rooms.every(self._w.store) if room.owner in (name, self._user(name))]

    # -- small --------------------------------------------------------------------------------------------------

    def _user(self, name: str) -> str:
        return self._w.declared.names.user(name)

    async def _own_room(self, name: str) -> str:
        agent = (await self._w.declared.roster()).agents[name]
        return own_room(agent, prefix=self._w.declared.prefix)

    async def _awake_until(self, name: str) -> float:
        """Until when a sleeping agent is needed: while it has turns, and a while after."""
        if await self._is_asked(name):
            return time() + self._w.settings.agents.awake_s
        return float(await meta.get(self._w.store, meta.AWAKE_UNTIL + name) or 0)

    async def _is_asked(self, name: str) -> bool:
        return any(turn.agent == name for turn in await turns.open_turns(self._w.store))

    def _next_look(self, name: str, spec: WorkerSpec, awake_until: float) -> float:
        looks = [self._tokens.look_s]
        if rest_s := self._lives.rest_s(name, now=time()):
            looks.append(rest_s + 0.1)
        if spec.state == "Sleeping" and awake_until > time():
            looks.append(awake_until - time() + 0.1)
        return min(looks)

    async def _progress(self, stored: Stored, old: Status) -> None:
        """Say that work has begun, when there is something new to do."""
        if old.observed_generation != stored.generation:
            begun = replace(old, phase="Pending" if not old.conditions else "Updating")
            await save(self._w.store, self._w.changes, stored.key, old, begun, tried=False)


def phase(want: Want, conditions: Sequence[Condition], was: str, *, current: bool, runs: bool) -> str:
    """`was`: the phase before, `current`: it spoke of what is declared now. What fails and does not keep an agent from
    being as it was declared is in the conditions alone."""
    sandbox = next(one for one in conditions if one.type == "Sandbox")
    others = all(one.status == "True" for one in conditions if one is not sandbox)
    if sandbox.status == "True" and (others or want is not Want.RUNNING or (current and was in SETTLED)):
        return want.value
    waits = sandbox.reason in ("Waiting", PULLING)
    if was in (*SETTLED, "Updating") and (sandbox.status == "True" or (runs and waits)):
        return "Updating"
    return "Pending" if others and waits else "Failed"


def _remove_folders(where: Door) -> None:
    for folder in (where.agent_dir, where.secrets_dir.parent):
        shutil.rmtree(folder, ignore_errors=True)
