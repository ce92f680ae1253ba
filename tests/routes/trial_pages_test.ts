import assert from "node:assert/strict";
import { serverEverything } from "../dtma/stdio_server.ts";
import { createPersonalToken } from "../../models/personal_tokens.ts";
import { openTrials } from "./trial_world.ts";

const options = { sanitizeResources: false, sanitizeOps: false };

async function until<T>(what: string, look: () => Promise<T | false | null>): Promise<T> {
  for (let tries = 0; tries < 3000; tries++) {
    const found = await look();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.fail(`It never came about: ${what}`);
}

Deno.test({
  name: "a tool is tried by a form without script, and its answer is shown safely",
  ...options,
  async fn(t) {
    await using trials = await openTrials("shows");
    const { serverId, ask, person, db } = trials;
    const bea = await person("bea@example.com"), eve = await person("eve@example.com");
    const tool = (name: string) => `/servers/${serverId}/tools/${name}`;
    /** Sends a form and follows where it leads. */
    const call = async (name: string, form: Record<string, string> | FormData) => {
      const response = await ask(bea.cookie, tool(name), form);
      assert.equal(response.status, 303, await response.clone().text());
      const path = response.headers.get("location")!;
      return { path, html: await (await ask(bea.cookie, path)).text() };
    };

    await t.step("every type of content, and nothing of it runs", async () => {
      const { html } = await call("shows", {});
      assert.match(html, /✓ The tool answered/);
      assert.match(html, /Plain\[U\+202E\] &lt;script&gt;/);
      assert.doesNotMatch(html, /<script>alert|<img src=x|onerror="|<svg xmlns|href="javascript:/);
      assert.match(html, /<img class="answer"[^>]*src="data:image\/png;base64,iVBOR/);
      assert.doesNotMatch(html, /src="data:image\/svg/);
      assert.match(html, /<audio controls[^>]*src="data:audio\/wav;base64,/);
      assert.match(
        html,
        /<a href="https:\/\/example.com\/a"[^>]*noopener[^>]*>Open at example.com/,
      );
      assert.match(html, /download="notes.txt"/);
      assert.match(html, /octet-stream;base64,AAEC" download="x.bin"/);
      assert.match(html, /hologram/);
      assert.match(html, /class="tree"/);
      const policy = (await ask(bea.cookie, tool("shows"))).headers.get("content-security-policy")!;
      assert.match(policy, /media-src data:/);
      assert.match(policy, /script-src 'self';/);
    });

    await t.step("a tool's own error is told from an answer", async () => {
      assert.match((await call("fails", {})).html, /outcome bad[^]*▲ The tool failed[^]*No luck/);
    });

    await t.step(
      "rows are added and an alternative is chosen, and what was typed stays",
      async () => {
        const typed = {
          "arg.name": "Ann",
          "arg.many": "4",
          "arg.tags#rows": "0",
          "arg.tags.0": "red",
        };
        const added = await ask(bea.cookie, tool("mirror"), { ...typed, act: "add arg.tags" });
        assert.equal(added.status, 200);
        const html = await added.text();
        assert.match(html, /name="arg.tags#rows" value="0,1"/);
        assert.match(html, /name="arg.tags.0"[^>]*value="red"/);
        assert.match(html, /name="arg.name"[^>]*value="Ann"/);
        assert.match(html, /name="arg.many"[^>]*value="4"/);
        const chosen = await ask(bea.cookie, tool("mirror"), {
          ...typed,
          "arg.where#choice": "1",
          act: "show",
        });
        assert.match(await chosen.text(), /name="arg.where.x"/);
        const wrong = await ask(bea.cookie, tool("mirror"), { ...typed, "arg.many": "99" });
        assert.equal(wrong.status, 422);
        assert.match(await wrong.text(), /value="99"[^]*many must be at most 9/);
      },
    );

    await t.step("the tool gets what the form holds, a file among it", async () => {
      const form = new FormData();
      const fields = {
        "arg.name": "Ann",
        "arg.many": "",
        "arg.tags#rows": "0,3",
        "arg.tags.0": "red",
        "arg.tags.3": "blue",
        "arg.where#choice": "1",
        "arg.where.x": "1.5",
        "arg.env#rows": "0",
        "arg.env#key.0": "HOME",
        "arg.env#value.0": "/",
        "arg.file": "",
      };
      for (const [name, value] of Object.entries(fields)) form.set(name, value);
      form.set("arg.file#file", new File([new Uint8Array([0, 1, 2])], "x.bin"));
      const { html } = await call("mirror", form);
      const [, got] = /<pre tabindex="0">(\{&quot;name[^<]*)<\/pre>/.exec(html)!;
      assert.deepEqual(JSON.parse(got.replaceAll("&quot;", '"')), {
        name: "Ann",
        tags: ["red", "blue"],
        where: { x: 1.5 },
        env: { HOME: "/" },
        file: "AAEC",
      });
      // Its page has the form filled with what was sent.
      assert.match(html, /name="arg.tags.1"[^>]*value="blue"/);
    });

    await t.step("JSON is told where it is wrong, kept, and goes to and fro", async () => {
      const wrong = await ask(bea.cookie, tool("mirror"), { raw: '{\n  "name": }' });
      assert.equal(wrong.status, 422);
      assert.match(await wrong.text(), /Line 2, column 11: a value is expected/);
      const filled = await ask(bea.cookie, tool("mirror"), {
        raw: '{"name": "Bo", "tags": ["x"]}',
        act: "fill",
      });
      assert.match(await filled.text(), /name="arg.name"[^>]*value="Bo"/);
      const written = await ask(bea.cookie, tool("mirror"), { "arg.name": "Cy", act: "write" });
      assert.match(await written.text(), /<textarea[^>]*name="raw"[^]*?&quot;Cy&quot;/);
      const { html } = await call("mirror", { raw: '{"unknown": 1}' });
      assert.match(html, /\{&quot;unknown&quot;:1\}/);
    });

    await t.step("a long number is sent, kept and sent again as it is written", async () => {
      const { path } = await call("mirror", { raw: '{"id": 12345678901234567890}' });
      const [{ sent }] = await trials.owner`
        select arguments as sent from public.trial_runs where id = ${path.split("/").at(-1)!}`;
      assert.equal(sent, '{"id":12345678901234567890}');
      const again = await ask(bea.cookie, `${tool("mirror")}?again=${path.split("/").at(-1)}`);
      assert.match(await again.text(), /&quot;id&quot;: 12345678901234567890/);
    });

    await t.step(
      "a run shows its progress, is cancelled from another replica, and says so",
      async () => {
        const { path, html } = await call("waits", {});
        assert.match(html, /The tool is at work/);
        assert.match(html, /hx-sse:connect/);
        await until(
          "progress",
          async () =>
            (await (await ask(bea.cookie, path, undefined, 2)).text()).includes("Two of eight"),
        );
        const answer = await ask(bea.cookie, `${path}/cancel`, {}, 2);
        assert.equal(answer.headers.get("location"), path);
        await until(
          "cancelled",
          async () => (await (await ask(bea.cookie, path)).text()).includes("■ Cancelled"),
        );
      },
    );

    await t.step("a run whose replica is gone is told to be lost", async () => {
      const { path } = await call("waits", {});
      const id = path.split("/").at(-1)!;
      // As a replica leaves it that ended in the middle.
      await trials.owner`alter table public.trial_runs disable trigger wake`;
      await trials
        .owner`update public.trial_runs set state = 'running', seen_at = now() - interval '1 minute'
        where id = ${id}`;
      assert.match(await (await ask(bea.cookie, path)).text(), /Lost: the replica[^<]*is gone/);
      await trials.owner`alter table public.trial_runs enable trigger wake`;
      await ask(bea.cookie, `${path}/cancel`, {});
    });

    await t.step("the last 20 are kept, for their person alone, and cleared", async () => {
      let last = "";
      for (let index = 0; index < 22; index++) {
        last = (await call("mirror", { raw: `{"n": ${index}}` })).path;
      }
      const html = await (await ask(bea.cookie, tool("mirror"))).text();
      assert.equal(html.match(/\?again=/g)?.length, 20);
      const [, again] = /href="([^"]*\?again=[^"]*)"/.exec(html)!;
      assert.match(await (await ask(bea.cookie, again)).text(), /&quot;n&quot;: 21/);
      assert.equal((await ask(eve.cookie, last)).status, 404);
      assert.equal((await ask(eve.cookie, `${last}/cancel`, {})).status, 404);
      assert.match(await (await ask(eve.cookie, tool("mirror"))).text(), /No run yet/);
      const cleared = await ask(bea.cookie, `${tool("mirror")}/runs/clear`, {});
      assert.equal(cleared.status, 303);
      assert.match(await (await ask(bea.cookie, tool("mirror"))).text(), /No run yet/);
      const { listTrialRuns } = await import("../../models/trial_runs.ts");
      assert.equal((await listTrialRuns(db, bea, serverId, "fails")).length, 1);
    });

    await t.step("what is large is kept for the newest run alone", async () => {
      const large = JSON.stringify({ text: "x".repeat(100_000) });
      const first = await call("mirror", { raw: large });
      assert.match(first.html, /x{1000}/);
      await call("mirror", { raw: "{}" });
      const later = await (await ask(bea.cookie, first.path)).text();
      assert.match(later, /Its answer is not kept/);
      assert.doesNotMatch(later, /x{1000}/);
    });
  },
});

Deno.test({
  name: "a server's questions are asked in the page, answered from any replica",
  ...options,
  async fn(t) {
    await using trials = await openTrials(await serverEverything());
    const { serverId, ask, person } = trials;
    const bea = await person("cleo@example.com");
    const path = `/servers/${serverId}/tools/trigger-elicitation-request`;
    const begin = async () => {
      const response = await ask(bea.cookie, path, {});
      const run = response.headers.get("location")!;
      const html = await until("the question", async () => {
        const html = await (await ask(bea.cookie, run)).text();
        return html.includes("The server asks you") && html;
      });
      const [, question] = /\/answers\/([^"]+)"/.exec(html)!;
      return { run, question, html, answers: `${run}/answers/${question}` };
    };

    await t.step("with its fields, their defaults, and what does not hold", async () => {
      const { run, question, html, answers } = await begin();
      const field = (name: string) => `answer-${question}.${name}`;
      assert.match(html, /Please provide inputs/);
      assert.ok(html.includes(`name="${field("integer")}"`));
      assert.match(html, /Superman \(hero-1\)/);
      const wrong = await ask(bea.cookie, answers, {
        [field("name")]: "Cleo",
        [field("integer")]: "101",
        action: "accept",
      });
      assert.equal(wrong.status, 422);
      assert.match(await wrong.text(), /value="Cleo"[^]*must be at most 100/);
      await ask(bea.cookie, answers, {
        [field("name")]: "Cleo",
        [field("integer")]: "7",
        [field("untitledMultipleSelectEnum.1")]: "true",
        action: "accept",
      }, 2);
      const done = await until("the answer", async () => {
        const html = await (await ask(bea.cookie, run)).text();
        return html.includes("The tool answered") && html;
      });
      assert.match(done, /Name: Cleo/);
      assert.match(done, /Favorite Integer: 7/);
      assert.match(done, /Piano/);
      assert.equal((await ask(bea.cookie, answers, { action: "accept" })).status, 409);
    });

    await t.step("an address is a link that names its host", async () => {
      const path = `/servers/${serverId}/tools/trigger-url-elicitation`;
      const begun = await ask(bea.cookie, path, { "arg.url": "https://bank.example:8443/pay?x=1" });
      const run = begun.headers.get("location")!;
      const html = await until("the question", async () => {
        const html = await (await ask(bea.cookie, run)).text();
        return html.includes("It sends you to") && html;
      });
      assert.match(html, /It sends you to <strong>bank.example:8443<\/strong>/);
      assert.match(
        html,
        /href="https:\/\/bank.example:8443\/pay\?x=1"[^>]*noopener[^>]*>Open bank.example:8443/,
      );
      const [, question] = /\/answers\/([^"]+)"/.exec(html)!;
      await ask(bea.cookie, `${run}/answers/${question}`, { action: "accept" });
      await until(
        "the answer",
        async () => /outcome good/.test(await (await ask(bea.cookie, run)).text()),
      );
    });

    await t.step("and is declined or dismissed", async () => {
      for (
        const [action, said] of [["decline", /User declined/], [
          "cancel",
          /User cancelled/,
        ]] as const
      ) {
        const { run, answers } = await begin();
        await ask(bea.cookie, answers, { action });
        await until(action, async () => said.test(await (await ask(bea.cookie, run)).text()));
      }
    });
  },
});

Deno.test({
  name: "what a page cannot give is refused, and the page says so",
  ...options,
  async fn() {
    await using trials = await openTrials("asks");
    const { serverId, ask, person } = trials;
    const bea = await person("fay@example.com");
    const begun = await ask(bea.cookie, `/servers/${serverId}/tools/asks`, {});
    const run = begun.headers.get("location")!;
    const html = await until("the question", async () => {
      const html = await (await ask(bea.cookie, run)).text();
      return /\/answers\//.test(html) && html;
    });
    const [, question] = /\/answers\/([^"]+)"/.exec(html)!;
    await ask(bea.cookie, `${run}/answers/${question}`, { action: "decline" });
    const done = await until("the end", async () => {
      const html = await (await ask(bea.cookie, run)).text();
      return html.includes('id="outcome"') && html;
    });
    // Sampling and roots, which the page does not say that it has.
    assert.equal(done.match(/<code>-32601<\/code>/g)?.length, 2);
    assert.match(done, /no answer of a model \(sampling\)/);
  },
});

Deno.test({
  name:
    "long numbers of arguments and answers keep all of their digits, on the page and in the API",
  ...options,
  async fn() {
    const fixture = new URL("../mcp/servers/scripted.mjs", import.meta.url).pathname;
    await using trials = await openTrials(fixture);
    const { serverId, workspaceId, ask, person, db, app, origin } = trials;
    const bea = await person("long@example.com");
    const args = (said: Record<string, string>) =>
      `{"big":12345678901234567890,"text":${JSON.stringify(said.text ?? "")}}`;
    const result =
      `{"content":[],"structuredContent":{"id":9007199254740993,"in":[0.10000000000000000001]}}`;

    const form = { raw: args({ text: result }) };
    const called = await ask(bea.cookie, `/servers/${serverId}/tools/says`, form);
    assert.equal(called.status, 303, await called.clone().text());
    const html = await until("the answer", async () => {
      const html = await (await ask(bea.cookie, called.headers.get("location")!)).text();
      return html.includes("The tool answered") && html;
    });
    assert.match(html, /id<\/span>: <code>9007199254740993<\/code>/, "in the tree");
    assert.match(html, /0<\/span>: <code>0\.10000000000000000001<\/code>/);
    assert.match(html, /&quot;id&quot;: 9007199254740993,/, "in all of the result");

    const { token } = await createPersonalToken(db, bea, workspaceId, {
      name: "t",
      scopes: ["tools:call"],
      expiresInDays: 1,
    });
    const post = async (tool: string, text: string) => {
      const response = await app.request(
        `${origin}/api/v1/servers/${serverId}/tools/${tool}/call`,
        {
          method: "POST",
          headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
          body: `{"arguments":${text}}`,
        },
      );
      const answer = await response.text();
      assert.equal(response.status, 200, answer);
      return answer;
    };
    assert.ok((await post("says", args({ text: result }))).includes(result.slice(1, -1)));
    const error = `{"code":-32099,"message":"No","data":{"n":9007199254740993}}`;
    assert.ok(
      (await post("says", `{"as":"error","text":${JSON.stringify(error)}}`)).includes(error),
    );
    const partial = `{"resultType":"x/y","content":[]}`;
    assert.ok(
      (await post("says", args({ text: partial }))).includes(`{"dev.mooring/result":${partial}}`),
      "what is no result of a known type",
    );
    // A code is no object, however long it is.
    const odd = `{"code":12345678901234567890,"message":"Odd"}`;
    const shown = await ask(bea.cookie, `/servers/${serverId}/tools/says`, {
      raw: `{"as":"error","text":${JSON.stringify(odd)}}`,
    });
    await until(
      "the error",
      async () =>
        /The call failed[^]*Odd <small>\(code 12345678901234567000\)/.test(
          await (await ask(bea.cookie, shown.headers.get("location")!)).text(),
        ),
    );
    const heard = JSON.parse(await post("heard", args({}))).result.content[0].text;
    assert.ok(heard.includes(`"arguments":${args({})}`), heard);
  },
});
