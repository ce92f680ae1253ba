/** What a model is given: a summary of what is too long, and files where it takes them. */
import assert from "node:assert/strict";
import { getTurn, type Turn } from "../../models/conversations.ts";
import { serverEverything } from "../dtma/stdio_server.ts";
import type { Asked } from "./model_server.ts";
import { openChat } from "./world.ts";

const options = { sanitizeResources: false, sanitizeOps: false };

const PIXEL =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

const isSummary = ({ system }: Asked) => system.includes("what an assistant has to remember");

/** Every tool call that was given has its answer behind it, and every answer its call before it. */
function assertPaired({ body }: Asked) {
  // deno-lint-ignore no-explicit-any -- requests as they come
  const messages = body.messages as any[];
  const called = messages.flatMap(({ tool_calls }) => tool_calls ?? []).map(({ id }) => id);
  const answered = messages.filter(({ role }) => role === "tool").map((each) => each.tool_call_id);
  assert.deepEqual(called, answered);
}

Deno.test({
  name: "what is too long for its model is summarised by it, in a row, and goes on from there",
  ...options,
  async fn(t) {
    await using chat = await openChat("echo");
    const { model, say, bridge: { db, user } } = chat;
    await chat.useModel({ contextTokens: "4000" });
    const text = "x".repeat(7000);

    await t.step("earlier turns", async () => {
      const id = await chat.conversation();
      model.play((asked) =>
        isSummary(asked)
          ? { text: "The **word** is ahoy." }
          : asked.results.length === 0
          ? { calls: [{ name: "demo__echo", args: { text: "ahoy" } }] }
          : { text: "Noted" }
      );
      await say(id, `First ${text}`);
      await say(id, `Second ${text}`);
      assert.ok(!model.asked.some(isSummary), "as long as it fits");
      const turn = await say(id, `Third ${text}`);
      assert.equal(turn.state, "done");
      assert.equal(model.asked.filter(isSummary).length, 1);
      const [summary] = turn.summaries;
      assert.deepEqual([summary.at.step, summary.text], [0, "The **word** is ahoy."]);
      const asked = model.asked.at(-1)!;
      const given = JSON.stringify(asked.body.messages);
      assert.match(given, /<earlier summarised>\\nThe \*\*word\*\* is ahoy\.\\n<\/earlier>/);
      assert.ok(!given.includes("First") && given.includes("Third"));
      assertPaired(asked);
      model.play((asked) => isSummary(asked) ? { text: "S2" } : { text: "Yes" });
      assert.equal((await say(id, "Do you remember?")).state, "done");
      assert.ok(!model.asked.some(isSummary), "it is kept");
      assert.match(JSON.stringify(model.asked[0].body.messages), /The \*\*word\*\* is ahoy/);
    });

    await t.step("steps of one turn, and no call is made again", async () => {
      const id = await chat.conversation();
      let steps = 0;
      model.play((asked) => {
        if (isSummary(asked)) return { text: `So far ${steps} steps` };
        assertPaired(asked);
        return steps++ < 12
          ? { calls: [{ name: "demo__echo", args: { text: `${steps} ${"y".repeat(1500)}` } }] }
          : { text: "Done" };
      });
      const turn = await say(id, "Echo twelve times");
      assert.equal(turn.state, "done", turn.trouble ?? "");
      assert.equal(turn.steps.length, 13);
      assert.ok(turn.summaries.length > 1);
      assert.match(model.asked.at(-1)!.said, /So far \d+ steps[\s\S]*Echo twelve times$/);
    });

    await t.step("a model that does not is a trouble that can be tried again", async () => {
      const id = await chat.conversation();
      model.play(() => ({ text: "Noted" }));
      await say(id, `First ${text}`);
      await say(id, `Second ${text}`);
      model.play((asked) => isSummary(asked) ? { status: 400, text: "no" } : { text: "never" });
      const turn = await say(id, `Third ${text}`);
      assert.equal(turn.state, "failed");
      assert.match(turn.trouble!, /too long for the model, and it did not summarise/);
      model.play((asked) => ({ text: isSummary(asked) ? "All of it" : "Here" }));
      const again = await chat.retry(id, turn.id);
      assert.equal(again.steps[0].text, "Here");
      assert.equal(again.summaries.length, 1, "the one that broke off is gone");
      assert.deepEqual((await getTurn(db, user, id, turn.id)).summaries, again.summaries);
    });
    await chat.useModel();
  },
});

Deno.test({
  name: "pictures of tools' answers and attachments are given to models that take them",
  ...options,
  async fn(t) {
    await using chat = await openChat(await serverEverything(), { slug: "everything" });
    const { model, say } = chat;
    const attached = {
      kind: "resource" as const,
      name: "demo://dot.png",
      text: "[image/png: a file, not text]",
      media: [{ mediaType: "image/png", data: PIXEL }],
    };
    const pictures = ({ body }: Asked) =>
      JSON.stringify(body.messages).match(/data:image\/png;base64,|"media_type":"image\/png"/g)
        ?.length ?? 0;
    const look = async (): Promise<Turn> => {
      model.play(({ results }) =>
        results.length === 0
          ? { calls: [{ name: "everything__get-tiny-image", args: {} }] }
          : { text: `Seen: ${results[0]}` }
      );
      const turn = await say(await chat.conversation(), "What is it?", [attached]);
      assert.equal(turn.state, "done", turn.trouble ?? "");
      return turn;
    };

    for (const provider of ["openai-compatible", "anthropic"]) {
      await t.step(`${provider}, which takes them`, async () => {
        await chat.useModel({ provider, sees: "images" });
        const turn = await look();
        assert.deepEqual(model.asked.map(pictures), [1, 2]);
        assert.deepEqual(turn.steps[0].calls[0].mediaTypes, ["image/png"]);
        assert.deepEqual(turn.attachments[0].media, [{ mediaType: "image/png", bytes: 70 }]);
        assert.match(turn.steps[1].text, /\[image, image\/png: the person sees it/);
      });

      await t.step(`${provider}, told that it takes none`, async () => {
        await chat.useModel({ provider, sees: "text" });
        await look();
        assert.deepEqual(model.asked.map(pictures), [0, 0]);
      });
    }

    await t.step("PDFs and sounds too, where that is said and its API has them", async () => {
      const files = ["application/pdf", "audio/wav", "text/x-odd"].map((mediaType) => ({
        mediaType,
        data: btoa("RIFF of nothing in particular"),
      }));
      for (
        const [provider, has] of [
          ["openai-compatible", /"type":"file"[\s\S]*"type":"input_audio"/],
          ["anthropic", /"type":"document"/],
        ] as const
      ) {
        await chat.useModel({ provider, sees: "files" });
        model.play(() => ({ text: "Read" }));
        const given = [{ ...attached, media: files }];
        const turn = await say(await chat.conversation(), "What is it?", given);
        assert.equal(turn.trouble, null);
        assert.match(JSON.stringify(model.asked[0].body.messages), has);
        assert.equal(model.asked.length, 1);
      }
    });

    await t.step("as far as its name tells, where nothing is said", async () => {
      for (
        const [name, count] of [["llama-3.1-8b", 0], ["qwen2.5-vl:7b", 1], ["gpt-4o-mini", 1]]
      ) {
        await chat.useModel({ model: String(name) });
        await look();
        assert.equal(pictures(model.asked[0]), count, String(name));
      }
    });

    await t.step("one that is refused is left out, and the turn goes on", async () => {
      await chat.useModel({ sees: "images" });
      model.play((asked) =>
        pictures(asked) > 0 ? { status: 400, text: "cannot process the image" } : { text: "Words" }
      );
      const turn = await say(await chat.conversation(), "What is it?", [attached]);
      assert.equal(turn.steps[0].text, "Words");
      assert.equal(model.asked.length, 2);
    });
    await chat.useModel();
  },
});
