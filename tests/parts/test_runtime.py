"""The native agent as it ships: a child process behind a door, with real storage."""

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from a2a.types import GetTaskRequest, ListTasksRequest, SubscribeToTaskRequest, TaskState
from a2a.utils.errors import A2AError

from runtime import __version__
from tests.support.children import runs
from tests.support.provider import Fail, Hang, Say, ToolCall
from tests.support.runtime import Agent, Bench, Heard, children, until


def pids_of(marker: str) -> list[int]:
    """Processes whose command line holds the marker."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if marker.encode() in line and runs(int(entry.name)):
                found.append(int(entry.name))
    return found


def tool_results(bench: Bench) -> str:
    """What the tools told the model in the last call."""
    return "\n".join(str(m["content"]) for m in bench.provider.calls[-1].body["messages"] if m["role"] == "tool")


def log_text(agent: Agent) -> str:
    return agent.log.read_text()


class TestAnAnswer:
    async def test_streams_and_completes(self, bench: Bench) -> None:
        bench.provider.when("novel", Say(words=40, hold_after=10))
        async with bench.agent() as agent:
            heard = Heard()
            asking = asyncio.create_task(agent.ask("Write a novel", heard=heard))
            await until(lambda: "word10" in heard.text)
            assert heard.state == "WORKING"
            bench.provider.release()
            await asking
        assert heard.text.split() == [f"word{n}" for n in range(1, 41)]
        assert heard.states == ["SUBMITTED", "WORKING", "COMPLETED"]

    async def test_is_given_in_few_pieces_but_the_first_word_at_once(self, bench: Bench) -> None:
        bench.provider.when("burst", Say(words=2000))
        async with bench.agent() as agent:
            heard = await agent.ask("burst")
        assert len(heard.text.split()) == 2000
        assert heard.pieces[0].strip() == "word1"
        assert len(heard.pieces) < 200

    async def test_follows_the_workspace_and_the_facts_of_the_turn(self, bench: Bench) -> None:
        skill = "---\nname: weather\ndescription: >\n  Says whether\n  it rains\n---\nLook out of the window."
        await bench.declare(files={"AGENTS.md": "Never shout.", "skills/weather/SKILL.md": skill})
        async with bench.agent() as agent:
            await agent.ask("hello", sender="Bea", room="Kitchen", retry=True)
        system = str(bench.provider.calls[-1].body["messages"][0]["content"])
        assert bench.provider.calls[-1].model == "stub-model"
        for part in ("Alice", "You are alice.", "Never shout.", "weather: Says whether it rains", "cut off"):
            assert part in system
        assert "Bea asks you in the room Kitchen" in system
        assert "Look out of the window" not in system

    async def test_leaves_one_line_in_the_log_without_words_or_token(self, bench: Bench) -> None:
        async with bench.agent() as agent:
            await agent.ask("my secret question", turn="$t1", attempt=2)
            await until(agent.turns)
            line = agent.turns()[0]
            assert (line["turn"], line["attempt"], line["outcome"]) == ("$t1.2", 2, "completed")
            assert line["tokens_in"] > 0 and line["tokens_out"] > 0
            assert "secret" not in log_text(agent) and "first-token" not in log_text(agent)


class TestTools:
    async def test_a_written_file_is_in_the_bucket_before_the_turn_completes(self, bench: Bench) -> None:
        bench.provider.when("note", ToolCall("write_file", {"path": "a b/nöte.txt", "content": "milk"}), Say("Noted."))
        async with bench.agent() as agent:
            heard = await agent.ask("note milk")
            stored = await bench.stored()
        assert heard.text == "Noted."
        assert stored["a b/nöte.txt"] == b"milk"

    async def test_files_outlive_the_sandbox(self, bench: Bench) -> None:
        bench.provider.when("note", ToolCall("write_file", {"path": "note.txt", "content": "milk"}), Say("Noted."))
        bench.provider.when("read it", ToolCall("read_file", {"path": "note.txt"}), Say("Milk."))
        async with bench.agent() as agent:
            await agent.ask("note milk")
            os.kill(agent.pid, signal.SIGKILL)
            await agent.process.wait()
        async with bench.agent() as agent:
            await agent.ask("read it")
            assert tool_results(bench).endswith("milk")
            assert (agent.workspace / "note.txt").read_text() == "milk"

    async def test_what_a_command_removes_is_removed_from_the_bucket(self, bench: Bench) -> None:
        await bench.put("old.txt", "old")
        bench.provider.when("tidy", ToolCall("run_command", {"command": "rm old.txt; echo x > new.txt"}), Say("Done."))
        async with bench.agent() as agent:
            await agent.ask("tidy")
            stored = await bench.stored()
        assert "old.txt" not in stored and stored["new.txt"] == b"x\n"

    @pytest.mark.parametrize("path", ["../outside.txt", "/etc/passwd", "link/passwd", "a/../../x"])
    async def test_paths_outside_the_workspace_are_refused(self, bench: Bench, path: str) -> None:
        bench.provider.when("peek", ToolCall("read_file", {"path": path}), Say("I cannot."))
        async with bench.agent() as agent:
            (agent.workspace / "link").symlink_to("/etc")
            await agent.ask("peek")
        assert "outside the workspace" in tool_results(bench) and "root:" not in tool_results(bench)

    async def test_managed_files_cannot_be_written_and_are_never_pushed(self, bench: Bench) -> None:
        bench.provider.when("change", ToolCall("write_file", {"path": "SOUL.md", "content": "evil"}), Say("I cannot."))
        bench.provider.when("force", ToolCall("run_command", {"command": "echo evil > SOUL.md"}), Say("Tried."))
        async with bench.agent() as agent:
            await agent.ask("change")
            assert "belongs to the operators" in tool_results(bench)
            await agent.ask("force")
            assert (await bench.stored())["SOUL.md"] == b"You are alice."

    async def test_a_command_sees_no_secret_and_its_output_is_bounded(self, bench: Bench) -> None:
        bench.provider.when("environment", ToolCall("run_command", {"command": "env"}), Say("Seen."))
        bench.provider.when("much", ToolCall("run_command", {"command": "seq 1 100000"}), Say("Seen."))
        async with bench.agent(SECRET_THING="hidden") as agent:
            await agent.ask("environment")
            assert "SECRET_THING" not in tool_results(bench) and "OPSROOM" not in tool_results(bench)
            await agent.ask("much")
            assert "bytes left out" in tool_results(bench) and "100000" in tool_results(bench)
            assert len(tool_results(bench)) < 40_000

    async def test_a_command_that_takes_too_long_is_killed_with_its_children(self, bench: Bench) -> None:
        marker = f"sleep 7{os.getpid()}.25"
        command = {"command": f"{marker} & {marker}", "timeout_s": 1}
        bench.provider.when("wait", ToolCall("run_command", command), Say("Too long."))
        async with bench.agent() as agent:
            await agent.ask("wait")
            assert "stopped after 1 seconds" in tool_results(bench)
            await until(lambda: not pids_of(marker.replace(" ", "\0")))

    async def test_cancelling_kills_the_running_command(self, bench: Bench) -> None:
        seconds = f"8{os.getpid()}.5"
        bench.provider.when("wait", ToolCall("run_command", {"command": f"sleep {seconds} & sleep {seconds}"}))
        async with bench.agent() as agent:
            heard = Heard()
            asking = asyncio.create_task(agent.ask("wait", heard=heard))
            await until(lambda: len(pids_of(f"sleep\0{seconds}")) == 2)
            await agent.cancel(heard.task_id)
            await asking
            assert heard.state == "CANCELED"
            await until(lambda: not pids_of(f"sleep\0{seconds}"))


class TestCancel:
    async def test_ends_the_stream_and_the_call_to_the_model(self, bench: Bench) -> None:
        bench.provider.when("novel", Say(words=400, hold_after=20))
        async with bench.agent() as agent:
            heard = Heard()
            asking = asyncio.create_task(agent.ask("novel", heard=heard))
            await until(lambda: "word20" in heard.text)
            await agent.cancel(heard.task_id)
            await asyncio.wait_for(asking, 20)
            assert heard.state == "CANCELED"
            await bench.provider.until(lambda: bench.provider.calls[-1].ended == "cut")

    async def test_the_partial_answer_is_remembered(self, bench: Bench) -> None:
        bench.provider.when("novel", Say(words=400, hold_after=20))
        async with bench.agent() as agent:
            heard = Heard()
            asking = asyncio.create_task(agent.ask("novel", heard=heard))
            await until(lambda: "word20" in heard.text)
            await agent.cancel(heard.task_id)
            await asking
            await agent.ask("go on")
            said = [str(m["content"]) for m in bench.provider.calls[-1].body["messages"] if m["role"] == "assistant"]
        assert "word20" in said[0] and "stopped here" in said[0]

    async def test_a_turn_that_waits_behind_another_can_be_cancelled(self, bench: Bench) -> None:
        bench.provider.when("first", Say(words=5, hold_after=1))
        async with bench.agent() as agent:
            first, second = Heard(), Heard()
            asking = [asyncio.create_task(agent.ask("first", heard=first))]
            await until(lambda: first.text)
            asking.append(asyncio.create_task(agent.ask("second", heard=second)))
            await until(lambda: second.task_id)
            await agent.cancel(second.task_id)
            await asking[1]
            bench.provider.release()
            await asking[0]
        assert (first.state, second.state) == ("COMPLETED", "CANCELED")
        assert len(bench.provider.calls) == 1


class TestOrder:
    async def test_two_questions_in_one_context_are_answered_in_order(self, bench: Bench) -> None:
        bench.provider.when("first", Say(words=5, hold_after=1))
        async with bench.agent() as agent:
            first, second = Heard(), Heard()
            asking = [asyncio.create_task(agent.ask("first", heard=first))]
            await until(lambda: first.text)
            asking.append(asyncio.create_task(agent.ask("second", heard=second)))
            await until(lambda: second.states == ["SUBMITTED"])
            assert len(bench.provider.calls) == 1
            bench.provider.release()
            await asyncio.gather(*asking)
        history = [m["role"] for m in bench.provider.calls[1].body["messages"]]
        assert history == ["system", "user", "assistant", "user"]

    async def test_two_contexts_are_answered_side_by_side(self, bench: Bench) -> None:
        bench.provider.when("first", Say(words=5, hold_after=1))
        async with bench.agent() as agent:
            first = Heard()
            asking = asyncio.create_task(agent.ask("first", context="!a", heard=first))
            await until(lambda: first.text)
            second = await agent.ask("second", context="!b")
            assert (first.state, second.state) == ("WORKING", "COMPLETED")
            bench.provider.release()
            await asking


class TestDelivery:
    async def test_the_same_turn_sent_twice_runs_once(self, bench: Bench) -> None:
        bench.provider.when("once", Say(words=5, hold_after=2))
        async with bench.agent() as agent:
            first, second = Heard(), Heard()
            asking = [asyncio.create_task(agent.ask("once", turn="$t", attempt=1, heard=first))]
            await until(lambda: first.text)
            asking.append(asyncio.create_task(agent.ask("once", turn="$t", attempt=1, heard=second)))
            await agent.ready()  # the agent has answered once more: it has most likely heard the second one
            bench.provider.release()
            await asyncio.wait(asking)
            assert first.state == "COMPLETED" and first.task_id == "$t.1"
            with pytest.raises(A2AError):
                await agent.ask("once", turn="$t", attempt=1)
            assert len(bench.provider.calls) == 1
            again = await agent.ask("once", turn="$t", attempt=2, retry=True)
            assert again.state == "COMPLETED" and again.task_id == "$t.2"

    async def test_a_restarted_client_finds_the_task_and_misses_nothing(self, bench: Bench) -> None:
        bench.provider.when("novel", Say(words=30, hold_after=10))
        async with bench.agent() as agent:
            heard = Heard()
            asking = asyncio.create_task(agent.ask("novel", turn="$t", attempt=1, heard=heard))
            await until(lambda: "word10" in heard.text)
            asking.cancel()
            await asyncio.wait([asking])
            client = await agent.client()
            listed = (await client.list_tasks(ListTasksRequest(context_id="!room|$thread"))).tasks
            assert [task.history[0].metadata["org.opsroom.turn"] for task in listed] == ["$t"]
            late = Heard()
            following = asyncio.create_task(follow(agent, listed[0].id, late))
            await until(lambda: "word10" in late.text)
            bench.provider.release()
            await following
            assert late.text.split() == [f"word{n}" for n in range(1, 31)] and late.state == "COMPLETED"
            task = await client.get_task(GetTaskRequest(id="$t.1"))
            assert task.status.state == TaskState.TASK_STATE_COMPLETED
            assert "".join(part.text for part in task.artifacts[0].parts) == late.text

    async def test_an_empty_question_is_rejected(self, bench: Bench) -> None:
        async with bench.agent() as agent:
            heard = await agent.ask("  ")
        assert heard.state == "REJECTED" and "characters" in heard.sentence


async def follow(agent: Agent, task: str, heard: Heard) -> None:
    async for event in (await agent.client()).subscribe(SubscribeToTaskRequest(id=task)):
        heard.take(event)


class TestFailure:
    @pytest.mark.parametrize(
        ("status", "code", "retry"),
        [
            (401, "denied", False),
            (403, "denied", False),
            (429, "budget", False),
            (503, "model-unavailable", True),
        ],
    )
    async def test_of_the_model_is_one_sentence_with_a_code(
        self, bench: Bench, status: int, code: str, retry: bool
    ) -> None:
        async with bench.agent() as agent:
            bench.door.model_status = status
            heard = await agent.ask("hello")
        assert heard.state == "FAILED"
        assert heard.metadata == {"code": code, "retry": retry}
        assert heard.sentence.endswith(".") and "\n" not in heard.sentence

    async def test_of_a_provider_that_is_away_is_retryable(self, bench: Bench) -> None:
        async with bench.agent() as agent:
            await bench.provider.stop()
            heard = await agent.ask("hello")
        assert heard.metadata == {"code": "model-unavailable", "retry": True}

    async def test_of_a_gateway_that_is_away_is_retryable_and_heals(self, bench: Bench) -> None:
        async with bench.agent() as agent:
            await bench.door.stop()
            heard = await agent.ask("hello")
            assert heard.metadata == {"code": "model-unavailable", "retry": True}
            await bench.door.start()
            assert (await agent.ask("hello")).state == "COMPLETED"

    async def test_before_the_first_word_is_tried_again(self, bench: Bench) -> None:
        bench.provider.when("hello", Fail(503), Say("Here I am."))
        async with bench.agent() as agent:
            assert (await agent.ask("hello")).text == "Here I am."

    async def test_in_the_middle_of_an_answer_is_not_tried_again(self, bench: Bench) -> None:
        bench.provider.when("hello", Say(words=20, drop_after=10), Say("Again from the start."))
        async with bench.agent() as agent:
            heard = await agent.ask("hello")
        assert heard.state == "FAILED" and heard.metadata["retry"] is True
        assert "Again" not in heard.text and len(bench.provider.calls) == 1

    async def test_of_a_conversation_that_is_too_long_says_so(self, bench: Bench) -> None:
        bench.provider.when("hello", Fail(400, "maximum context length exceeded"))
        async with bench.agent() as agent:
            heard = await agent.ask("hello")
        assert heard.metadata["code"] == "too-long" and "new thread" in heard.sentence

    async def test_of_the_thinking_process_ends_its_turns_and_the_next_one_works(self, bench: Bench) -> None:
        bench.provider.when("hang", Hang())
        async with bench.agent() as agent:
            asking = asyncio.create_task(agent.ask("hang"))
            await bench.provider.until(lambda: bool(bench.provider.calls))
            os.kill(children(agent.pid)[0], signal.SIGKILL)
            heard = await asking
            assert heard.state == "FAILED" and heard.metadata == {"code": "error", "retry": True}
            assert (await agent.ask("hello", context="!b")).state == "COMPLETED"

    async def test_of_storage_is_told_and_the_files_are_stored_later(self, bench: Bench) -> None:
        bench.provider.when("note", ToolCall("write_file", {"path": "note.txt", "content": "milk"}), Say("Noted."))
        async with bench.agent() as agent:
            bench.door.storage_down = True
            heard = await agent.ask("note milk")
            assert heard.state == "COMPLETED" and "not saved yet" in heard.text
            bench.door.storage_down = False
            await agent.ask("hello")
            assert (await bench.stored())["note.txt"] == b"milk"

    async def test_of_a_large_file_keeps_no_other_from_being_stored(self, bench: Bench) -> None:
        first, then = "echo old > old.txt", "truncate -s 33M big.bin; echo milk > note.txt; rm old.txt"
        for word, command in (("begin", first), ("note", then)):
            bench.provider.when(word, ToolCall("run_command", {"command": command}), Say("Noted."))
        async with bench.agent() as agent:
            await agent.ask("begin")
            assert (await bench.stored())["old.txt"] == b"old\n"
            heard = await agent.ask("note milk")
            assert heard.state == "COMPLETED"
            assert "Not all my files are saved: The file big.bin is larger than 32 MB" in heard.text
            stored = await bench.stored()
        assert stored["note.txt"] == b"milk\n"
        assert not {"big.bin", "old.txt"} & stored.keys()


class TestWorkspace:
    async def test_a_new_revision_is_loaded_before_the_turn(self, bench: Bench) -> None:
        await bench.declare(files={"AGENTS.md": "Be brief."})
        async with bench.agent() as agent:
            await agent.ask("hello", workspace="r1")
            await bench.declare(revision="r2", files={"SOUL.md": "You are Zoe."})
            await bench.delete("AGENTS.md")
            await agent.ask("hello", workspace="r1")
            assert "You are alice." in str(bench.provider.calls[-1].body["messages"][0])
            await agent.ask("hello", workspace="r2")
            system = str(bench.provider.calls[-1].body["messages"][0])
            assert "You are Zoe." in system and "Be brief." not in system
            assert (await agent.ready())["revision"] == "r2"

    async def test_readiness_waits_for_the_files_and_says_why_not(self, bench: Bench) -> None:
        bench.door.storage_down = True
        async with bench.agent(wait=False) as agent:
            answer = await answered(agent)
            assert answer.status_code == 503 and answer.json()["ready"] is False
            assert (await agent.http.get("/.well-known/agent-card.json")).json()["name"] == "alice"
            asking = asyncio.create_task(agent.ask("hello"))
            bench.door.storage_down = False
            assert (await asking).state == "COMPLETED"
            assert await agent.ready() == {"ready": True, "revision": "r1", "version": __version__}

    async def test_conversations_outlive_the_sandbox(self, bench: Bench) -> None:
        async with bench.agent() as agent:
            await agent.ask("my name is Bea")
        async with bench.agent() as agent:
            await agent.ask("who am I?")
            await agent.ask("who am I?", context="!other")
        remembered, other = (json.dumps(call.body["messages"]) for call in bench.provider.calls[-2:])
        assert "my name is Bea" in remembered and "my name is Bea" not in other

    async def test_a_rotated_token_is_used_from_the_next_call_on(self, bench: Bench) -> None:
        bench.door.key_ttl_s = 1  # each storage call exchanges the token
        async with bench.agent() as agent:
            await agent.ask("hello")
            bench.token_file.with_name("new").write_text("second-token")
            bench.token_file.with_name("new").rename(bench.token_file)
            bench.door.tokens = {"second-token"}
            bench.door.seen_tokens.clear()
            heard = await agent.ask("hello")
        assert heard.state == "COMPLETED" and "not saved" not in heard.text
        assert set(bench.door.seen_tokens) == {"second-token"}


async def answered(agent: Agent) -> Any:
    while (answer := await agent.health()) is None:
        await asyncio.sleep(0.02)
    return answer
