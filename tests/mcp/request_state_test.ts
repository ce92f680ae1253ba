import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { generateSigningKey } from "../../dtma/protocol.ts";
import { requestStates } from "../../mcp/request_state.ts";
import { RpcError } from "../../mcp/revisions.ts";

const key = await generateSigningKey();
const OF = { agentId: "a", serverId: "s", method: "tools/call", name: "echo" };

Deno.test("requestStates opens what any replica sealed, for the same request alone", async () => {
  const here = requestStates(key), there = requestStates(key);
  for (const state of [null, "", "the server's own", "ü\u0000\ud83d\ude00"]) {
    const sealed = await here.seal(OF, state);
    assert.equal(await there.open(OF, sealed), state);
    assert.equal(sealed.includes("server"), false, "it is not to be read");
    for (
      const other of [
        { ...OF, agentId: "b" },
        { ...OF, serverId: "t" },
        { ...OF, method: "prompts/get" },
        { ...OF, name: "other" },
        // What would be the same if the parts stood side by side.
        { ...OF, agentId: `a","s`, serverId: "" },
      ]
    ) await assert.rejects(here.open(other, sealed), RpcError);
  }
  const foreign = requestStates(await generateSigningKey());
  await assert.rejects(foreign.open(OF, await here.seal(OF, "x")), RpcError);
});

Deno.test("requestStates refuses what was altered, made up or is too old", async () => {
  const states = requestStates(key);
  const sealed = await states.seal(OF, "x".repeat(100));
  await fc.assert(
    fc.asyncProperty(
      fc.nat({ max: sealed.length - 1 }),
      fc.constantFrom("A", "b", "_", "."),
      async (at, char) => {
        fc.pre(sealed[at] !== char);
        const altered = sealed.slice(0, at) + char + sealed.slice(at + 1);
        // The last character of base64url may stand for bits that are not there.
        if (at === sealed.length - 1) return;
        await assert.rejects(states.open(OF, altered), RpcError);
      },
    ),
  );
  for (const made of ["", "v1..", "v1.AAAAAAAAAAAAAAAA.", "dtma-held:x", "v2.A.A"]) {
    await assert.rejects(states.open(OF, made), RpcError);
  }
  const old = requestStates(key, -1);
  await assert.rejects(states.open(OF, await old.seal(OF, "x")), RpcError);
});
