/**
 * The chat's function as a process of its own, with a Postgres server and the app's address alone, and the rights
 * of an edge isolate: no files, no processes.
 */
import assert from "node:assert/strict";
import { setAgentOptions } from "../../models/agents.ts";
import { listConversations } from "../../models/conversations.ts";
import { createPersonalToken } from "../../models/personal_tokens.ts";
import type { TurnEvent } from "../../chat/turn_events.ts";
import { freePort } from "../free_port.ts";
import { openOn } from "../mcp/world.ts";
import { KINDS } from "../models/databases.ts";
import { openChat } from "./world.ts";

const server = KINDS[1];
const ROOT = new URL("../../", import.meta.url).pathname;
const ASKS = new URL("servers/asks.mjs", import.meta.url).pathname;
const STEPS = new URL("../mcp/servers/steps.mjs", import.meta.url).pathname;

type Told = TurnEvent | { type: "turn"; conversation: string; turn: string } | { type: "gone" };

Deno.test({
  name: "the chat's function streams answers, in a process that has the rights of an edge isolate",
  ignore: server.ignore,
  sanitizeResources: false,
  sanitizeOps: false,
  async fn(t) {
    openOn(server);
    await using chat = await openChat(STEPS, { slug: "steps" });
    const { bridge, model } = chat;
    const { db, user, workspaceId, agentId } = bridge;
    const listens = freePort();
    const start = () =>
      new Deno.Command(Deno.execPath(), {
        args: [
          ...["run", "--quiet", "--no-check", "--no-prompt", "--lock=tests/deno.lock"],
          ...[
            "--allow-net",
            "--allow-env",
            "--allow-sys=hostname",
            "supabase/functions/chat/index.ts",
          ],
        ],
        cwd: ROOT,
        env: {
          PORT: String(listens),
          DATABASE_URL: bridge.databaseUrl!,
          DATABASE_POOLED: "off",
          SECRETS_KEY: `test:${btoa("0123456789abcdef0123456789abcdef")}`,
          BASE_URL: bridge.baseUrls[0].href,
          MODEL_PRIVATE_HOSTS: `Other.lan, ${model.host} `,
        },
        stdin: "null",
        stdout: "null",
        stderr: "inherit",
      }).spawn();
    let isolate = start();
    const url = `http://127.0.0.1:${listens}/chat`;
    const { token } = await createPersonalToken(db, user, workspaceId, {
      name: "t",
      scopes: ["tools:call"],
      expiresInDays: 1,
    });
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
    const up = async () => {
      while (
        !await fetch(url).then((answer) => answer.body?.cancel().then(() => true), () => false)
      ) {
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    };
    const ask = (body: unknown) =>
      fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
    async function* eventsOf(response: Response): AsyncGenerator<Told> {
      assert.equal(response.status, 200);
      let rest = "";
      for await (const piece of response.body!.pipeThrough(new TextDecoderStream())) {
        const events = (rest + piece).split("\n\n");
        rest = events.pop()!;
        for (const event of events) {
          if (event.startsWith("data: ")) yield JSON.parse(event.slice(6));
        }
      }
    }
    const all = async (response: Response) => await Array.fromAsync(eventsOf(response));
    const textOf = (events: Told[]) =>
      events.flatMap((each) => each.type === "text" ? [each.text] : []).join("");

    try {
      await up();
      await t.step("who has no token is refused", async () => {
        const refused = await fetch(url, { method: "POST", body: "{}" });
        assert.equal(refused.status, 401);
        assert.equal((await ask({ text: "x" })).status, 422);
        assert.equal((await ask({ agent: agentId, text: " " })).status, 422);
        assert.deepEqual(await listConversations(db, user, workspaceId), []);
      });

      let conversation = "", turn = "";
      await t.step("an answer is streamed, with its tools", async () => {
        model.play(({ results }) =>
          results.length === 0
            ? {
              reasoning: "Hm",
              calls: [{ name: "steps__echo", args: { text: "ahoy" } }],
            }
            : { text: `It said ${results[0]}. ${"more ".repeat(300)}`, pauseMs: 30 }
        );
        const events = await all(await ask({ agent: agentId, text: "Echo" }));
        const [first] = events;
        assert.equal(first.type, "turn");
        if (first.type === "turn") ({ conversation, turn } = first);
        assert.match(textOf(events), /^It said ahoy\. (more )+$/);
        assert.ok(events.filter(({ type }) => type === "text").length >= 2, "it came in pieces");
        assert.ok(events.some((each) => each.type === "call" && each.state === "done"));
        assert.deepEqual(events.at(-1), { type: "state", state: "done", trouble: null });
      });

      await t.step("who was cut off is told all of it again", async () => {
        const query = new URLSearchParams({ conversation, turn });
        const events = await all(await fetch(`${url}?${query}`, { headers }));
        assert.match(textOf(events), /^It said ahoy/);
        const strange = new URLSearchParams({ conversation, turn: crypto.randomUUID() });
        const gone = await all(await fetch(`${url}?${strange}`, { headers }));
        assert.equal(gone.at(-1)!.type, "gone");
      });

      await t.step("a call waits for a word, which is given by another request", async () => {
        await setAgentOptions(db, user, agentId, { asks: "always" });
        model.play(({ results }) =>
          results.length === 0
            ? { calls: [{ name: "steps__echo", args: { text: "yes" } }] }
            : { text: results[0] }
        );
        const events = await all(await ask({ conversation, text: "Again" }));
        const asked = events.find((each) => each.type === "call" && each.state === "asked");
        assert.ok(asked?.type === "call");
        const rest = await all(await ask({ conversation, call: asked.id, allow: true }));
        assert.equal(textOf(rest), "yes");
        await setAgentOptions(db, user, agentId, { asks: "never" });
      });

      await t.step(
        "what a server asks is answered at another isolate than it was put by",
        async () => {
          await using _ = await bridge.another(ASKS, "tables");
          model.play(({ results }) =>
            results.length === 0
              ? { calls: [{ name: "tables__pay", args: {} }] }
              : { text: results[0] }
          );
          const events = await all(await ask({ conversation, text: "Pay" }));
          const waits = events.findLast((each) => each.type === "call");
          assert.ok(waits?.type === "call");
          assert.equal(waits.state, "waiting");
          const [{ id: question, params, serverName }] = waits.questions;
          assert.deepEqual([serverName, params.mode], ["tables", "url"]);
          isolate.kill("SIGKILL");
          await isolate.status;
          isolate = start();
          await up();
          const wrong = await ask({ conversation, question, action: "agree" });
          assert.equal(wrong.status, 422);
          const rest = await all(await ask({ conversation, question, action: "accept" }));
          assert.equal(textOf(rest), `{"action":"accept"}`);
          assert.equal((await ask({ conversation, question, action: "accept" })).status, 409);
        },
      );

      await t.step(
        "an isolate that is killed in an answer loses nothing that was done",
        async () => {
          model.play(({ results }) =>
            results.length === 0
              ? { calls: [{ name: "steps__echo", args: { text: "kept" } }] }
              : { text: "slow ".repeat(1000), pauseMs: 50 }
          );
          let lost = "";
          const events = eventsOf(await ask({ conversation, text: "Slowly" }));
          try {
            for await (const each of events) {
              if (each.type === "turn") lost = each.turn;
              if (each.type === "text") isolate.kill("SIGKILL");
            }
          } catch {
            // Its stream broke with it.
          }
          await isolate.status;
          isolate = start();
          await up();
          // Its lease has to end first: nobody else can know that it is gone.
          await bridge
            .owner`update public.conversation_turns set seen_at = now() - interval '1 minute'
          where id = ${lost}`;
          model.play(({ results }) => ({ text: `Here is ${results[0]}` }));
          const rest = await all(await ask({ conversation, retry: lost }));
          assert.match(textOf(rest), /Here is kept$/);
          assert.equal(model.asked.length, 1, "the call was not made again");
        },
      );
    } finally {
      isolate.kill("SIGKILL");
      await isolate.status;
    }
  },
});
