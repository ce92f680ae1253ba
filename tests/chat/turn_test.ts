import assert from "node:assert/strict";
import { STEPS_LIMIT } from "../../chat/turn.ts";
import { TOLD_LIMIT_CHARS } from "../../chat/result_text.ts";
import { getAgent, setAgentOptions } from "../../models/agents.ts";
import {
  getCallResult,
  getConversation,
  sendMessage,
  stopTurn,
  type ToolCall,
} from "../../models/conversations.ts";
import { beginStep, NotHeld } from "../../models/conversation_work.ts";
import { Conflict } from "../../models/errors.ts";
import { serverEverything } from "../dtma/stdio_server.ts";
import { openChat } from "./world.ts";

const STEPS = new URL("../mcp/servers/steps.mjs", import.meta.url).pathname;
const SCRIPTED = new URL("../mcp/servers/scripted.mjs", import.meta.url).pathname;

const options = { sanitizeResources: false, sanitizeOps: false };

Deno.test({
  name: "runTurn answers with tools of real servers, in both wire formats and over both transports",
  ...options,
  async fn(t) {
    await using chat = await openChat(await serverEverything(), { slug: "everything" });
    for (const provider of ["openai-compatible", "anthropic"]) {
      for (const transport of ["streamable_http", "http_sse"]) {
        await t.step(`${provider}, ${transport}`, async () => {
          await chat.useModel({ provider, transport });
          chat.model.play(({ results }) =>
            results.length === 0
              ? {
                reasoning: "Both sums are wanted, so both are asked for.",
                text: "I add.",
                calls: [
                  { name: "everything__get-sum", args: { a: 2, b: 40 } },
                  { name: "everything__echo", args: { message: "hü 🎉" } },
                ],
              }
              : { text: `The sum: ${results[0]} The echo: ${results[1]}` }
          );
          const turn = await chat.say(await chat.conversation(), "Add 2 and 40");
          assert.equal(turn.trouble, null);
          assert.equal(turn.state, "done");
          assert.equal(turn.steps.length, 2);
          assert.match(turn.steps[1].text, /42.*hü 🎉/);
          assert.equal(turn.steps[0].reasoning, "Both sums are wanted, so both are asked for.");
          assert.deepEqual(turn.steps[0].calls.map(({ state }) => state), ["done", "done"]);
          assert.equal(turn.steps[0].inputTokens, 10);
          const [first, second] = chat.model.asked;
          assert.ok(first.tools.includes("everything__get-sum"));
          assert.equal(second.results.length, 2);
          const key = provider === "anthropic" ? "x-api-key" : "authorization";
          assert.match(first.headers.get(key)!, /sk-very-secret/);
          if (provider === "anthropic") {
            // What it thought goes back signed, as its API asks for.
            assert.match(JSON.stringify(second.body.messages), /"signature":"c2lnbmVk"/);
          }
        });
      }
    }
  },
});

Deno.test({
  name: "a long number that a model writes reaches the tool to its last digit",
  ...options,
  async fn(t) {
    await using chat = await openChat(SCRIPTED);
    const args = '{"ids":[12345678901234567890]}';
    for (const provider of ["openai-compatible", "anthropic"]) {
      for (const transport of ["streamable_http", "http_sse"]) {
        await t.step(`${provider}, ${transport}`, async () => {
          await chat.useModel({ provider, transport });
          chat.model.play(({ results }) =>
            results.length === 0 ? { calls: [{ name: "demo__heard", args }] } : { text: results[0] }
          );
          const turn = await chat.say(await chat.conversation(), "Look them up");
          assert.equal(turn.steps[0].calls[0].arguments, args);
          assert.ok(turn.steps[1].text.includes(`"arguments":${args}`), turn.steps[1].text);
        });
      }
    }
  },
});

Deno.test({
  name: "runTurn takes what models' servers do wrong, and a person can try again",
  ...options,
  async fn(t) {
    await using chat = await openChat("echo");
    const { model, say } = chat;
    const inBoth = async (name: string, body: () => Promise<void>) => {
      for (const provider of ["openai-compatible", "anthropic"]) {
        await t.step(`${name}, ${provider}`, async () => {
          await chat.useModel({ provider });
          await body();
        });
      }
    };

    await inBoth("a key that is wrong", async () => {
      model.play(() => ({ status: 401, text: "Incorrect API key: sk-very-secret" }));
      const turn = await say(await chat.conversation(), "Hello");
      assert.equal(turn.state, "failed");
      assert.match(turn.trouble!, /answered 401: the key is not right/);
      assert.ok(!turn.trouble!.includes("sk-very-secret"), "the key is in no message");
      assert.equal(model.asked.length, 1, "it is not asked again");
      assert.ok(!chat.logged.some((line) => line.includes("sk-very-secret")));
    });

    await inBoth("one that is busy is asked again as late as it says", async () => {
      model.play((_, n) =>
        n === 0 ? { status: 429, retryAfterS: 1, text: "slow down" } : { text: "Hi" }
      );
      const turn = await say(await chat.conversation(), "Hello");
      assert.equal(turn.steps[0].text, "Hi");
      assert.equal(model.asked.length, 2);
    });

    await inBoth("an answer that breaks off is asked for anew, from its beginning", async () => {
      model.play((_, n) => n < 2 ? { text: "Half of", breaks: true } : { text: "All of it" });
      const turn = await say(await chat.conversation(), "Hello");
      assert.equal(turn.state, "done");
      assert.equal(turn.steps.length, 1);
      assert.equal(turn.steps[0].text, "All of it");
    });

    await inBoth("one that breaks off each time fails, and goes on where it was", async () => {
      model.play(({ results }) =>
        results.length === 0
          ? { calls: [{ name: "demo__echo", args: { text: "kept" } }] }
          : { text: "Half", breaks: true }
      );
      const id = await chat.conversation();
      const turn = await say(id, "Echo");
      assert.equal(turn.state, "failed");
      assert.match(turn.trouble!, /broke off/);
      model.play(({ results }) => ({ text: `Whole: ${results[0]}` }));
      const again = await chat.retry(id, turn.id);
      assert.equal(again.state, "done");
      assert.equal(again.steps[0].calls[0].id, turn.steps[0].calls[0].id, "no call was made again");
      assert.match(again.steps[1].text, /Whole: .*kept/);
      assert.equal(model.asked.length, 1);
    });

    await inBoth(
      "tools that there are not, and arguments that are none, are told to it",
      async () => {
        model.play(({ results }) =>
          results.length === 0
            ? { calls: [{ name: "demo__none", args: {} }, { name: "demo__echo", args: "{broken" }] }
            : { text: results.join(" | ") }
        );
        const turn = await say(await chat.conversation(), "Try");
        assert.equal(turn.state, "done");
        assert.match(turn.steps[1].text, /There is no tool demo__none/);
        assert.deepEqual(turn.steps[0].calls.map(({ state }) => state), ["failed", "failed"]);
      },
    );

    await inBoth("an answer as long as it can be says so", async () => {
      model.play(() => ({ text: "Once upon a time", finish: "length" }));
      const turn = await say(await chat.conversation(), "Tell");
      assert.equal(turn.state, "done");
      assert.match(turn.trouble!, /as much as it can/);
    });

    await inBoth(
      "one that writes without end is stopped, and what it wrote is no answer",
      async () => {
        for (
          const endless of [
            { text: "and so on ".repeat(1_000_000) },
            { calls: [{ name: "demo__echo", args: { text: "on ".repeat(1_000_000) } }] },
            { calls: Array(500).fill({ name: "demo__echo", args: { text: "again" } }) },
          ]
        ) {
          model.play(() => endless);
          const turn = await say(await chat.conversation(), "Tell");
          assert.equal(turn.state, "failed");
          assert.match(turn.trouble!, /more at once than any means to, and was stopped/);
          assert.ok(turn.steps[0].text.length <= 2_000_000);
          assert.deepEqual(turn.steps[0].calls, []);
          assert.equal(model.asked.length, 1, "it is not asked again");
        }
      },
    );

    await t.step("what was said before is told again, with what tools answered", async () => {
      const id = await chat.conversation();
      model.play(({ results }) =>
        results.length === 0
          ? { calls: [{ name: "demo__echo", args: { text: "first" } }] }
          : { text: "One" }
      );
      await say(id, "Begin");
      model.play(() => ({ text: "Two" }));
      await say(id, "Go on");
      const roles = (model.asked[0].body.messages as { role: string }[]).map(({ role }) => role);
      const called = roles.filter((role) => role === "assistant").length;
      assert.equal(called, 2, roles.join());
    });

    await t.step("one that cannot be reached", async () => {
      await chat.useModel({ key: "another-key-1", baseUrl: `http://${model.host}/v2` });
      model.play(() => ({ text: "never" }));
      const turn = await say(await chat.conversation(), "Hello");
      assert.match(turn.trouble!, /answered 404: it has no model scripted, or the base URL/);
    });
  },
});

Deno.test({
  name: "runTurn: calls are stopped, asked for, cut, and limited",
  ...options,
  async fn(t) {
    await using chat = await openChat(STEPS, { slug: "steps" });
    const { model, say, bridge } = chat;
    const { db, user, agentId } = bridge;
    const states = (calls: ToolCall[]) => calls.map(({ state }) => state);

    await t.step("a stop reaches the tool", async () => {
      const id = await chat.conversation();
      const waits = { name: "steps__waits", args: { name: "w" } };
      model.play(() => ({ text: "I wait.", calls: [waits] }));
      const { turnId, ended } = await chat.begin(id, "Wait");
      await chat.until(id, ({ steps }) => steps[0]?.calls[0]?.state === "running");
      const waiting = async () => {
        model.play(({ results }) =>
          results.length === 0
            ? { calls: [{ name: "steps__waiting", args: {} }] }
            : { text: results[0] }
        );
        return (await say(await chat.conversation(), "Who waits?")).steps[1].text;
      };
      assert.equal(await waiting(), `["w"]`);
      await stopTurn(db, user, id, turnId);
      await ended;
      const turn = await chat.until(id, ({ state }) => state !== "running");
      assert.equal(turn.state, "stopped");
      assert.deepEqual(states(turn.steps[0].calls), ["stopped"]);
      assert.equal(await waiting(), "[]", "the tool heard that it was cancelled");
      model.play(({ results }) => ({ text: `I heard: ${results[0]}` }));
      const again = await chat.retry(id, turnId);
      assert.match(again.steps[1].text, /I heard: The person stopped it/);
    });

    await t.step("a model that writes is stopped, and what it wrote stays", async () => {
      const id = await chat.conversation();
      model.play(() => ({ text: "word ".repeat(2000), pauseMs: 20 }));
      const { turnId, ended } = await chat.begin(id, "Write");
      await chat.until(id, ({ steps }) => (steps[0]?.text.length ?? 0) > 20);
      await stopTurn(db, user, id, turnId);
      await ended;
      const turn = await chat.until(id, () => true);
      assert.equal(turn.state, "stopped");
      assert.match(turn.steps[0].text, /word word/);
      model.play(() => ({ text: "Yes" }));
      assert.equal((await say(id, "Still there?")).state, "done");
    });

    await t.step(
      "calls that are not known to only read wait for a person, others do not",
      async () => {
        await setAgentOptions(db, user, agentId, { asks: "writes" });
        const id = await chat.conversation();
        model.play(({ results }) =>
          results.length === 0
            ? {
              calls: [
                { name: "steps__echo", args: { text: "one" } },
                { name: "steps__echo", args: { text: "two" } },
              ],
            }
            : { text: results.join(" | ") }
        );
        const turn = await say(id, "Echo twice");
        assert.equal(turn.state, "waiting");
        const [one, two] = turn.steps[0].calls;
        assert.deepEqual(states(turn.steps[0].calls), ["asked", "asked"]);
        const between = await chat.decide(id, one.id, true);
        assert.equal(between.state, "waiting", "the second one is still waited for");
        const done = await chat.decide(id, two.id, false);
        assert.equal(done.state, "done");
        assert.deepEqual(states(done.steps[0].calls), ["done", "denied"]);
        assert.equal(done.steps[1].text, "one | The person did not allow this call");
        await setAgentOptions(db, user, agentId, { asks: "never" });
      },
    );

    await t.step("one turn at a time, and a question that waits is let go by another", async () => {
      await setAgentOptions(db, user, agentId, { asks: "always" });
      const id = await chat.conversation();
      model.play(() => ({ calls: [{ name: "steps__echo", args: { text: "x" } }] }));
      await say(id, "Echo");
      model.play(() => ({ text: "Fine" }));
      assert.equal((await say(id, "Never mind")).steps[0].text, "Fine");
      const { turns } = await getConversation(db, user, id);
      assert.equal(turns[0].state, "stopped");
      await setAgentOptions(db, user, agentId, { asks: "never" });
      model.play(() => ({ text: "slow ".repeat(5000), pauseMs: 20 }));
      const { turnId, ended } = await chat.begin(id, "Go slow");
      await assert.rejects(say(id, "Hurry"), Conflict);
      await stopTurn(db, user, id, turnId);
      await ended;
    });

    await t.step("a turn whose worker died is lost, and another takes it up", async () => {
      const id = await chat.conversation();
      const worker = crypto.randomUUID();
      const said = { text: "Hello", attachments: [], worker };
      const turnId = await sendMessage(db, user, id, said);
      await beginStep(db, user, { conversationId: id, turnId, worker }, 0);
      await bridge.owner`update public.conversation_turns set seen_at = now() - interval '1 minute'
        where id = ${turnId}`;
      const { turns: [lost] } = await getConversation(db, user, id);
      assert.equal(lost.state, "lost");
      model.play(() => ({ text: "Here I am" }));
      assert.equal((await chat.retry(id, turnId)).steps[0].text, "Here I am");
      await assert.rejects(
        beginStep(db, user, { conversationId: id, turnId, worker }, 1),
        NotHeld,
        "the first one, should it come back, writes nothing",
      );
      await assert.rejects(chat.retry(id, turnId), Conflict, "what is done is not done again");
    });

    await t.step(
      "a call that was begun when its turn was lost is told as one that may have run",
      async () => {
        const told = () =>
          bridge.owner`select state, told from public.conversation_calls
          where turn_id = ${turnId} order by state`;
        const id = await chat.conversation();
        const waits = { name: "steps__waits", args: { name: "lost" } };
        model.play(() => ({ calls: [waits] }));
        const { turnId, ended } = await chat.begin(id, "Wait");
        await chat.until(id, ({ steps }) => steps[0]?.calls[0]?.state === "running");
        await bridge.owner`update public.conversation_turns set holder = ${crypto.randomUUID()},
        seen_at = now() - interval '1 minute' where id = ${turnId}`;
        await stopTurn(db, user, id, turnId);
        assert.deepEqual([...await told()], [
          { state: "stopped", told: "The person stopped it. It may have run" },
        ]);
        await ended;
      },
    );

    await t.step("it stops after so many steps, and goes on when it is told to", async () => {
      const id = await chat.conversation();
      model.play(() => ({ calls: [{ name: "steps__echo", args: { text: "again" } }] }));
      const turn = await say(id, "For ever");
      assert.equal(turn.state, "failed");
      assert.match(turn.trouble!, new RegExp(`after ${STEPS_LIMIT} steps`));
      assert.equal(turn.steps.length, STEPS_LIMIT);
      model.play(() => ({ text: "Enough" }));
      assert.equal((await chat.retry(id, turn.id)).steps.at(-1)!.text, "Enough");
    });

    await t.step("an answer too large for a model is kept whole, and cut with a note", async () => {
      const id = await chat.conversation();
      const long = "0123456789".repeat(30_000);
      model.play(({ results }) =>
        results.length === 0
          ? { calls: [{ name: "steps__echo", args: { text: long } }] }
          : { text: `I saw ${results[0].length}: ${results[0].slice(-120)}` }
      );
      const turn = await say(id, "Echo much");
      const [call] = turn.steps[0].calls;
      assert.ok(call.told!.length < TOLD_LIMIT_CHARS + 300);
      assert.match(turn.steps[1].text, /All of it is kept for the person/);
      assert.equal(call.result, null, "it is not read with its conversation");
      const whole = JSON.parse(await getCallResult(db, user, id, call.id));
      assert.equal(whole.content[0].text, long);
    });

    await t.step("with tool search, what is found says whether a call is asked for", async () => {
      await setAgentOptions(db, user, agentId, { asks: "writes", presents: "search" });
      const id = await chat.conversation();
      model.play(({ results, tools }) =>
        results.length === 0
          ? { calls: [{ name: "find_tools", args: { query: "echo" } }], text: tools.join() }
          : {
            calls: [{ name: "call_tool", args: { name: "steps__echo", arguments: { text: "e" } } }],
          }
      );
      const turn = await say(id, "Echo");
      assert.equal(turn.steps[0].text, "find_tools,call_tool");
      assert.deepEqual(states(turn.steps[0].calls), ["done"], "looking is reading");
      assert.deepEqual(states(turn.steps[1].calls), ["asked"]);
      model.play(({ results }) => ({ text: results.at(-1)! }));
      const done = await chat.decide(id, turn.steps[1].calls[0].id, true);
      assert.equal(done.steps[2].text, "e");
      // What was found before may have changed since, and counts no more.
      await bridge.owner`update public.conversation_calls set
        result = replace(result, '"name":"steps__echo"',
          '"name":"steps__echo","annotations":{"readOnlyHint":true}')
        where turn_id = ${turn.id} and tool = 'find_tools'`;
      const callsTool = (args: unknown) =>
        model.play(({ results }) =>
          results.length === 0 ? { calls: [{ name: "call_tool", args }] } : { text: results[0] }
        );
      callsTool({ name: "steps__echo", arguments: { text: "again" } });
      assert.deepEqual(states((await say(id, "Again")).steps[0].calls), ["asked"]);
      // Arguments that are none wait for a person as well, and end no turn.
      for (const text of ["null", "5"]) {
        callsTool(text);
        const none = await say(id, "Again");
        assert.deepEqual([none.state, states(none.steps[0].calls)], ["waiting", ["asked"]]);
      }
      await setAgentOptions(db, user, agentId, { asks: "never", presents: "tools" });
    });

    await t.step("a server that is deployed within a turn is there in its next step", async () => {
      const id = await chat.conversation();
      let other: AsyncDisposable | null = null;
      model.play(async ({ results, tools }) => {
        if (results.length === 0) {
          assert.ok(!tools.includes("later__echo"));
          other = await bridge.another("echo", "later");
          return { calls: [{ name: "steps__echo", args: { text: "now" } }] };
        }
        if (results.length === 1) return { calls: [{ name: "later__echo", args: { text: "hi" } }] };
        return { text: results[1] };
      });
      const turn = await say(id, "Find it");
      assert.equal(turn.state, "done", turn.trouble ?? "");
      assert.deepEqual(states(turn.steps[1].calls), ["done"]);
      await other![Symbol.asyncDispose]();
    });

    await t.step("a definition that changed is not called unapproved", async () => {
      const id = await chat.conversation();
      const changed = bridge.tools.map((tool) =>
        tool.name === "echo" ? { ...tool, description: "Another one" } : tool
      );
      model.play(async ({ results, tools }) => {
        if (results.length === 0) {
          await bridge.report(changed);
          return { calls: [{ name: "steps__echo", args: { text: "x" } }] };
        }
        return { text: `${results[0]} ${tools.includes("steps__echo")}` };
      });
      const turn = await say(id, "Echo");
      assert.equal(turn.state, "done");
      assert.deepEqual(states(turn.steps[0].calls), ["failed"]);
      assert.match(turn.steps[1].text, /false$/);
      await bridge.report(bridge.tools);
      await bridge.approveAll();
    });

    await t.step("its token is no token of the agent's, and is over with the turn", async () => {
      const agent = await getAgent(db, user, agentId);
      assert.equal(agent.tokens.length, 1);
      const left = await bridge.owner`select from public.conversation_tokens`;
      assert.equal(left.length, 0);
      assert.ok(!chat.logged.some((line) => line.includes("mag_")));
    });
  },
});
