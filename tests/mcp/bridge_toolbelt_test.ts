import assert from "node:assert/strict";
import { setAgentOptions } from "../../models/agents.ts";
import { changeTool, getConnection, pickTools } from "../../models/connections.ts";
import { Invalid } from "../../models/errors.ts";
import { readCallBody } from "../../models/call_bodies.ts";
import { listCalls } from "../../models/calls.ts";
import { parseExactly } from "../../models/exact_json.ts";
import { keepBodies } from "../../models/retention.ts";
import { testKey } from "../models/databases.ts";
import { modern, openBridge } from "./world.ts";

Deno.test({
  name: "a toolbelt as a person made it comes through the bridge",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn(t) {
    await using bridge = await openBridge(
      new URL("./servers/heard.mjs", import.meta.url).pathname,
    );
    const { db, user, agentId, serverId } = bridge;
    const ask = async (method: string, params: Record<string, unknown> = {}, text?: string) => {
      const { body, headers } = modern(method, params);
      const written = text === undefined
        ? body
        : JSON.stringify(body).replace(`"arguments":{}`, `"arguments":${text}`);
      return await (await bridge.post(written, headers)).json();
    };
    const names = async () =>
      (await ask("tools/list")).result.tools.map(({ name }: { name: string }) => name);
    /** Waits until every replica knows: it is told of the change, a moment later. */
    const until = async (holds: () => Promise<boolean>) => {
      while (!await holds()) await new Promise((resolve) => setTimeout(resolve, 20));
    };
    const call = async (name: string, text: string) => {
      const { result, error } = await ask("tools/call", { name, arguments: {} }, text);
      assert.equal(error, undefined, JSON.stringify(error));
      assert.notEqual(result.isError, true, JSON.stringify(result));
      return result.content[0].text as string;
    };

    await t.step(
      "a tool is renamed; fixed arguments are hidden and forced, the rest is text",
      async () => {
        await changeTool(db, user, agentId, serverId, "read_file", {
          name: "notes",
          fixed: { path: "/notes" },
          defaults: { lines: 10 },
        });
        await until(async () => (await names()).includes("demo__notes"));
        const { tools } = (await ask("tools/list")).result;
        assert.deepEqual(tools[0].inputSchema.properties, {
          lines: { type: "integer", default: 10 },
          big: { type: "integer" },
        });
        const heard = await call(
          "demo__notes",
          `{"big":9007199254740993,"p\\u0061th":"/etc"}`,
        );
        assert.match(heard, /"name":"read_file"/);
        assert.match(heard, /"arguments":\{"big":9007199254740993,"path":"\/notes","lines":10\}/);
        assert.doesNotMatch(heard, /etc|definitionHash/);
        const { error } = await ask("tools/call", { name: "demo__read_file", arguments: {} });
        assert.equal(error.code, -32602, "its own name is nobody's");
      },
    );

    await t.step(
      "fixed and default numbers of any length reach the server as they are",
      async () => {
        const long = (text: string) => parseExactly(text) as Record<string, unknown>;
        await changeTool(db, user, agentId, serverId, "send_mail", {
          fixed: long(`{"path":[9007199254740993,{"n":0.10000000000000000001}]}`),
          defaults: long(`{"lines":-12345678901234567890}`),
        });
        const { version } = await getConnection(db, user, agentId, serverId);
        const listed = async () => {
          const { body, headers } = modern("tools/list");
          return await (await bridge.post(body, headers)).text();
        };
        await until(async () => (await listed()).includes("1234567890"));
        assert.ok((await listed()).includes(`"default":-12345678901234567890}`));
        const heard = await call("demo__send_mail", `{"big":1}`);
        assert.match(
          heard,
          /"arguments":\{"big":1,"lines":-12345678901234567890,"path":\[9007199254740993,\{"n":0\.10000000000000000001\}\]\}/,
        );
        // Another change of the connection reads and writes them all.
        await changeTool(db, user, agentId, serverId, "read_file", {
          name: "notes",
          fixed: { path: "/notes" },
          defaults: { lines: 10 },
        }, version);
        const { tools } = await getConnection(db, user, agentId, serverId);
        const { change } = tools.find(({ name }) => name === "send_mail")!;
        assert.match(JSON.stringify(change), /9007199254740993,\{"n":0\.10000000000000000001\}/);
        // Which the database writes out, or refuses.
        for (const n of ["1e-9999", `0.${"0".repeat(20_000)}1`, "9".repeat(140_000)]) {
          const fixed = long(`{"n":${n}}`);
          await assert.rejects(
            changeTool(db, user, agentId, serverId, "send_mail", { fixed }),
            Invalid,
          );
        }
        await changeTool(db, user, agentId, serverId, "send_mail", {});
      },
    );

    await t.step("find_tools and call_tool stand for all others", async () => {
      await setAgentOptions(db, user, agentId, { presents: "search", deniesByDefault: false });
      await until(async () => (await names()).includes("find_tools"));
      assert.deepEqual(await names(), ["find_tools", "call_tool"]);
      const found = await ask("tools/call", {
        name: "find_tools",
        arguments: { query: "send a letter to Ann" },
      });
      assert.deepEqual(
        found.result.structuredContent.tools.map(({ name }: { name: string }) => name),
        ["demo__send_mail"],
      );
      const heard = await call(
        "call_tool",
        `{"name":"demo__notes","arguments":{"lines":1.0,"big":9007199254740993}}`,
      );
      assert.match(heard, /"arguments":\{"lines":1\.0,"big":9007199254740993,"path":"\/notes"\}/);
      for (
        const args of [
          "{}",
          `{"name":"none"}`,
          `{"name":7}`,
          `{"name":"demo__notes","arguments":[]}`,
        ]
      ) {
        const { error } = await ask("tools/call", { name: "call_tool", arguments: {} }, args);
        assert.equal(error?.code, -32602, args);
      }
    });

    await t.step("what was not picked is neither found nor called", async () => {
      await pickTools(db, user, agentId, serverId, ["read_file"]);
      const find = async () =>
        (await ask("tools/call", { name: "find_tools", arguments: { query: "letter" } })).result;
      await until(async () => (await find()).structuredContent === undefined);
      const { error } = await ask(
        "tools/call",
        { name: "call_tool", arguments: {} },
        `{"name":"demo__send_mail"}`,
      );
      assert.equal(error.code, -32602);
    });

    await t.step(
      "what is said is kept where an owner wants it, as the server heard it",
      async () => {
        const { workspaceId } = bridge;
        const newest = async () => {
          await bridge.calls.flush();
          const [made] = await listCalls(db, user, { workspaceId }, { limit: 1 });
          return await readCallBody({ db, secretsKey: testKey }, user, made.id);
        };
        await keepBodies(db, user, workspaceId, { isOn: true, days: 1 });
        const notes = (args: string) =>
          ask(
            "tools/call",
            { name: "call_tool", arguments: {} },
            `{"name":"demo__notes","arguments":${args}}`,
          );
        // Earlier calls were kept nowhere, which is believed for ten seconds.
        let body = null;
        while (!body) {
          await notes(`{"big":1,"password":"hunter2"}`);
          body = await newest();
          if (!body) await new Promise((resolve) => setTimeout(resolve, 500));
        }
        const { big, password, path } = body.arguments.value as Record<string, unknown>;
        assert.deepEqual([big, password, path], [1, "•••", "/notes"]);
        assert.equal(body.answer?.kind, "result");
        assert.doesNotMatch(JSON.stringify(body), /hunter2/);
        await keepBodies(db, user, workspaceId, { isOn: false, days: 1 });
        await ask("tools/call", { name, arguments: {} });
        assert.equal(await newest(), null);
      },
    );
  },
});
