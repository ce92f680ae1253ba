import assert from "node:assert/strict";
import { serverEverything } from "../dtma/stdio_server.ts";
import { openChat } from "./world.ts";

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
