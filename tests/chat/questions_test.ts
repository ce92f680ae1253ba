import assert from "node:assert/strict";
import { setAgentOptions } from "../../models/agents.ts";
import { Changes } from "../../models/changes.ts";
import { getTurn, stopTurn, type Turn } from "../../models/conversations.ts";
import { Conflict, Invalid } from "../../models/errors.ts";
import { serverEverything } from "../dtma/stdio_server.ts";
import { openChat } from "./world.ts";

const ASKS = new URL("servers/asks.mjs", import.meta.url).pathname;

const options = { sanitizeResources: false, sanitizeOps: false };

/** All questions of a turn, in order. */
const questions = (turn: Turn) =>
  turn.steps.flatMap(({ calls }) => calls).flatMap(({ questions }) => questions);
const open = (turn: Turn) => questions(turn).filter(({ state }) => state === "open");

Deno.test({
  name: "a server's questions of the person wait in rows, and their answers go on with the call",
  ...options,
  async fn(t) {
    await using chat = await openChat(ASKS, { slug: "tables" });
    const { model, say, answer, bridge } = chat;
    const { db, user, agentId } = bridge;
    const calls = (...names: string[]) =>
      model.play(({ results }) =>
        results.length === 0
          ? { calls: names.map((name) => ({ name: `tables__${name}`, args: {} })) }
          : { text: results.join(" | ") }
      );

    await t.step("a form is checked against its schema, and a server may ask again", async () => {
      calls("book");
      const id = await chat.conversation();
      const turn = await say(id, "Book a table");
      assert.equal(turn.state, "waiting");
      const [question] = open(turn);
      assert.equal(question.serverName, "tables");
      assert.equal(question.params.message, "Who is the table for?");
      assert.equal(model.asked.length, 1, "the model is not asked meanwhile");
      for (
        const content of [
          undefined,
          [],
          {},
          { name: "A", seats: 2 },
          { name: "Ann" },
          {
            name: "Ann",
            seats: 2.5,
          },
          { name: "Ann", seats: 9 },
          { name: "Ann", seats: 2, email: "none" },
          {
            name: "Ann",
            seats: 2,
            place: "up",
          },
        ]
      ) {
        await assert.rejects(answer(id, question.id, { action: "accept", content }), Invalid);
      }
      const content = { name: "Ann \u0000 hü", seats: 3, place: "out" };
      const again = await answer(id, question.id, { action: "accept", content });
      assert.equal(again.state, "waiting");
      const [sure] = open(again);
      assert.equal(sure.params.message, "Shall it be booked?");
      await assert.rejects(answer(id, question.id, { action: "decline" }), Conflict, "once");
      const done = await answer(id, sure.id, { action: "accept", content: { sure: true } });
      assert.equal(done.state, "done");
      assert.deepEqual(JSON.parse(done.steps[1].text), {
        who: content,
        sure: { action: "accept", content: { sure: true } },
      });
      assert.deepEqual(questions(done).map(({ state }) => state), ["accepted", "accepted"]);
    });

    for (const action of ["decline", "cancel"] as const) {
      await t.step(`${action} reaches the server`, async () => {
        calls("book");
        const id = await chat.conversation();
        const [question] = open(await say(id, "Book a table"));
        const done = await answer(id, question.id, { action, content: { name: "kept back" } });
        assert.equal(done.steps[1].text, `not booked: ${action}`);
        assert.equal(questions(done)[0].content, null);
      });
    }

    await t.step("an address is gone to by the person, and accepted without content", async () => {
      calls("pay");
      const id = await chat.conversation();
      const [question] = open(await say(id, "Pay"));
      assert.equal(question.params.url, "https://pay.example.com/deposit?id=7");
      const done = await answer(id, question.id, { action: "accept", content: { x: 1 } });
      assert.equal(done.steps[1].text, `{"action":"accept"}`);
    });

    await t.step("two at once go on together, beside calls that ask nothing", async () => {
      calls("both", "echo");
      const id = await chat.conversation();
      const turn = await say(id, "Both");
      const [pay, who] = open(turn).toSorted((a) => a.params.mode === "url" ? -1 : 1);
      const between = await answer(id, pay.id, { action: "decline" });
      assert.equal(between.state, "waiting");
      const done = await answer(id, who.id, {
        action: "accept",
        content: { name: "Bo", seats: 1 },
      });
      assert.equal(done.state, "done");
      assert.match(done.steps[1].text, /"who":\{"action":"accept".*"pay":\{"action":"decline"\}/);
    });

    await t.step("an answer goes on at once, though another call waits for a person", async () => {
      model.play(({ results }) =>
        results.length === 0
          ? {
            calls: [{ name: "tables__pay", args: {} }, {
              name: "tables__echo",
              args: { text: "e" },
            }],
          }
          : { text: results.join(" | ") }
      );
      await setAgentOptions(db, user, agentId, { asks: "always" });
      const id = await chat.conversation();
      const turn = await say(id, "Both");
      const [pay, echo] = turn.steps[0].calls;
      await chat.decide(id, pay.id, true);
      await chat.decide(id, echo.id, false);
      const waits = await getTurn(db, user, id, turn.id);
      assert.equal(waits.state, "waiting");
      const done = await answer(id, open(waits)[0].id, { action: "accept" });
      assert.equal(done.steps[1].text, `{"action":"accept"} | The person did not allow this call`);
      await setAgentOptions(db, user, agentId, { asks: "never" });
    });

    await t.step("another replica takes the answer, with nothing but the rows", async () => {
      calls("pay");
      const id = await chat.conversation();
      const [question] = open(await say(id, "Pay"));
      const { changes } = chat.deps;
      chat.deps.changes = new Changes(db);
      chat.deps.bridge = { url: new URL(bridge.baseUrls[1]), fetch };
      const done = await answer(id, question.id, { action: "accept" });
      assert.equal(done.state, "done");
      await chat.deps.changes.close();
      chat.deps.changes = changes;
    });

    await t.step("what nobody answers in time is given up, and the model is told", async () => {
      calls("pay");
      const id = await chat.conversation();
      const turn = await say(id, "Pay");
      const [question] = open(turn);
      await bridge.owner`update public.conversation_questions set expires_at = now()
        where id = ${question.id}`;
      const late = await getTurn(db, user, id, turn.id);
      assert.equal(late.state, "unanswered");
      assert.equal(questions(late)[0].state, "expired");
      await assert.rejects(answer(id, question.id, { action: "accept" }), Conflict);
      const done = await chat.retry(id, turn.id);
      assert.equal(done.state, "done");
      assert.match(done.steps[1].text, /nobody answered in time/);
    });

    await t.step("a stop, and another message, let go of a question", async () => {
      calls("pay");
      const id = await chat.conversation();
      const turn = await say(id, "Pay");
      await stopTurn(db, user, id, turn.id);
      const stopped = await getTurn(db, user, id, turn.id);
      assert.equal(stopped.state, "stopped");
      assert.equal(questions(stopped)[0].state, "withdrawn");
      await chat.retry(id, turn.id);
      const next = await say(id, "Pay again");
      model.play(() => ({ text: "Fine" }));
      assert.equal((await say(id, "Never mind")).steps[0].text, "Fine");
      assert.equal((await getTurn(db, user, id, next.id)).state, "stopped");
    });

    await t.step("a server that asks for ever is given up", async () => {
      calls("insists");
      const id = await chat.conversation();
      let turn = await say(id, "Insist");
      for (let n = 0; n < 10; n++) {
        turn = await answer(id, open(turn)[0].id, { action: "decline" });
      }
      assert.equal(turn.state, "done");
      assert.match(turn.steps[1].text, /asked 10 times/);
    });

    await t.step("over HTTP+SSE there is nobody to ask, and the server is told so", async () => {
      await chat.useModel({ transport: "http_sse" });
      calls("book");
      const turn = await say(await chat.conversation(), "Book");
      assert.equal(turn.steps[1].text, "nobody to ask");
      await chat.useModel();
    });
  },
});

Deno.test({
  name: "a server of an older revision asks in the chat, by name or through tool search",
  ...options,
  async fn(t) {
    await using chat = await openChat(await serverEverything(), { slug: "everything" });
    const { db, user, agentId } = chat.bridge;
    const name = "everything__trigger-elicitation-request";
    for (const presents of ["tools", "search"] as const) {
      await t.step(presents, async () => {
        await setAgentOptions(db, user, agentId, { presents });
        chat.model.play(({ results }) =>
          results.length > 0 ? { text: results[0] } : {
            calls: [
              presents === "tools"
                ? { name, args: {} }
                : { name: "call_tool", args: { name, arguments: {} } },
            ],
          }
        );
        const id = await chat.conversation();
        const [question] = open(await chat.say(id, "Ask me"));
        assert.equal(question.serverName, "everything");
        const content = { name: "Ann", check: true };
        const done = await chat.answer(id, question.id, { action: "accept", content });
        assert.equal(done.state, "done");
        assert.match(done.steps[1].text, /Ann/);
      });
    }
  },
});
