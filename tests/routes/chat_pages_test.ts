/** The chat's pages without script, over a real MCP server and the scripted model. */
import assert from "node:assert/strict";
import { setAgentOptions } from "../../models/agents.ts";
import { setChatModel } from "../../models/chat_models.ts";
import { getConversation } from "../../models/conversations.ts";
import { openModelReach } from "../../models/model_reach.ts";
import { openModelServer } from "../chat/model_server.ts";
import { serverEverything } from "../dtma/stdio_server.ts";
import { testKey } from "../models/databases.ts";
import { openTrials } from "./trial_world.ts";

const options = { sanitizeResources: false, sanitizeOps: false };

Deno.test({
  name:
    "a conversation on its pages: a model is named, calls are asked for, it goes on after a reload",
  ...options,
  async fn(t) {
    const padding = (said: string) => said === "another sum" ? { note: "x".repeat(30_000) } : {};
    await using model = openModelServer(({ results, said }) =>
      /sum please|another sum/.test(said) && results.length === 0
        ? { calls: [{ name: "everything__get-sum", args: { ...padding(said), a: 2, b: 40 } }] }
        : { text: `**Done:** <b>${results.at(-1) ?? "nothing"}</b> \`code\`` }
    );
    const models = openModelReach({ privateHosts: [model.host] });
    await using world = await openTrials(await serverEverything(), null, {
      models,
      slug: "everything",
    });
    const { cookie, userId } = await world.person("bea@example.com", "admin");
    const { agentId, db, owner } = world;
    const bea = { userId };
    const ask = (path: string, form?: Record<string, string>, at: 1 | 2 = 1) =>
      world.ask(cookie, path, form, at);
    const html = async (path: string, at: 1 | 2 = 1) => {
      const response = await ask(path, undefined, at);
      assert.equal(response.status, 200, path);
      return await response.text();
    };
    /** Looks until a page says it, as a person without script would. */
    const until = async (path: string, says: RegExp, at: 1 | 2 = 1) => {
      for (;;) {
        const text = await html(path, at);
        if (says.test(text)) return text;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    };

    await t.step("without a model it says where one is named", async () => {
      assert.match(await html("/chat"), /No model yet[\s\S]*href="\/workspace#chat-model"/);
    });

    await t.step("a model that is not on the internet is refused, unless it is named", async () => {
      const form = { provider: "openai-compatible", model: "scripted", key: "sk-secret-of-bea" };
      const refused = await ask("/workspace/model", { ...form, baseUrl: "http://127.0.0.1:1/v1" });
      assert.equal(refused.status, 422);
      const text = await refused.text();
      assert.match(text, /is not asked without https/);
      assert.ok(!text.includes("sk-secret-of-bea"), "a key is never sent back");
      const saved = await ask("/workspace/model", { ...form, baseUrl: model.base });
      assert.equal(saved.status, 303);
      const page = await html("/workspace");
      assert.match(page, /A key is kept, sealed/);
      assert.match(page, /Named scripted at 127\.0\.0\.1/, "it stands among the events");
      assert.ok(!page.includes("sk-secret-of-bea"));
    });

    await t.step("the key goes to no other host than it was given for", async () => {
      const elsewhere = {
        provider: "openai-compatible",
        model: "x",
        baseUrl: "https://example.com",
      };
      const refused = await ask("/workspace/model", elsewhere);
      assert.equal(refused.status, 422);
    });

    let path = "";
    await t.step("an agent has instructions, and asks for calls as its page says", async () => {
      const form = { instructions: "Speak like a sailor", asks: "always" };
      assert.equal((await ask(`/agents/${agentId}/conversing`, form)).status, 303);
      assert.match(await html(`/agents/${agentId}`), /Speak like a sailor/);
    });

    await t.step("what is said is answered, and the agent asks before it calls", async () => {
      const sent = await ask("/chat", { agentId, text: "the sum please <script>" });
      assert.equal(sent.status, 303);
      path = sent.headers.get("location")!.split("#")[0];
      // At the other replica: nothing of it is in the first one's memory.
      const page = await until(path, /waits for your word/, 2);
      assert.match(page, /May the agent call this\?/);
      assert.ok(!page.includes("<script>please"), "text is text");
      assert.match(page, /&lt;script&gt;/);
      const call = /\/calls\/([0-9a-f-]{36})"/.exec(page)![1];
      const allowed = await ask(`${path}/calls/${call}`, { decision: "allow" }, 2);
      assert.equal(allowed.status, 303);
      const answered = await until(path, /<strong>Done:<\/strong>/);
      assert.match(answered, /&lt;b&gt;The sum of 2 and 40 is 42/, "HTML of a model is text");
      assert.equal(model.asked[0].system, "Speak like a sailor");
      assert.match(answered, /✓<\/span> <code>everything__get-sum<\/code>/);
      assert.equal((await ask(`${path}/calls/${call}`, { decision: "deny" })).status, 409);
      const result = await ask(`${path}/calls/${call}/result`);
      assert.match(await result.text(), /42/);
    });

    await t.step("a call that is denied is told to the model", async () => {
      await ask(`${path}/messages`, { text: "another sum" });
      const page = await until(path, /waits for your word/);
      assert.match(page, /x{30000}[^<]*&quot;b&quot;: 40/, "all that is asked for is seen");
      const call = /\/calls\/([0-9a-f-]{36})"/.exec(page)![1];
      await ask(`${path}/calls/${call}`, { decision: "deny" });
      await until(path, /&lt;b&gt;The person did not allow this call&lt;/);
    });

    await t.step("resources and prompts are attached", async () => {
      const form = { text: "kept text", act: "attach" };
      const offered = await (await ask(`${path}/messages`, form)).text();
      assert.match(offered, /kept text/);
      const resource = /name="(resource\.[^"]+)"/.exec(offered)![1];
      const prompt = /name="(prompt\.[^"]*simple[^"]*)"/.exec(offered)![1];
      const sent = await ask(`${path}/messages`, {
        text: "look at this",
        attaching: "true",
        [resource]: "true",
        [prompt]: "true",
      });
      assert.equal(sent.status, 303);
      const page = await until(path, /Attached resource[\s\S]*nothing/);
      assert.match(page, /Attached prompt/);
      assert.match(model.asked.at(-1)!.said, /<attached resource=[\s\S]*look at this/);
    });

    await t.step("pictures are served as what they are, and other files as bytes", async () => {
      const { turns: [turn] } = await getConversation(db, bea, path.split("/").at(-1)!);
      await owner`update public.conversation_turns set media = ${
        JSON.stringify([
          { mediaType: "image/png", data: "iVBORw==" },
          { mediaType: "image/svg+xml", data: "PHN2Zz4=" },
        ])
      }::text::json where id = ${turn.id}`;
      await owner`update public.conversation_calls set media_types = '{"image/png"}', result = ${
        JSON.stringify({ content: [{ type: "image", mimeType: "image/png", data: "iVBORw==" }] })
      } where turn_id = ${turn.id}`;
      const [call] = turn.steps[0].calls;
      const eve = await world.person("eve@example.com");
      for (
        const [file, type] of [
          [`turns/${turn.id}/attached/0`, "image/png"],
          [`turns/${turn.id}/attached/1`, "application/octet-stream"],
          [`calls/${call.id}/media/0`, "image/png"],
        ]
      ) {
        const answer = await ask(`${path}/${file}`);
        assert.equal(answer.headers.get("content-type"), type);
        assert.equal(answer.headers.get("x-content-type-options"), "nosniff");
        assert.equal((await answer.arrayBuffer()).byteLength, type === "image/png" ? 4 : 5);
        assert.equal((await world.ask(eve.cookie, `${path}/${file}`)).status, 404);
      }
      assert.equal((await ask(`${path}/turns/${turn.id}/attached/2`)).status, 404);
    });

    await t.step("nobody else sees it, and a viewer does not talk", async () => {
      const other = await world.person("cem@example.com");
      const denied = await world.ask(other.cookie, path);
      assert.equal(denied.status, 404);
      assert.ok(!(await (await world.ask(other.cookie, "/chat")).text()).includes(path));
      const viewer = await world.person("vic@example.com", "viewer");
      assert.match(await (await world.ask(viewer.cookie, "/chat")).text(), /You are a viewer here/);
      const sent = await world.ask(viewer.cookie, "/chat", { agentId, text: "hello" });
      assert.equal(sent.status, 403);
    });

    await t.step("it is renamed and deleted", async () => {
      assert.equal((await ask(`${path}/rename`, { title: " " })).status, 422);
      await ask(`${path}/rename`, { title: "Sums" });
      assert.match(await html("/chat"), /Sums/);
      await ask(`${path}/delete`, {});
      assert.equal((await ask(path)).status, 404);
    });
  },
});

Deno.test({
  name: "what a server asks stands in the conversation, and is answered without script",
  ...options,
  async fn(t) {
    await using model = openModelServer(({ results, said }) =>
      results.length === 0
        ? { calls: [{ name: `tables__${said.split(" ")[0]}`, args: {} }] }
        : { text: `Heard: ${results.join(" | ")}` }
    );
    const models = openModelReach({ privateHosts: [model.host] });
    const asks = new URL("../chat/servers/asks.mjs", import.meta.url).pathname;
    await using world = await openTrials(asks, null, { models, slug: "tables" });
    const { agentId, db, user, workspaceId, owner } = world;
    await setChatModel({ db, secretsKey: testKey, models }, user, workspaceId, {
      provider: "openai-compatible",
      baseUrl: model.base,
      model: "scripted",
      key: "another-key",
    });
    await setAgentOptions(db, user, agentId, { asks: "never" });
    const { cookie } = await world.person("dora@example.com");
    const ask = (path: string, form?: Record<string, string>, at: 1 | 2 = 1) =>
      world.ask(cookie, path, form, at);
    const until = async (path: string, says: RegExp, at: 1 | 2 = 1) => {
      for (;;) {
        const text = await (await ask(path, undefined, at)).text();
        if (says.test(text)) return text;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    };
    const begin = async (text: string) => {
      const sent = await ask("/chat", { agentId, text });
      const path = sent.headers.get("location")!.split("#")[0];
      const page = await until(path, /asks you<\/h3>/);
      const action = /action="([^"]+\/questions\/([0-9a-f-]{36}))"/.exec(page)!;
      return { path, page, action: action[1], id: action[2] };
    };

    await t.step("a form says who asks, and keeps what was typed", async () => {
      const { path, page, action, id } = await begin("book a table");
      assert.match(
        page,
        /tables asks you[\s\S]*<code>tables__book<\/code>[\s\S]*Who is the table for/,
      );
      const typed = {
        action: "accept",
        [`answer-${id}.name`]: "A",
        [`answer-${id}.seats`]: "3",
        [`answer-${id}.email`]: "none",
      };
      const refused = await ask(action, typed, 2);
      assert.equal(refused.status, 422);
      const again = await refused.text();
      assert.match(again, /must have at least 2 characters/);
      assert.match(again, /must be an email address/);
      assert.match(again, /value="none"/);
      const answer = { ...typed, [`answer-${id}.name`]: "Ann", [`answer-${id}.email`]: "" };
      assert.equal((await ask(action, answer, 2)).status, 303);
      assert.equal((await ask(action, answer)).status, 409, "once");
      const sure = await until(path, /Shall it be booked/);
      const next = /action="([^"]+\/questions\/([0-9a-f-]{36}))"/.exec(sure)!;
      await ask(next[1], { action: "accept", [`answer-${next[2]}.sure`]: "true" });
      const done = await until(path, /Heard/);
      assert.match(done, /&quot;name&quot;:&quot;Ann&quot;/);
      assert.match(done, /asked you<\/h3>[\s\S]*You answered/);
    });

    await t.step("an address is shown with its whole host, as a link", async () => {
      const { path, page, action } = await begin("pay now");
      assert.match(page, /It sends you to <strong>pay\.example\.com<\/strong>/);
      assert.match(page, /href="https:\/\/pay\.example\.com\/deposit\?id=7" target="_blank"/);
      await ask(action, { action: "decline" });
      await until(path, /Heard: \{&quot;action&quot;:&quot;decline&quot;\}/);
    });

    await t.step("a list gets another row", async () => {
      const { path, action, id } = await begin("lists of people");
      const more = await ask(action, { act: `add answer-${id}.names` });
      assert.equal(more.status, 200);
      assert.match(await more.text(), new RegExp(`name="answer-${id}\\.names\\.0"`));
      await ask(action, {
        action: "accept",
        [`answer-${id}.names#rows`]: "0",
        [`answer-${id}.names.0`]: "Ann",
      });
      await until(path, /Heard: [^<]*\[&quot;Ann&quot;\]/);
    });

    await t.step("what nobody answered in time says so, and is gone on without", async () => {
      const { path, action, id } = await begin("pay later");
      await owner`update public.conversation_questions set expires_at = now() where id = ${id}`;
      const page = await until(path, /Nobody answered in time, so the server waits no longer/);
      assert.ok(!page.includes(action));
      const turn = /\/turns\/([0-9a-f-]{36})\/retry"/.exec(page)![1];
      await ask(`${path}/turns/${turn}/retry`, {});
      await until(path, /Heard: The server asked the person something/);
    });

    await t.step("nobody else answers", async () => {
      const { action } = await begin("pay mine");
      const other = await world.person("emil@example.com");
      assert.equal((await world.ask(other.cookie, action, { action: "accept" })).status, 404);
    });
  },
});
